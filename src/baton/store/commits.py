"""From a draft to a commit: the rules for concurrent writers (architecture, section 3)."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from baton.clock import utc_from_ms
from baton.errors import (
    ConflictNotFoundError,
    ContextCorruptError,
    ContextImmutableError,
    SealedError,
    SessionBusyError,
    SessionExistsError,
    VersionNotFoundError,
)
from baton.merge.conflicts import TextConflict
from baton.merge.documents import merge_json
from baton.merge.ranges import TextRange
from baton.merge.strict_json import parse_json
from baton.merge.text import merge_appends, merge_text
from baton.settings import KIB
from baton.store.heads import Head, OpenedVersion
from baton.store.records import Commit
from baton.store.refusals import VersionGoneError, archived_error, corrupt, not_found
from baton.store.writing import Plan, with_text
from baton.versions import next_version, parse_version, resolve_version_conflict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from baton.binary_redis import BinaryRedis
    from baton.merge.conflicts import Favour
    from baton.merge.resolvers import Resolver
    from baton.store.keys import SessionKeys
    from baton.store.manifest import ContentType, WriteAction
    from baton.store.manifests import Manifests
    from baton.store.reading import ContextReader
    from baton.store.records import Action, Conflict
    from baton.store.writing import Answer, ContextWriter, Draft

MAX_RACES: Final = 64
MAX_PAUSE_SECONDS: Final = 0.25
LOOK_FIRST_BYTES: Final = 256 * KIB


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged text, or None and what stands in its way."""

    text: str | None
    conflicts: tuple[Conflict, ...] = ()


class Commits:
    """Commits drafts by their policy. See `ContextStore.put` for the contract."""

    def __init__(
        self,
        client: BinaryRedis,
        manifests: Manifests,
        reader: ContextReader,
        writer: ContextWriter,
        *,
        resolvers: Mapping[str, Resolver],
        conflict_ms: int,
    ) -> None:
        self._redis = client
        self._manifests = manifests
        self._reader = reader
        self._writer = writer
        self._resolvers = resolvers
        self._conflict_ms = conflict_ms

    def commit(self, draft: Draft) -> tuple[Commit, int]:
        """Commit `draft`; the outcome, and how many versions the session has now."""
        return self.commit_planned(draft, lambda head: self._plan(draft, head))

    def commit_planned(
        self, draft: Draft, plan: Callable[[OpenedVersion | None], Plan | Commit]
    ) -> tuple[Commit, int]:
        """Commit what `plan` makes of the head, again on each newer head, until one holds."""
        done = self.find_done(draft.keys, draft.operation_id) if draft.once else None
        if done is not None:
            return done, 0
        # To find out by a commit that the head has moved on costs a round trip less, but the work.
        kept = len(draft.data) < LOOK_FIRST_BYTES
        for race in range(MAX_RACES):
            try:
                head = self._find_parent(draft, kept=kept)
                planned = plan(head)
                if isinstance(planned, Commit):
                    return planned, 0
                answer = self._writer.publish(planned)
            except VersionGoneError:
                kept = False
                continue
            match answer.kind:
                case "deleting":
                    self._writer.finish_deletion(draft.keys)
                case "stale":
                    kept = False
                    time.sleep(random.uniform(0, min(0.005 * race, MAX_PAUSE_SECONDS)))  # noqa: S311
                case _:
                    return self._outcome(planned, answer), answer.version_count
        raise SessionBusyError(
            f"session {draft.session_id}: other writers won {MAX_RACES} races in a row"
        )

    def merge(
        self,
        head: OpenedVersion,
        base_version: str,
        theirs: str,
        content_type: ContentType,
        *,
        favour: Favour | None = None,
    ) -> Merged:
        """The head with what `theirs` changed in the base; what conflicts, from that side.

        All conflicts where the base was collected, as nothing tells any more who changed what, and
        where one is a document and the other is not: lines of both make neither.
        """
        ours = self._reader.content(head)
        if content_type != head.manifest.content_type:
            return _without_base(ours, theirs, favour)
        try:
            base = self._reader.with_version(
                head.keys, head.keys.session_id, base_version, self._reader.content
            )
        except VersionNotFoundError:
            return _without_base(ours, theirs, favour)
        if is_document(head):
            document = merge_json(base, ours, theirs, self._resolvers, favour=favour)
            return Merged(document.text, document.conflicts)
        appended = merge_appends(base, ours, theirs)
        if appended is not None:
            return Merged(appended)
        text = merge_text(base, ours, theirs, favour=favour)
        return Merged(text.text, text.conflicts)

    def merge_revision(
        self, head: OpenedVersion, revision: OpenedVersion, favour: Favour | None = None
    ) -> Merged:
        """The head with what a pending revision changed in its base."""
        manifest, theirs = revision.manifest, self._reader.content(revision)
        return self.merge(head, manifest.base or "", theirs, manifest.content_type, favour=favour)

    # --- what to build on ----------------------------------------------------------------------

    def _find_parent(self, draft: Draft, *, kept: bool) -> OpenedVersion | None:
        """The head; at the first try the named base as this process knows it, should it still be.

        None: there is no session.
        """
        if kept and draft.base:
            known = self._kept_base(draft)
            if known is not None:
                return known
        for _ in range(MAX_RACES):
            head = self._reader.find_head(draft.keys, draft.session_id)
            if head is None:
                if draft.base:
                    raise not_found(draft.session_id)
                return None
            try:
                sealer = self._reader.sealer(draft.keys, draft.session_id, head.data_key_id)
                stamped = self._reader.head_manifest(draft.keys, draft.session_id, head)
            except ContextCorruptError:
                if self._reader.find_head(draft.keys, draft.session_id) == head:
                    raise
                continue
            if stamped is not None:
                return OpenedVersion(draft.keys, head, stamped, sealer)
        raise SessionBusyError(
            f"session {draft.session_id} changed during each of {MAX_RACES} looks at its head"
        )

    def _kept_base(self, draft: Draft) -> OpenedVersion | None:
        stamped = self._manifests.find_kept(draft.session_id, draft.base)
        if stamped is None:
            return None
        manifest = stamped.manifest
        head = Head(
            version=manifest.version,
            etag=stamped.etag,
            content_hash=manifest.content_hash,
            committed_at_us=0,
            data_key_id=stamped.data_key_id,
            next_chunk=manifest.next_chunk,
            epoch="",
        )
        sealer = self._reader.kept_sealer(draft.session_id, head.data_key_id)
        if head.data_key_id and sealer is None:
            return None
        return OpenedVersion(draft.keys, head, stamped, sealer)

    # --- what to make of it --------------------------------------------------------------------

    def _plan(self, draft: Draft, head: OpenedVersion | None) -> Plan | Commit:
        _check_possible(draft, head)
        if head is None or not draft.base or head.manifest.version == draft.base:
            return Plan(draft, head, "accepted")
        if parse_version(draft.base) > parse_version(head.manifest.version):
            raise VersionNotFoundError(
                f"session {draft.session_id} has no version {draft.base}; its head is "
                f"{head.manifest.version}"
            )
        draft = _bumped_past(draft, head)
        if self._writer.has_content(head, draft) and not self._counts_equal_changes(head):
            return Plan(replace(draft, explicit=None), head, "accepted")
        match draft.policy:
            case "reject":
                return _committed(draft.session_id, head.head, "rejected")
            case "last_write_wins":
                return _plan_replacement(draft, head)
            case _:
                return self._plan_merge(draft, head)

    def _plan_merge(self, draft: Draft, head: OpenedVersion) -> Plan:
        content_type = _content_type(draft, head)
        merged = self.merge(head, draft.base, draft.data.decode(), content_type)
        if merged.text is None:
            pending_ms, conflicts = self._conflict_ms, merged.conflicts
            return Plan(draft, head, "merge_required", pending_ms=pending_ms, conflicts=conflicts)
        merging = with_text(draft, merged.text)
        # What adds nothing to the head is in it already.
        action: WriteAction = "accepted" if merged.text == self._reader.content(head) else "merged"
        return Plan(merging, head, action)

    def _counts_equal_changes(self, head: OpenedVersion) -> bool:
        """Whether equal changes add up, as those of a counter do."""
        return bool(self._resolvers) and is_document(head)

    # --- what came of it -----------------------------------------------------------------------

    def _outcome(self, plan: Plan, answer: Answer) -> Commit:
        draft = plan.draft
        error = _refusal(draft, answer)
        if error is not None:
            raise error
        if answer.kind == "repeated" and answer.etag != answer.sent_etag and draft.once:
            done = self.find_done(draft.keys, draft.operation_id)
            if done is not None:
                return done
        action: Action = "accepted" if answer.kind == "unchanged" else plan.action
        return Commit(
            session_id=draft.session_id,
            version=answer.version,
            action=action,
            etag=answer.etag,
            content_hash=answer.content_hash,
            committed_at=utc_from_ms(answer.at_us / 1000),
            conflicts=plan.conflicts,
            conflict_id=draft.operation_id if action == "merge_required" else None,
            replaced=plan.replaced,
        )

    def find_done(self, keys: SessionKeys, operation_id: str) -> Commit | None:
        """The answer that a write got before, under the name its caller gave it; None if none."""
        session_id = keys.session_id
        found = self._redis.hget(keys.operations, operation_id)
        head = self._reader.find_head(keys, session_id) if found else None
        if found is None or head is None:
            return None
        version = found.decode()
        if version == "conflict":
            kept = _committed(session_id, head, "merge_required", conflict_id=operation_id)
            return replace(kept, conflicts=self._conflicts_now(keys, head, operation_id))
        sealer = self._reader.sealer(keys, session_id, head.data_key_id)
        stamped = self._manifests.fetch(keys, session_id, version, sealer)
        if stamped is None:
            # Collected since. Not the head in its place: this writer has not seen that.
            gone = _committed(session_id, head, "accepted")
            return replace(gone, version=version, etag="", content_hash="")
        manifest = stamped.manifest
        ours = manifest.operation_id == operation_id
        return Commit(
            session_id=session_id,
            version=version,
            action=manifest.action if ours else "accepted",
            etag=stamped.etag,
            content_hash=manifest.content_hash,
            committed_at=self._reader.committed_at(keys, manifest, head),
        )

    def _conflicts_now(
        self, keys: SessionKeys, head: Head, conflict_id: str
    ) -> tuple[Conflict, ...]:
        """Where a pending revision and the head conflict; nowhere, once it is gone."""
        revision = self._reader.find_revision(keys, head, conflict_id)
        if revision is None:
            return ()
        return self._reader.with_version(
            keys,
            keys.session_id,
            None,
            lambda opened: self.merge_revision(opened, revision).conflicts,
        )


def is_document(opened: OpenedVersion) -> bool:
    """Whether it is JSON, and merges as such."""
    return opened.manifest.content_type == "application/json"


def _without_base(ours: str, theirs: str, favour: Favour | None) -> Merged:
    if favour is not None:
        return Merged(ours if favour == "ours" else theirs)
    nowhere = TextRange(0, 0, 0, 0)
    ranges = (nowhere, _whole_range(ours), _whole_range(theirs))
    return Merged(None, (TextConflict("", ours, theirs, *ranges),))


def _whole_range(text: str) -> TextRange:
    unfinished = bool(text) and not text.endswith("\n")
    return TextRange(0, text.count("\n") + unfinished, 0, len(text.encode()))


def _check_possible(draft: Draft, head: OpenedVersion | None) -> None:
    if _content_type(draft, head) == "application/json":
        parse_json(draft.data.decode(), "content")
    if head is None:
        return
    if draft.create:
        raise session_exists(draft.session_id, head.manifest.version)
    if draft.sealed and head.sealer is None:
        raise SealedError(
            f"session {draft.session_id} began unsealed, and its old versions stay so; begin a "
            "sealed one with this content instead"
        )


def session_exists(session_id: str, version: str) -> SessionExistsError:
    """The error for a session that was to begin and is there."""
    return SessionExistsError(
        f"session {session_id} exists already, at {version}; choose another name"
    )


def _plan_replacement(draft: Draft, head: OpenedVersion) -> Plan:
    """The protocol's last write wins. The commit is later than the head: the script sees to it."""
    _, _, verdict = resolve_version_conflict(
        str(next_version(parse_version(head.head.version), draft.explicit, draft.bump)),
        f"the draft of {draft.operation_id}",
        head.head.committed_at_us + 1,
        head.head.version,
        head.head.content_hash,
        head.head.committed_at_us,
    )
    action: WriteAction = "accepted" if verdict == "accepted" else "accepted_with_divergence"
    return Plan(draft, head, action, replaced=head.head.version)


def _bumped_past(draft: Draft, head: OpenedVersion) -> Draft:
    """Without its explicit version, if a concurrent writer has reached that meanwhile."""
    if draft.explicit is None or draft.explicit > parse_version(head.manifest.version):
        return draft
    return replace(draft, explicit=None)


def _content_type(draft: Draft, head: OpenedVersion | None) -> ContentType:
    if draft.content_type is not None:
        return draft.content_type
    return "text/plain" if head is None else head.manifest.content_type


def _committed(
    session_id: str, head: Head, action: Action, conflict_id: str | None = None
) -> Commit:
    return Commit(
        session_id=session_id,
        version=head.version,
        action=action,
        etag=head.etag,
        content_hash=head.content_hash,
        committed_at=utc_from_ms(head.committed_at_us / 1000),
        conflict_id=conflict_id,
    )


def _refusal(draft: Draft, answer: Answer) -> Exception | None:
    """The error that an answer stands for, if it does."""
    session_id = draft.session_id
    refusals: dict[str, Callable[[], Exception]] = {
        "absent": lambda: not_found(session_id),
        "orphaned": lambda: corrupt(
            session_id, "?", "its container is missing, its versions are not"
        ),
        "immutable": lambda: ContextImmutableError(
            f"session {session_id} is immutable; write to a new session instead"
        ),
        "archived": lambda: archived_error(session_id),
        "exists": lambda: session_exists(session_id, answer.version),
        "sealed": lambda: SealedError(
            f"session {session_id} is sealed; what is not is refused there"
        ),
        "unsealed": lambda: SealedError(
            f"session {session_id} is not sealed under that key; read its head again"
        ),
        "resolved": lambda: conflict_gone(session_id, draft.resolves),
    }
    refusal = refusals.get(answer.kind)
    return None if refusal is None else refusal()


def conflict_gone(session_id: str, conflict_id: str) -> ConflictNotFoundError:
    """The error for a pending revision that is not there."""
    return ConflictNotFoundError(
        f"session {session_id} has no pending conflict {conflict_id}; it was resolved, or it "
        "expired"
    )
