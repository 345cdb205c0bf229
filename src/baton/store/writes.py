"""The writing half of the context store: new versions, and writes that wait to be merged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final, get_args

from baton.envelope.free_metadata import metadata_of
from baton.envelope.reading import read_envelope
from baton.errors import (
    ContextTooLargeError,
    InvalidInputError,
    SealedError,
    VersionNotFoundError,
)
from baton.ids import check_id
from baton.merge.strict_json import check_json
from baton.settings import KIB
from baton.store.imports import (
    adds_nothing,
    check_room,
    imported_checkpoints,
    imported_flags,
    imported_text,
    without_checkpoints,
)
from baton.store.manifest import ContentType
from baton.store.parts import parsed
from baton.store.reading import not_found
from baton.store.records import Policy
from baton.store.writing import Plan
from baton.versions import Bump, next_version, parse_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.envelope.model import EnvelopeHeader
    from baton.store.conflicts import Side
    from baton.store.keys import SessionKeys
    from baton.store.marks import Flag
    from baton.store.parts import StoreParts
    from baton.store.reading import OpenedVersion
    from baton.store.records import Checkpoint, Commit, Conflict, PendingConflict
    from baton.store.writing import Draft

MAX_METADATA_BYTES: Final = 64 * KIB


class ContextWrites:
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
            policy: what becomes of concurrent writes. `merge`: their changes are combined, and
                what cannot be is kept as a pending revision (`merge_required`).
                `last_write_wins`: this one replaces the other, which stays in the history.
                `reject`: nothing is stored.
            metadata: JSON of at most 64 KiB about this version; None: as the version before.
            sealed: a session that begins with this write is sealed, and stays so. Each later
                write to a sealed session is sealed too, whatever this says.
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
        if policy not in get_args(Policy):
            raise InvalidInputError("policy", " or ".join(get_args(Policy)), policy)
        base = None if base_version is None else parse_version(base_version, "base_version")
        explicit = None if version is None else parse_version(version)
        if explicit is not None:
            next_version(base, explicit, bump)  # refuses one that cannot come after the base
        draft = self._parts.draft(session_id, content, agent_id, operation_id)
        draft = replace(
            draft,
            base="" if base is None else str(base),
            explicit=explicit,
            bump=bump,
            policy=policy,
            metadata=None if metadata is None else _checked_metadata(metadata),
            content_type=_checked_type(content_type),
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

    def import_envelope(
        self,
        source: bytes | str | BinaryIO | Mapping[str, Any],
        *,
        agent_id: str,
        session_id: str | None = None,
        base_version: str | None = None,
        sealed: bool = False,
        fernet_key: str | None = None,
        operation_id: str | None = None,
    ) -> Commit:
        """Store the context in a CMCSP envelope: all of it is verified first, or nothing written.

        Its metadata, dependencies and checkpoints come along, and the flags `immutable` and
        `sensitive`. Checkpoints and flags are put right behind the commit. Should the process die
        there, repeat the call under its `operation_id`: what is missing of these is added. Only
        what others put there in that moment can still be in their way, and is raised.

        Checkpoints are places of the envelope's text. Where the version that now holds it is
        another text, they are not put, but named in the commit's `unplaced_checkpoints` and logged:
        if it was merged, and always of a Fernet token, whose places are none in what it encrypts.
        After `merge_required` neither they nor the flags are put.

        Args:
            source: the JSON text, a binary file of it, or the parsed document.
            agent_id: who imports it.
            session_id: None: the one that the envelope names.
            base_version: the version of an existing session that it goes on top of, as in `put`;
                None: the session must be new, and begins with the envelope's version.
            sealed: a session that begins with it is sealed. What comes encrypted always is.
            fernet_key: opens a text that is encrypted the protocol's way, as a Fernet token.
            operation_id: as in `put`.

        Raises:
            InvalidInputError, ContextTooLargeError, ContextCorruptError, UnsupportedFormatError:
                what is wrong with the envelope, by the field's path; also a label that
                `checkpoint` refuses, and more checkpoints than the session has room for.
            CheckpointExistsError: the session has another checkpoint of the same id.
            SessionExistsError: there is such a session, and no `base_version` was given.
            SealedError: it is encrypted, and no `fernet_key` was given.
            what `put` raises.
        """
        content = read_envelope(source, limit_bytes=self._parts.max_context_bytes)
        header, ours = content.header, content.header.metadata.baton
        target = header.session_id if session_id is None else session_id
        text = imported_text(content, fernet_key)
        draft = self._parts.draft(target, text, agent_id, operation_id, operation="import")
        version = ours.context_version if ours is not None and base_version is None else None
        draft = replace(
            draft,
            base=parsed(base_version) or "",
            explicit=None if version is None else parse_version(version),
            content_type=ours.content_type if ours is not None else None,
            metadata=_checked_metadata(metadata_of(header)),
            sealed=sealed or header.flags.encrypted,
            create=base_version is None,
        )
        return self._commit_import(draft, header)

    def _commit_import(self, draft: Draft, header: EnvelopeHeader) -> Commit:
        checkpoints = imported_checkpoints(header, draft.agent_id)
        places = [] if header.flags.encrypted else checkpoints
        self._check_room(draft, places)
        commit = self._parts.commit(draft)
        if commit.action == "merge_required":
            return without_checkpoints(commit, checkpoints)
        fits = bool(places) and self._holds(commit, draft)
        flags = imported_flags(header)
        self._put_marks(commit, places if fits else [], flags, draft.agent_id)
        return commit if fits else without_checkpoints(commit, checkpoints)

    def _check_room(self, draft: Draft, checkpoints: Sequence[Checkpoint]) -> None:
        """Refuse, before the commit, checkpoints that could not be put behind it."""
        there: list[Checkpoint] = []
        version = ""
        if checkpoints and not draft.create:
            with self._parts.session(draft.session_id, draft.agent_id) as keys:
                if draft.once and self._parts.find_done(keys, draft.operation_id) is not None:
                    return
                head = self._parts.reader.with_version(
                    keys, draft.session_id, None, lambda opened: opened
                )
                if adds_nothing(head, draft, self._parts.writer):
                    version = head.manifest.version
                there = self._parts.marks.checkpoints(keys)
        check_room(draft.session_id, checkpoints, there, version)

    def _holds(self, commit: Commit, draft: Draft) -> bool:
        """Whether the committed version is there and has the draft's content, and no other."""
        with self._parts.session(draft.session_id, draft.agent_id) as keys:
            try:
                return self._parts.reader.with_version(
                    keys,
                    draft.session_id,
                    commit.version,
                    lambda opened: self._parts.writer.has_content(opened, draft),
                )
            except VersionNotFoundError:  # a repeat, long after
                return False

    def _put_marks(
        self, commit: Commit, checkpoints: Sequence[Checkpoint], flags: Sequence[Flag], agent: str
    ) -> None:
        placed = [replace(each, version=commit.version) for each in checkpoints]
        if placed or flags:
            with self._parts.session(commit.session_id, agent) as keys:
                self._parts.marks.put_imported(keys, commit.version, placed, flags, agent)

    # --- conflicts -----------------------------------------------------------------------------

    def conflicts(self, session_id: str) -> list[PendingConflict]:
        """Writes that wait for somebody to resolve them, the oldest first."""
        with self._parts.reading(session_id) as keys:
            self._parts.reader.require_head(keys)
            return self._parts.pending.list(keys)

    def explain_conflict(
        self, session_id: str, conflict_id: str, *, agent_id: str | None = None
    ) -> tuple[Conflict, ...]:
        """The places where a pending write and the head as it is now both changed.

        Noted as a read of the pending write by `agent_id`.

        Raises:
            ConflictNotFoundError: it was resolved, or it expired.
        """
        with self._parts.reading(session_id, agent_id) as keys:
            found = self._parts.pending.explain(keys, check_id(conflict_id, "conflict_id"))
        self._parts.note_pending(keys, conflict_id, agent_id)
        return found

    def pending_content(
        self, session_id: str, conflict_id: str, *, agent_id: str | None = None
    ) -> str:
        """What the writer of a pending write had written.

        Raises:
            ConflictNotFoundError: it was resolved, or it expired.
        """
        with self._parts.reading(session_id, agent_id) as keys:
            found = self._parts.pending.theirs(keys, check_id(conflict_id, "conflict_id"))
        self._parts.note_pending(keys, conflict_id, agent_id)
        return found

    def resolve_conflict(
        self,
        session_id: str,
        conflict_id: str,
        *,
        agent_id: str,
        take: Side | None = None,
        content: str | None = None,
        operation_id: str | None = None,
    ) -> Commit:
        """Resolve a pending write and commit the result.

        Args:
            session_id: the session.
            conflict_id: which one, as `conflicts` names it.
            agent_id: who resolves it.
            take: the side that every place in conflict is taken from, `ours` being the head; all
                that does not conflict is merged from both.
            content: or the merged text itself, made by hand from the pending write and the head
                it was written against. Where the head has moved on since, the two are merged.
            operation_id: as in `put`.

        Raises:
            ConflictNotFoundError: it was resolved, or it expired.
            InvalidInputError: both or none of `take` and `content` are given.
            what `put` raises.
        """
        if (take is None) == (content is None):
            raise InvalidInputError("take", "either it or content", "<both or none>")
        if take not in (None, "ours", "theirs"):
            raise InvalidInputError("take", "'ours' or 'theirs'", take)
        draft = self._parts.draft(
            session_id, content or "", agent_id, operation_id, operation="resolve"
        )
        draft = replace(draft, resolves=check_id(conflict_id, "conflict_id"))
        with self._parts.session(session_id, agent_id) as keys:
            done = self._parts.find_done(keys, operation_id)
            if done is not None:
                return done
            found = self._parts.pending.get(keys, conflict_id)
            if take is None:
                draft = replace(draft, base=found.head_version)
                commit, version_count = self._parts.commits.commit(draft)
            else:
                commit, version_count = self._parts.pending.resolve(draft, take)
        self._parts.collect_if_due(keys, agent_id, version_count)
        return commit

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


def _checked_type(content_type: ContentType | None) -> ContentType | None:
    if content_type is not None and content_type not in get_args(ContentType):
        expected = " or ".join(get_args(ContentType))
        raise InvalidInputError("content_type", expected, content_type)
    return content_type


def _checked_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that nobody else holds, of what JSON can carry.

    Raises:
        InvalidInputError: it is no JSON object.
        ContextTooLargeError: it is above 64 KiB.
    """
    if not isinstance(metadata, Mapping):
        raise InvalidInputError("metadata", "a mapping", f"<{type(metadata).__name__}>")
    check_json(dict(metadata), "metadata")
    text = json.dumps(dict(metadata))
    if len(text) > MAX_METADATA_BYTES:
        expected = f"at most {MAX_METADATA_BYTES} bytes of JSON"
        raise ContextTooLargeError("metadata", expected, f"<{len(text)} bytes>")
    copy: dict[str, Any] = json.loads(text)
    return copy
