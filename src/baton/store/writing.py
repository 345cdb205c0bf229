"""The write path: cut, compress, stage, commit; in one round trip where the base is known."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from baton.clock import utc_from_ms, utc_from_seconds
from baton.content.chunking import average_chunk_bytes
from baton.content.chunks import Piece, hash_and_split, split
from baton.content.tokens import estimate_tokens
from baton.errors import ContextImmutableError, SessionBusyError, VersionNotFoundError
from baton.ids import new_operation_id
from baton.scripts import Script
from baton.store.manifest import ChunkRef, Manifest, StampedManifest
from baton.store.reading import archived_error, corrupt, not_found
from baton.store.records import Commit
from baton.versions import next_version, parse_version

if TYPE_CHECKING:
    from baton.binary_redis import BinaryRedis
    from baton.content.compression import Codec
    from baton.store.keys import SessionKeys
    from baton.store.manifests import Manifests
    from baton.store.reading import ContextReader
    from baton.versions import Bump, Version

_COMMIT: Final = Script("baton.store", "commit")
_REFRESH: Final = Script("baton.store", "refresh")
_DELETE: Final = Script("baton.store", "delete")

STAGING_MS: Final = 60_000
MAX_RACES: Final = 64
MAX_PAUSE_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Draft:
    """A write on its way: its content, what its writer saw, and the name it is staged under.

    `base` is a version, or empty for a blind write. `once`: the name was given by the caller and
    is remembered with the session.
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


class ContextWriter:
    """Commits versions. See `ContextStore.put` for the contract."""

    def __init__(
        self,
        client: BinaryRedis,
        manifests: Manifests,
        reader: ContextReader,
        *,
        compression: Codec,
        backstop_ms: int,
    ) -> None:
        self._redis = client
        self._manifests = manifests
        self._reader = reader
        self._compression = compression
        self._backstop_ms = backstop_ms

    def commit(self, draft: Draft) -> Commit:
        """Commit `draft`, again on a newer head if it is blind and another writer came between."""
        done = self._find_done(draft)
        if done is not None:
            return done
        lost_chunks: set[int] = set()
        hash_ = ""
        kept = True
        for race in range(MAX_RACES):
            base = self._find_base(draft, kept=kept)
            if base is not None:
                lost_chunks |= self._reader.find_damaged(draft.keys, base)
            known = self._known_chunks(base, lost_chunks)
            hash_, pieces = self._cut(draft, hash_, base, known)
            manifest = self._manifest(draft, hash_, base, _place(pieces, known, base))
            answer = self._send(draft, base, pieces, manifest.encode(), repair=bool(lost_chunks))
            match answer[0]:
                case b"missing_chunk":
                    lost_chunks.update(answer[1:])
                case b"deleting":
                    self.finish_deletion(draft.keys)
                case b"stale":
                    kept = False
                    lost_chunks.clear()
                    time.sleep(random.uniform(0, min(0.005 * race, MAX_PAUSE_SECONDS)))  # noqa: S311
                case b"missing_staging":
                    pass
                case _:
                    return _outcome(draft, answer)
        raise SessionBusyError(
            f"session {draft.session_id}: other writers won {MAX_RACES} races in a row"
        )

    def _find_done(self, draft: Draft) -> Commit | None:
        """The answer that this write, under the name its caller gave it, got before."""
        if not draft.once:
            return None
        version = self._redis.hget(draft.keys.operations, draft.operation_id)
        if version is None:
            return None
        stamped = self._manifests.fetch(draft.keys, draft.session_id, version.decode())
        if stamped is None:
            return None  # collected since; the script decides
        hash_ = stamped.manifest.content_hash
        score = self._redis.zscore(draft.keys.history, f"{version.decode()}:{hash_}")
        return Commit(
            version=version.decode(),
            action="accepted",
            etag=stamped.etag,
            content_hash=hash_,
            committed_at=utc_from_seconds(score or 0.0),
        )

    def refresh_expiry(self, keys: SessionKeys) -> None:
        """Move the expiry of all keys of the session to the backstop from now."""
        first = 0
        while first >= 0:
            first = int(_REFRESH(self._redis, [keys.base], [self._backstop_ms, first]))

    def delete(self, keys: SessionKeys, agent_id: str) -> bool:
        """Delete the session; False if there is none."""
        return self._delete(keys, agent_id, new_operation_id())

    def finish_deletion(self, keys: SessionKeys) -> None:
        """Finish a deletion that somebody began; does nothing to a session that lives."""
        self._delete(keys, "", "")

    def _delete(self, keys: SessionKeys, agent_id: str, deletion_id: str) -> bool:
        while True:
            done, _ = _DELETE(self._redis, [keys.base], [agent_id, deletion_id])
            if done:
                return bool(done > 0)

    def _find_base(self, draft: Draft, *, kept: bool) -> StampedManifest | None:
        """What to build on: the named base, or the head for a blind write; None: from nothing."""
        if draft.base:
            known = self._manifests.find_kept(draft.session_id, draft.base) if kept else None
            return known or self._fetch_base(draft)
        head = self._reader.find_head(draft.keys, draft.session_id)
        if head is None:
            return None
        return self._reader.head_manifest(draft.keys, draft.session_id, head)

    def _fetch_base(self, draft: Draft) -> StampedManifest | None:
        fetched = self._manifests.fetch(draft.keys, draft.session_id, draft.base)
        head = self._reader.find_head(draft.keys, draft.session_id)
        if head is not None and head.version == draft.base:
            # Missing, or another than its head names, is damage: `head_manifest` raises.
            return self._reader.head_manifest(draft.keys, draft.session_id, head)
        if fetched is None and head is not None and _above(draft.base, head.version):
            raise VersionNotFoundError(
                f"session {draft.session_id} has no version {draft.base}; its head is "
                f"{head.version}"
            )
        return fetched

    def _known_chunks(self, base: StampedManifest | None, lost: set[int]) -> dict[str, ChunkRef]:
        """Chunks of the base by the digest of their plain bytes: these need not be sent again."""
        if base is None or base.manifest.compression != self._compression:
            return {}
        return {ref.digest: ref for ref in base.manifest.chunks if ref.chunk_id not in lost}

    def _cut(
        self, draft: Draft, hash_: str, base: StampedManifest | None, known: dict[str, ChunkRef]
    ) -> tuple[str, list[Piece]]:
        """The content's hash, computed once, and its pieces; those not `known` ready to store."""
        average = average_chunk_bytes(
            len(draft.data), base.manifest.average_chunk_bytes if base else None
        )
        if hash_:
            return hash_, split(
                draft.data, average_bytes=average, codec=self._compression, known=known.keys()
            )
        return hash_and_split(
            draft.data, average_bytes=average, codec=self._compression, known=known.keys()
        )

    def _manifest(
        self,
        draft: Draft,
        content_hash: str,
        base: StampedManifest | None,
        placed: tuple[int, list[ChunkRef]],
    ) -> Manifest:
        parent = None if base is None else base.manifest.version
        next_chunk, chunks = placed
        return Manifest(
            session_id=draft.session_id,
            version=str(
                next_version(
                    None if parent is None else parse_version(parent), draft.explicit, draft.bump
                )
            ),
            parent=parent,
            author=draft.agent_id,
            action="accepted",
            operation_id=draft.operation_id,
            content_hash=content_hash,
            size_bytes=len(draft.data),
            size_tokens=estimate_tokens(len(draft.data)),
            compression=self._compression,
            average_chunk_bytes=average_chunk_bytes(
                len(draft.data), base.manifest.average_chunk_bytes if base else None
            ),
            next_chunk=next_chunk,
            chunks=tuple(chunks),
        )

    def _request(
        self,
        draft: Draft,
        base: StampedManifest | None,
        stamped: StampedManifest,
        staged: list[bytes],
        *,
        repair: bool,
    ) -> str:
        """The first argument of commit.lua; its header names the fields."""
        manifest = stamped.manifest
        first_new = 0 if base is None else base.manifest.next_chunk
        referenced = [(id_, size) for id_, size in manifest.stored_sizes.items() if id_ < first_new]
        return json.dumps(
            {
                "operation": draft.operation_id,
                "once": draft.once,
                "agent": draft.agent_id,
                "base": draft.base,
                "blind": not draft.base,
                "explicit": draft.explicit is not None,
                # A new version even of equal content: the head's own chunks are damaged.
                "repair": repair,
                "version": manifest.version,
                "etag": stamped.etag,
                "content_hash": manifest.content_hash,
                "expected_etag": "" if base is None else base.etag,
                "expected_next_chunk": first_new,
                "size_bytes": manifest.size_bytes,
                "size_tokens": manifest.size_tokens,
                "chunk_count": len(manifest.chunks),
                "compression": manifest.compression,
                "backstop_ms": self._backstop_ms,
                "staging": draft.keys.staging_prefix(draft.operation_id),
                "staged": [len(chunk) for chunk in staged],
                "referenced": referenced,
            }
        )

    def _send(
        self,
        draft: Draft,
        base: StampedManifest | None,
        pieces: list[Piece],
        stamped: StampedManifest,
        *,
        repair: bool,
    ) -> list[Any]:
        """Stage the new chunks and commit them, in one round trip; the script's answer."""
        staged = [piece.stored for piece in pieces if piece.stored is not None]
        prefix = draft.keys.staging_prefix(draft.operation_id)
        pipeline = self._redis.pipeline(transaction=False)
        for index, chunk in enumerate(staged):
            pipeline.set(f"{prefix}{index}", chunk, px=STAGING_MS)
        request = self._request(draft, base, stamped, staged, repair=repair)
        answer: list[Any] = _COMMIT.after(
            pipeline, self._redis, [draft.keys.base], [request, stamped.stored]
        )
        if answer[0] in (b"accepted", b"repeated") and answer[2].decode() == stamped.etag:
            self._manifests.keep(stamped)
            self._reader.vouch_for(stamped.etag)
        if answer[0] == b"accepted" and answer[5]:
            self.refresh_expiry(draft.keys)
        return answer


def _place(
    pieces: list[Piece], known: dict[str, ChunkRef], base: StampedManifest | None
) -> tuple[int, list[ChunkRef]]:
    """The next free chunk id, and where each piece is: in a chunk of the base or in a new one."""
    next_chunk = 0 if base is None else base.manifest.next_chunk
    refs = dict(known)
    chunks = []
    for piece in pieces:
        if piece.stored is not None:
            refs[piece.digest] = ChunkRef(
                chunk_id=next_chunk,
                size_bytes=piece.size_bytes,
                stored_bytes=len(piece.stored),
                digest=piece.digest,
                stored_digest=piece.stored_digest,
            )
            next_chunk += 1
        chunks.append(refs[piece.digest])
    return next_chunk, chunks


def _above(version: str, other: str) -> bool:
    return parse_version(version) > parse_version(other)


def _outcome(draft: Draft, answer: list[Any]) -> Commit:
    kind = answer[0].decode()
    if kind == "absent":
        raise not_found(draft.session_id)
    if kind == "orphaned":
        raise corrupt(draft.session_id, "?", "its container is missing, its versions are not")
    if kind == "immutable":
        raise ContextImmutableError(
            f"session {draft.session_id} is immutable; write to a new session instead"
        )
    if kind == "archived":
        raise archived_error(draft.session_id)
    version, etag, content_hash, at_us = (part.decode() for part in answer[1:5])
    return Commit(
        version=version,
        action="rejected" if kind == "rejected" else "accepted",
        etag=etag,
        content_hash=content_hash,
        committed_at=utc_from_ms(float(at_us) / 1000),
    )
