"""The write path: cut, compress, seal, stage, publish; one round trip for each try."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from baton.content.text import encode_text
from baton.content.tokens import estimate_tokens
from baton.errors import ContextArchivedError, SessionBusyError, SessionHeldError
from baton.failpoints import reach
from baton.ids import new_operation_id
from baton.scripts import Script
from baton.store.cutting import Cuts, Ground
from baton.store.manifest import Manifest, pending_name
from baton.store.recent import RecentText, RecentTexts
from baton.versions import next_version, parse_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.binary_redis import BinaryRedis
    from baton.content.compression import Codec
    from baton.content.sealing import Sealer
    from baton.store.audit_entries import Caller
    from baton.store.cutting import Placed
    from baton.store.data_keys import DataKeys, NewDataKey
    from baton.store.heads import OpenedVersion
    from baton.store.keys import SessionKeys
    from baton.store.manifest import ContentType, StampedManifest, WriteAction, WriteOperation
    from baton.store.manifests import Manifests
    from baton.store.reading import ContextReader
    from baton.store.records import Conflict, Policy
    from baton.versions import Bump, Version

_COMMIT: Final = Script("baton.store", "commit")
_REFRESH: Final = Script("baton.store", "refresh")
_DELETE: Final = Script("baton.store", "delete")

STAGING_MS: Final = 60_000
MAX_TRIES: Final = 32
# What delete.lua answers where it may not.
ARCHIVED: Final = -2
HELD: Final = -3

_AUDITED: Final[dict[WriteOperation, str]] = {
    "put": "updated",
    "append": "appended",
    "merge": "merged",
    "resolve": "resolved",
    "rollback": "rolled_back",
    "fork": "forked",
    "import": "imported",
    "restore": "restored",
}


@dataclass(frozen=True, slots=True)
class Draft:
    """A write on its way: its content, what its writer saw, and the name it is staged under.

    Attributes:
        base: a version, or empty for a blind write.
        once: the name was given by the caller and is remembered with the session.
        content_type: None: the session's.
        metadata: None: the session's.
        sealed: a session that begins with it is sealed.
        resolves: the pending revision that goes with this commit, or empty.
        create: the session must not exist yet.
        like: a version of the session whose chunks this content shares, besides the head's.
    """

    keys: SessionKeys
    session_id: str
    agent_id: str
    data: bytes
    base: str
    explicit: Version | None
    bump: Bump
    operation_id: str
    once: bool
    policy: Policy = "merge"
    content_type: ContentType | None = None
    metadata: Mapping[str, Any] | None = None
    sealed: bool = False
    operation: WriteOperation = "put"
    source: str | None = None
    resolves: str = ""
    create: bool = False
    like: OpenedVersion | None = None
    cuts: Cuts = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cuts", Cuts(self.data))


@dataclass(frozen=True, slots=True)
class Plan:
    """A draft and what it is to be built on: the head as last seen, or nothing.

    Attributes:
        always: a new version even where the head has the same content.
        pending_ms: how long it is kept as a pending revision; 0 for a version.
        conflicts: why it is a pending revision.
        replaced: the version that it takes the place of, unseen by its writer.
    """

    draft: Draft
    parent: OpenedVersion | None
    action: WriteAction
    always: bool = False
    pending_ms: int = 0
    conflicts: tuple[Conflict, ...] = ()
    replaced: str | None = None


class Answer(NamedTuple):
    """What commit.lua said; its header names the kinds."""

    kind: str
    version: str
    etag: str
    content_hash: str
    at_us: int
    version_count: int
    sent_etag: str


class ContextWriter:
    """Publishes plans. Knows nothing of policies: whoever built on a head gone by is `stale`."""

    def __init__(
        self,
        client: BinaryRedis,
        manifests: Manifests,
        reader: ContextReader,
        data_keys: DataKeys,
        *,
        compression: Codec,
        backstop_ms: int,
        caller: Caller,
    ) -> None:
        self._redis = client
        self._manifests = manifests
        self._reader = reader
        self._data_keys = data_keys
        self._compression = compression
        self._backstop_ms = backstop_ms
        self._caller = caller
        self._recent = RecentTexts()

    def publish(self, plan: Plan) -> Answer:
        """Try to publish; the script's answer, once no chunk is missing.

        Raises:
            SessionBusyError: chunks, or the claim of a new data key, went missing at every one of
                many tries.
        """
        lost: set[int] = set()
        new_key = self._new_key(plan)
        for _ in range(MAX_TRIES):
            for opened in filter(None, (plan.draft.like, plan.parent)):
                lost |= self._reader.find_damaged(opened)
            answer = self._send(plan, new_key, lost)
            match answer[0]:
                case b"missing_chunk":
                    lost.update(answer[1:])
                case b"missing_claim":
                    new_key = self._new_key(plan)
                case b"missing_staging":
                    pass
                case _:
                    return self._finished(plan, answer, new_key)
        raise SessionBusyError(
            f"session {plan.draft.session_id}: what was staged went missing at each of {MAX_TRIES} "
            "tries; does the server evict keys?"
        )

    def refresh_expiry(self, keys: SessionKeys) -> None:
        """Move the expiry of all keys of the session to the backstop from now."""
        first = 0
        while first >= 0:
            first = int(_REFRESH(self._redis, [keys.base], [self._backstop_ms, first]))

    def delete(self, keys: SessionKeys, agent_id: str) -> bool:
        """Delete the session; False if there is none.

        Raises:
            SessionHeldError: it is under hold.
            ContextArchivedError: its content is in the archive, which alone can erase it.
        """
        return self._delete(keys, agent_id, new_operation_id())

    def finish_deletion(self, keys: SessionKeys) -> None:
        """Finish a deletion that somebody began; does nothing to a session that lives."""
        self._delete(keys, "", "")

    def _delete(self, keys: SessionKeys, agent_id: str, deletion_id: str) -> bool:
        caller = json.dumps(self._caller.as_dict())
        while True:
            done, _ = _DELETE(self._redis, [keys.base], [agent_id, deletion_id, caller])
            if done == HELD:
                raise SessionHeldError(
                    f"session {keys.session_id} is under hold; `baton lifecycle release "
                    f"{keys.session_id}` first"
                )
            if done == ARCHIVED:
                raise ContextArchivedError(
                    f"session {keys.session_id} is archived; `baton archive purge "
                    f"{keys.session_id}` erases it"
                )
            if done:
                return bool(done > 0)

    def _new_key(self, plan: Plan) -> NewDataKey | None:
        if plan.parent is None and plan.draft.sealed:
            return self._data_keys.new(plan.draft.session_id)
        return None

    def _send(self, plan: Plan, new_key: NewDataKey | None, lost: set[int]) -> list[Any]:
        """Stage the new chunks and commit them, in one round trip; the script's answer."""
        draft, sealer = plan.draft, _sealer(plan, new_key)
        before = None if plan.parent is None else self._recent.find(plan.parent.stamped.etag)
        placed = draft.cuts.place(
            Ground(
                session_id=draft.session_id,
                parent=plan.parent,
                like=draft.like,
                sealer=sealer,
                codec=self._compression,
                lost=lost,
                before=before,
            )
        )
        stamped = self._manifest(plan, placed).encode(sealer)
        prefix = draft.keys.staging_prefix(draft.operation_id)
        pipeline = self._redis.pipeline(transaction=False)
        for index, chunk in enumerate(placed.staged):
            pipeline.set(f"{prefix}{index}", chunk, px=STAGING_MS)
        request = self._request(plan, stamped, placed.staged, repair=bool(lost))
        request["wrapped_key"] = new_key.stored if new_key else ""
        reach("store.committing")
        answer: list[Any] = _COMMIT.after(
            pipeline, self._redis, [draft.keys.base], [json.dumps(request), stamped.stored]
        )
        reach("store.committed")
        if answer[0] in (b"accepted", b"repeated") and answer[2].decode() == stamped.etag:
            self._manifests.keep(stamped)
            self._reader.vouch_for(stamped.etag)
            self._remember(plan, stamped.etag)
        return [*answer, stamped.etag]

    def recent_content(self, opened: OpenedVersion) -> bytes:
        """The UTF-8 of a version about to be written on: as this process wrote it, or read now."""
        recent = self._recent.find(opened.stamped.etag)
        if recent is not None:
            return recent.data
        data = self._reader.content(opened).encode()
        self._recent.keep(opened.stamped.etag, RecentText(data, ()), "")
        return data

    def has_content(self, opened: OpenedVersion, draft: Draft) -> bool:
        """Whether a version has the draft's content already."""
        if opened.manifest.size_bytes != len(draft.data):
            return False
        before = self._recent.find(opened.stamped.etag)
        return draft.cuts.content_hash(opened.sealer, before) == opened.manifest.content_hash

    def _remember(self, plan: Plan, etag: str) -> None:
        if plan.draft.cuts.text is not None:
            replaced = "" if plan.parent is None else plan.parent.stamped.etag
            self._recent.keep(etag, plan.draft.cuts.text, instead_of=replaced)

    def _finished(self, plan: Plan, answer: list[Any], new_key: NewDataKey | None) -> Answer:
        kind, version, etag, hash_, at_us = (part.decode() for part in answer[:5])
        refresh_due, version_count, sent_etag = answer[5:]
        if kind == "accepted" and new_key is not None:
            self._data_keys.keep(plan.draft.session_id, new_key.sealer)
        if kind == "accepted" and refresh_due:
            self.refresh_expiry(plan.draft.keys)
        return Answer(kind, version, etag, hash_, int(float(at_us)), version_count, sent_etag)

    def _manifest(self, plan: Plan, placed: Placed) -> Manifest:
        draft = plan.draft
        parent = None if plan.parent is None else plan.parent.manifest
        head = None if parent is None else parse_version(parent.version)
        metadata = (parent.metadata if parent else {}) if draft.metadata is None else draft.metadata
        version = str(next_version(head, draft.explicit, draft.bump))
        return Manifest(
            session_id=draft.session_id,
            # A pending revision has no version; what it is sealed for is its own name.
            version=pending_name(draft.operation_id) if plan.pending_ms else version,
            parent=None if parent is None else parent.version,
            base=draft.base or None,
            author=draft.agent_id,
            action=plan.action,
            operation=draft.operation,
            operation_id=draft.operation_id,
            source=draft.source,
            content_hash=placed.content_hash,
            content_type=_content_type(plan),
            metadata=dict(metadata),
            size_bytes=len(draft.data),
            size_tokens=estimate_tokens(len(draft.data)),
            compression=self._compression,
            average_chunk_bytes=placed.average_bytes,
            next_chunk=placed.next_chunk,
            chunks=placed.chunks,
        )

    def _request(
        self, plan: Plan, stamped: StampedManifest, staged: list[bytes], *, repair: bool
    ) -> dict[str, Any]:
        """The first argument of commit.lua; its header names the fields."""
        draft, manifest, parent = plan.draft, stamped.manifest, plan.parent
        first_new = 0 if parent is None else parent.head.next_chunk
        referenced = [(id_, size) for id_, size in manifest.stored_sizes.items() if id_ < first_new]
        audit = "merged" if plan.action == "merged" else _AUDITED[draft.operation]
        return {
            "operation": draft.operation_id,
            "once": draft.once,
            "agent": draft.agent_id,
            "caller": self._caller.as_dict(),
            "base": draft.base,
            "audit": audit,
            "version": manifest.version,
            "etag": stamped.etag,
            "content_hash": manifest.content_hash,
            "create": draft.create,
            "expected_etag": "" if parent is None else parent.stamped.etag,
            "expected_next_chunk": first_new,
            "may_be_unchanged": not (repair or plan.always or _adds(plan)),
            "size_bytes": manifest.size_bytes,
            "size_tokens": manifest.size_tokens,
            "chunk_count": len(manifest.chunks),
            "content_type": manifest.content_type,
            "compression": manifest.compression,
            "backstop_ms": self._backstop_ms,
            "data_key": stamped.data_key_id,
            "resolves": draft.resolves,
            "conflict": _conflict(plan),
            "source": draft.source or "",
            "staging": draft.keys.staging_prefix(draft.operation_id),
            "staged": [len(chunk) for chunk in staged],
            "referenced": referenced,
        }


def with_text(draft: Draft, text: str) -> Draft:
    """The draft with another content."""
    return replace(draft, data=encode_text(text))


def _sealer(plan: Plan, new_key: NewDataKey | None) -> Sealer | None:
    if new_key is not None:
        return new_key.sealer
    return None if plan.parent is None else plan.parent.sealer


def _content_type(plan: Plan) -> ContentType:
    if plan.draft.content_type is not None:
        return plan.draft.content_type
    return "text/plain" if plan.parent is None else plan.parent.manifest.content_type


def _adds(plan: Plan) -> bool:
    """Whether it is a version of its own even where the head has the same content."""
    if plan.parent is None or plan.pending_ms or plan.draft.explicit is not None:
        return True
    manifest, metadata = plan.parent.manifest, plan.draft.metadata
    return _content_type(plan) != manifest.content_type or (
        metadata is not None and dict(metadata) != manifest.metadata
    )


def _conflict(plan: Plan) -> dict[str, Any] | str:
    if not plan.pending_ms or plan.parent is None:
        return ""
    return {
        "base": plan.draft.base,
        "head": plan.parent.manifest.version,
        "expires_ms": plan.pending_ms,
        "size_bytes": len(plan.draft.data),
    }
