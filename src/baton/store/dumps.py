"""Dumps: all that makes up a session, as it is stored, for the archive to keep and to give back.

A dump holds no chunk: those are read by `DumpReader.chunks`, a few megabytes at a time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from baton.errors import ContextCorruptError, InvalidInputError, SessionBusyError
from baton.redis_client import read_at_once
from baton.store.conflicts import decode_conflict
from baton.store.marks import decode_checkpoint
from baton.store.refusals import MAX_RACES, archived_error, busy, corrupt
from baton.store.retention import decode_pin
from baton.store.stored_chunks import in_batches
from baton.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from baton.binary_redis import BinaryRedis
    from baton.store.heads import Head
    from baton.store.keys import SessionKeys
    from baton.store.manifest import StampedManifest
    from baton.store.reading import ContextReader

Which = Literal["head", "named", "all"]

MAX_PAST: Final = 1_000
# Not of the content, or only of the time before it is archived.
_CONTAINER_FIELDS: Final = (
    "format", "state", "owner", "created_at", "immutable", "sensitive", "encrypted", "data_key",
    "source", "head", "head_etag", "head_hash", "head_at", "next_chunk", "epoch", "hold", "shelf",
    "active_ms", "archive_ms", "keep_ms", "backstop_ms",
)  # fmt: skip


class DumpedVersion(NamedTuple):
    """One version as it is stored: its manifest, verified, and its time in seconds as a text."""

    stamped: StampedManifest
    committed_at: str

    @property
    def version(self) -> str:
        """Its number."""
        return self.stamped.manifest.version


@dataclass(frozen=True, slots=True)
class SessionDump:
    """A session at one instant.

    Attributes:
        container: fields of the container, `head…`, `next_chunk`, `epoch`, `data_key` among them.
        metadata: the protocol's, as stored.
        versions: those whose content is kept, the oldest first; the last is the head.
        past: of the others what the history tells: version -> record as JSON.
        wrapped_key: of a sealed session; else empty.
        accessed_at_ms: of the last access that is drained, as it is stored.
    """

    session_id: str
    container: Mapping[str, str]
    metadata: Mapping[str, str]
    versions: tuple[DumpedVersion, ...]
    past: Mapping[str, str]
    tags: Mapping[str, str]
    authors: Mapping[str, str]
    checkpoints: tuple[str, ...]
    wrapped_key: str = field(repr=False)

    @property
    def head(self) -> DumpedVersion:
        """The version that readers get."""
        return self.versions[-1]

    @property
    def accessed_at_ms(self) -> str:
        """As `archive.lua` compares it."""
        return self.metadata.get("last_accessed_at", "")

    @property
    def chunk_sizes(self) -> dict[int, int]:
        """Each chunk of the kept versions once: chunk id -> stored bytes."""
        sizes: dict[int, int] = {}
        for each in self.versions:
            sizes |= each.stamped.manifest.stored_sizes
        return sizes


@dataclass(frozen=True, slots=True)
class _Found:
    """What Redis has of a session at one instant, besides manifests and chunks."""

    archived: bool
    container: Mapping[str, str]
    wrapped_key: str = field(repr=False)
    now_seconds: float
    metadata: Mapping[bytes, bytes]
    history: list[tuple[bytes, float]]
    past: Mapping[bytes, bytes]
    tags: Mapping[bytes, bytes]
    authors: Mapping[bytes, bytes]
    checkpoints: list[bytes]
    pins: Mapping[bytes, bytes]
    conflicts: Mapping[bytes, bytes]

    @property
    def names(self) -> list[str]:
        """The versions, in the order of their commits."""
        return [member.decode().partition(":")[0] for member, _ in self.history]


class DumpReader:
    """Reads dumps of sessions.

    Args:
        client: a binary client.
        reader: opens manifests, and verifies them.
    """

    def __init__(self, client: BinaryRedis, reader: ContextReader) -> None:
        self._redis = client
        self._reader = reader

    def read(self, keys: SessionKeys, which: Which = "named") -> SessionDump:
        """The session as it is now.

        Args:
            keys: the session's.
            which: the versions whose content it is to have: the head; those with a tag or a
                checkpoint as well; or all.

        Raises:
            ContextNotFoundError, ContextArchivedError: it is not here.
            ContextCorruptError: something is not what was stored.
            SessionBusyError: an open handoff or a pending write needs it, or it kept moving.
        """
        if which not in ("head", "named", "all"):
            raise InvalidInputError("which", "head, named or all", which)
        for _ in range(MAX_RACES):
            head = self._reader.require_head(keys)
            try:
                found = self._at(keys, head, which)
            except ContextCorruptError:
                if self._reader.find_head(keys, keys.session_id) == head:
                    raise
                continue
            if found is not None:
                return found
        raise busy(keys.session_id)

    def chunks(self, keys: SessionKeys, sizes: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
        """Chunks as they are stored, by id.

        Raises:
            ContextCorruptError: one is missing, or not of its size.
            ContextArchivedError: the session went to the archive meanwhile.
        """
        for batch in in_batches(sizes.items()):
            yield from self._some_chunks(keys, batch, sizes)

    def _some_chunks(
        self, keys: SessionKeys, batch: list[int], sizes: Mapping[int, int]
    ) -> Iterator[tuple[int, bytes]]:
        stored = self._redis.mget([keys.chunk(each) for each in batch])
        for chunk_id, found in zip(batch, stored, strict=True):
            if found is None or len(found) != sizes[chunk_id]:
                self._reader.require_head(keys)
                problem = "is missing" if found is None else "is not of its size"
                raise corrupt(keys.session_id, "?", f"chunk {chunk_id} {problem}")
            yield chunk_id, found

    def _at(self, keys: SessionKeys, head: Head, which: Which) -> SessionDump | None:
        """The session, or None if its head is another by now."""
        found = self._look_at(keys)
        if found.archived:
            raise archived_error(keys.session_id)
        if found.container.get("head_etag") != head.etag or not found.history:
            return None
        _check_idle(keys, found)
        stamped = self._reader.manifests(keys, keys.session_id, head, found.names)
        wanted = _wanted(keys, which, found)
        versions = [
            DumpedVersion(each, f"{score:.6f}")
            for each, (_, score) in zip(stamped, found.history, strict=True)
        ]
        return SessionDump(
            session_id=keys.session_id,
            container=found.container,
            metadata=_texts(found.metadata),
            versions=tuple(each for each in versions if each.version in wanted),
            past=_past(found.past, [each for each in versions if each.version not in wanted]),
            tags=_texts(found.tags),
            authors=_texts(found.authors),
            checkpoints=tuple(raw.decode() for raw in found.checkpoints),
            wrapped_key=found.wrapped_key,
        )

    def _look_at(self, keys: SessionKeys) -> _Found:
        (archived, *fields), wrapped, (seconds, microseconds), *rest = read_at_once(
            self._redis,
            # Its epoch changes with every mark, its head with every version.
            lambda pipeline: pipeline.hmget(keys.base, "archived", *_CONTAINER_FIELDS),
            lambda pipeline: pipeline.get(keys.data_key),
            lambda pipeline: pipeline.time(),
            lambda pipeline: pipeline.hgetall(keys.metadata),
            lambda pipeline: pipeline.zrange(keys.history, 0, -1, withscores=True),
            lambda pipeline: pipeline.hgetall(keys.past),
            lambda pipeline: pipeline.hgetall(keys.tags),
            lambda pipeline: pipeline.hgetall(keys.authors),
            lambda pipeline: pipeline.lrange(keys.checkpoints, 0, -1),
            lambda pipeline: pipeline.hgetall(keys.pins),
            lambda pipeline: pipeline.hgetall(keys.conflicts),
        )
        container = {
            name: value.decode()
            for name, value in zip(_CONTAINER_FIELDS, fields, strict=True)
            if value is not None
        }
        return _Found(
            archived == b"1",
            container,
            "" if wrapped is None else wrapped.decode(),
            seconds + microseconds / 1e6,
            *rest,
        )


def past_record(version: DumpedVersion) -> str:
    """What the history tells of a version whose content is not kept, as JSON."""
    manifest = version.stamped.manifest
    record = {
        "version": manifest.version,
        "content_hash": manifest.content_hash,
        "committed_at": version.committed_at,
        "author": manifest.author,
        "action": manifest.action,
        "operation": manifest.operation,
        "parent": manifest.parent,
        "base": manifest.base,
        "source": manifest.source,
        "size_bytes": manifest.size_bytes,
        "etag": version.stamped.etag,
    }
    return json.dumps(record, sort_keys=True, separators=(",", ":"))


def _wanted(keys: SessionKeys, which: Which, found: _Found) -> set[str]:
    """The versions whose content is kept."""
    names = found.names
    if which == "all":
        return set(names)
    wanted = {names[-1]}
    if which == "named":
        wanted |= {version.decode() for version in found.tags.values()}
        wanted |= {decode_checkpoint(raw, keys).version for raw in found.checkpoints}
    return wanted


def _check_idle(keys: SessionKeys, found: _Found) -> None:
    """Nothing may need what is about to go.

    Raises:
        SessionBusyError: something does.
    """
    for name, raw in found.pins.items():
        if decode_pin(raw, keys)[1] > found.now_seconds:
            raise SessionBusyError(
                f"session {keys.session_id} is needed by {name.decode('utf-8', 'replace')} "
                "(an open handoff, or who pinned a version)"
            )
    for conflict_id, raw in found.conflicts.items():
        conflict = decode_conflict(conflict_id.decode(), raw, keys)
        if conflict.expires_at.timestamp() > found.now_seconds:
            raise SessionBusyError(
                f"session {keys.session_id} has a write that waits to be merged by hand: "
                f"{conflict.conflict_id}"
            )


def _past(earlier: Mapping[bytes, bytes], left: list[DumpedVersion]) -> dict[str, str]:
    """The newest thousand: what is archived over and over keeps no endless list."""
    past = _texts(earlier) | {each.version: past_record(each) for each in left}
    versions = sorted(past, key=parse_version)
    return {version: past[version] for version in versions[-MAX_PAST:]}


def _texts(found: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in found.items()}
