"""The writing half of the context store: new versions, of new texts and of older versions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from baton.errors import InvalidInputError, SealedError
from baton.store.conflict_resolution import ConflictResolution
from baton.store.envelope_imports import EnvelopeImports
from baton.store.parts import parsed
from baton.store.records import Policy
from baton.store.refusals import not_found
from baton.store.version_facts import checked_metadata, checked_type
from baton.store.writing import Plan
from baton.versions import Bump, next_version, parse_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.store.heads import OpenedVersion
    from baton.store.keys import SessionKeys
    from baton.store.manifest import ContentType
    from baton.store.parts import StoreParts
    from baton.store.records import Commit
    from baton.versions import Version


class ContextWrites(EnvelopeImports, ConflictResolution):
    """What changes contexts. See `ContextStore` for what every method raises."""

    _parts: StoreParts

    def put(  # noqa: PLR0913  # all by name but two
        self,
        session_id: str,
        content: str,
        *,
        agent_id: str,
        base_version: str | None = None,
        version: str | None = None,
        bump: Bump = "patch",
        policy: Policy = "merge",
        metadata: Mapping[str, Any] | None = None,
        sealed: bool = False,
        content_type: ContentType | None = None,
        operation_id: str | None = None,
    ) -> Commit:
        """Store `content` as the session's next version.

        Args:
            session_id: a new or an existing session.
            content: text that UTF-8 can encode.
            agent_id: who writes.
            base_version: the version the writer saw. Where the head is another by now, `policy`
                decides. None replaces the head whatever it is, and is audited as blind.
            version: the new version; None: the head's next by `bump`, `1.0.0` at first. Where
                another writer came between and reached it, the next above the head.
            bump: which part of the version goes up.
            policy: what becomes of concurrent writes; see `Policy`.
            metadata: JSON of at most 64 KiB about this version; None: as the version before.
            sealed: a session that begins with it is sealed; one that is sealed stays so anyway.
            content_type: `application/json` merges as a document, and takes nothing but JSON.
                None: as the version before, `text/plain` at first.
            operation_id: a name for this write; asked again under the same name, it answers what
                it answered first, for as long as the session lives; what was `rejected` stored
                nothing, and is tried again. None: only a repeat of this very call is recognised.

        Returns:
            The outcome; see `Commit`. Content equal to the head's is `accepted` as the head,
            unless `version`, `metadata` or `content_type` ask for a new one.

        Raises:
            InvalidInputError, ContextTooLargeError: nothing was written.
            VersionNotFoundError: `base_version` is above the head, or was collected.
            ContextNotFoundError: `base_version` was given, but there is no such session.
            ContextImmutableError: the session takes no writes.
            SessionBusyError: other writers won every one of many races.
            StoreUnavailableError: Redis did not answer; the write may or may not have happened,
                and repeating it under one `operation_id` is safe.
        """
        base, explicit = _place(base_version, version, bump)
        draft = replace(
            self._parts.draft(session_id, content, agent_id, operation_id),
            base=base,
            explicit=explicit,
            bump=bump,
            policy=_checked_policy(policy),
            metadata=None if metadata is None else checked_metadata(metadata),
            content_type=checked_type(content_type),
            sealed=sealed,
        )
        return self._parts.commit(draft)

    def append(
        self,
        session_id: str,
        text: str,
        *,
        agent_id: str,
        blank_line: bool = False,
        must_exist: bool = False,
        operation_id: str | None = None,
    ) -> Commit:
        """Add `text` behind the head, whatever it is by then. Begins a session that is not there.

        With `blank_line` a blank line is put before it, unless nothing is there yet. With
        `must_exist` no session is begun. Never conflicts. Sends what is new and the head's last
        chunk; where this process wrote the head, or has it in its cache, it reads no content.

        Raises:
            InvalidInputError: the session holds a JSON document.
            ContextNotFoundError: there is no such session, and it must exist.
            what `put` raises.
        """
        draft = self._parts.draft(session_id, text, agent_id, operation_id, operation="append")
        added = draft.data

        def plan(head: OpenedVersion | None) -> Plan:
            if head is None and must_exist:
                raise not_found(session_id)
            if head is None:
                return Plan(draft, None, "accepted")
            if head.manifest.content_type != "text/plain":
                raise InvalidInputError("session_id", "a session of text", session_id)
            before = self._parts.writer.recent_content(head)
            gap = b""
            if blank_line and before:
                gap = b"\n" if before.endswith(b"\n") else b"\n\n"
            whole = replace(draft, data=self._parts.bounded(before + gap + added))
            return Plan(whole, head, "accepted")

        with self._parts.session(session_id, agent_id) as keys:
            commit, version_count = self._parts.commits.commit_planned(draft, plan)
        self._parts.collect_if_due(keys, agent_id, version_count)
        return commit

    def rollback(
        self, session_id: str, version: str, *, agent_id: str, operation_id: str | None = None
    ) -> Commit:
        """Make an old version's content the newest version. Nothing goes away; numbers go up.

        Raises:
            VersionNotFoundError: there is no such version.
            ContextNotFoundError, ContextImmutableError, SessionBusyError: as `put`.
        """
        with self._parts.session(session_id, agent_id) as keys:
            done = self._parts.find_done(keys, operation_id)
            if done is not None:
                return done
            old, content = self._parts.whole(keys, str(parse_version(version)))
            draft = self._parts.draft(
                session_id, content, agent_id, operation_id, operation="rollback"
            )
            draft = replace(
                draft,
                content_type=old.manifest.content_type,
                metadata=old.manifest.metadata,
                source=f"{session_id}@{old.manifest.version}",
            )

            def plan(head: OpenedVersion | None) -> Plan:
                if head is None:
                    raise not_found(session_id)
                # In a session that was deleted and begun anew, its chunks are others.
                like = old if self._parts.reader.is_kept(old) else None
                return Plan(replace(draft, like=like), head, "accepted", always=True)

            commit, version_count = self._parts.commits.commit_planned(draft, plan)
        self._parts.collect_if_due(keys, agent_id, version_count)
        return commit

    def fork(
        self,
        session_id: str,
        new_session_id: str,
        version: str | None = None,
        *,
        agent_id: str,
        operation_id: str | None = None,
    ) -> Commit:
        """Begin a new session with one version of this one, the head by default.

        It is sealed if this one is, under a key of its own; `merge` brings its changes back.

        Raises:
            SessionExistsError: there is a session of the new name.
            ContextNotFoundError, VersionNotFoundError: there is nothing to fork.
        """
        with self._parts.session(new_session_id, agent_id) as target:
            done = self._parts.find_done(target, operation_id)
            if done is not None:
                return done
        with self._parts.session(session_id, agent_id) as keys:
            old, content = self._parts.read_whole(keys, parsed(version), agent_id)
        draft = self._parts.draft(new_session_id, content, agent_id, operation_id, operation="fork")
        return self._parts.commit(
            replace(
                draft,
                content_type=old.manifest.content_type,
                metadata=old.manifest.metadata,
                source=f"{session_id}@{old.manifest.version}",
                sealed=old.sealer is not None,
                create=True,
            )
        )

    def merge(
        self,
        session_id: str,
        source_session_id: str,
        *,
        agent_id: str,
        source_version: str | None = None,
        base_version: str | None = None,
        policy: Policy = "merge",
        operation_id: str | None = None,
    ) -> Commit:
        """Merge a version of another session, such as a fork, into this one's head.

        Args:
            session_id: what is merged into.
            source_session_id: where the changes are.
            agent_id: who merges.
            source_version: None: the source's head.
            base_version: the version of this session that both go back to; None: the one that the
                source was forked from.
            policy: as in `put`.
            operation_id: as in `put`.

        Raises:
            InvalidInputError: `base_version` is None, and the source is no fork of this session.
            SealedError: the source is sealed and this session is not.
            what `get` and `put` raise.
        """
        with self._parts.session(session_id, agent_id) as keys:
            done = self._parts.find_done(keys, operation_id)
            if done is not None:
                return done
        with self._parts.session(source_session_id, agent_id) as source:
            theirs, content = self._parts.read_whole(source, parsed(source_version), agent_id)
            base = parsed(base_version) or self._fork_point(source, session_id)
        with self._parts.session(session_id, agent_id) as keys:
            if theirs.sealer is not None:
                self._require_sealed(keys)
        draft = self._parts.draft(session_id, content, agent_id, operation_id, operation="merge")
        return self._parts.commit(
            replace(
                draft,
                base=base,
                policy=policy,
                content_type=theirs.manifest.content_type,
                source=f"{source_session_id}@{theirs.manifest.version}",
            )
        )

    def _fork_point(self, source: SessionKeys, session_id: str) -> str:
        """The version of `session_id` that `source` was forked from."""
        found = (self._parts.redis.hget(source.base, "source") or b"").decode()
        forked_from, _, version = found.partition("@")
        if forked_from != session_id:
            expected = f"a version of {session_id}, as {source.session_id} is no fork of it"
            raise InvalidInputError("base_version", expected, None)
        return version

    def _require_sealed(self, keys: SessionKeys) -> None:
        head = self._parts.reader.find_head(keys, keys.session_id)
        if head is not None and not head.data_key_id:
            raise SealedError(
                f"session {keys.session_id} is not sealed; what comes from a sealed session "
                "stays in one"
            )


def _checked_policy(policy: Policy) -> Policy:
    if policy not in get_args(Policy):
        raise InvalidInputError("policy", " or ".join(get_args(Policy)), policy)
    return policy


def _place(base_version: str | None, version: str | None, bump: Bump) -> tuple[str, Version | None]:
    """The version that a write goes on top of, empty for any, and the one it asks to be.

    Raises:
        InvalidVersionError: one of them is none, or the second cannot come after the first.
    """
    base = None if base_version is None else parse_version(base_version, "base_version")
    explicit = None if version is None else parse_version(version)
    if explicit is not None:
        next_version(base, explicit, bump)
    return "" if base is None else str(base), explicit
