"""Retention: which versions stay, and the collection of those that do not, chunks included."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from baton.errors import ContextCorruptError
from baton.ids import new_operation_id
from baton.scripts import Script
from baton.store.conflicts import decode_conflict
from baton.store.marks import decode_checkpoint
from baton.store.records import Collection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from collections.abc import Collection as Group

    from baton.binary_redis import BinaryRedis
    from baton.store.audit_entries import Caller
    from baton.store.conflicts import PendingConflicts
    from baton.store.heads import Head
    from baton.store.keys import SessionKeys
    from baton.store.reading import ContextReader

    LiveAgents = Callable[[Group[str]], Group[str]]

_COLLECT: Final = Script("baton.store", "collect")

MAX_RACES: Final = 8
CHUNKS_AT_ONCE: Final = 500
PINS_AT_ONCE: Final = 500
SCAN_COUNT: Final = 500
VERSIONS_AT_ONCE: Final = 200
AUTHOR_LIVES_SECONDS: Final = 24 * 3600.0
# A model's turn takes minutes, and what it read is the base of what it writes then.
YOUNG_SECONDS: Final = 600.0
MAX_YOUNG_FACTOR: Final = 20
RETRY_SECONDS: Final = 5.0
MAX_SESSIONS: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Version:
    """One kept version, or a pending revision (`conflict_id`), and its chunks' stored sizes."""

    name: str
    content_hash: str
    stored_sizes: Mapping[int, int]
    conflict_id: str = ""


@dataclass(frozen=True, slots=True)
class _Slice:
    """What one call of the script drops; the chunks are those that nothing left refers to."""

    dropped: list[_Version]
    chunks: list[int]
    pins: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Survey:
    """A session as it was when somebody looked. What is marked meanwhile moves its epoch."""

    head: Head
    history: list[tuple[str, str, float]]
    now_seconds: float
    pins: dict[bytes, bytes]
    authors: dict[bytes, bytes]
    tags: dict[bytes, bytes]
    conflicts: dict[bytes, bytes]
    checkpoints: list[bytes]


class Retention:
    """Collects what nothing needs: see `ContextStore.collect` for the contract.

    A version stays while it is among the newest `keep_versions`, or a tag, a checkpoint, a pin
    (an open handoff's, for one), a pending revision or a live agent's newest write names it.
    Every step of a collection is atomic, and happens only if the session has not changed since
    it was planned; so a crash leaves whole versions and no chunk that nothing refers to.

    Args:
        client: a binary client.
        reader: reads manifests.
        pending: reads pending revisions.
        caller: for the audit.
        keep_versions: so many of the newest stay whatever else.
        live_agents: of these agents, those that live; None: who wrote within a day.
    """

    def __init__(
        self,
        client: BinaryRedis,
        reader: ContextReader,
        pending: PendingConflicts,
        caller: Caller,
        *,
        keep_versions: int,
        live_agents: LiveAgents | None,
    ) -> None:
        self._redis = client
        self._reader = reader
        self._pending = pending
        self._caller = caller
        self.keep_versions = keep_versions
        self._live_agents = live_agents
        self._not_before: dict[str, float] = {}

    def is_due(self, version_count: int) -> bool:
        """Whether a session has so many versions that it pays to look which are needed."""
        return version_count > self.keep_versions + max(8, self.keep_versions // 4)

    def collect_if_due(self, keys: SessionKeys, agent_id: str, version_count: int) -> None:
        """Collect, where the session has so many versions that it pays, and not too often."""
        if not self.is_due(version_count):
            return
        now = time.monotonic()
        if now < self._not_before.get(keys.session_id, 0.0):
            return
        if len(self._not_before) >= MAX_SESSIONS:
            self._not_before.clear()
        self._not_before[keys.session_id] = now + RETRY_SECONDS
        self.collect(keys, agent_id, young_seconds=YOUNG_SECONDS)

    def collect(
        self,
        keys: SessionKeys,
        agent_id: str,
        *,
        young_seconds: float = 0.0,
        dry_run: bool = False,
    ) -> Collection:
        """Drop what nothing needs, or tell what would be dropped.

        Versions younger than `young_seconds` stay too, up to `MAX_YOUNG_FACTOR` times as many as
        are kept anyway: somebody may be writing on top of them.
        """
        dropped: list[_Slice] = []
        for _ in range(MAX_RACES):
            survey = self._survey(keys)
            try:
                slices, kept_count = self._plan(keys, survey, young_seconds)
            except ContextCorruptError:
                if self._reader.find_head(keys, keys.session_id) == survey.head:
                    raise
                continue  # another collection dropped what this one was about to read
            if dry_run:
                return _report(slices, kept_count, dry_run=True)
            done = self._drop(keys, survey, slices, agent_id)
            dropped += done
            if len(done) == len(slices):
                return _report(dropped, kept_count, dry_run=False)
        return _report(dropped, len(survey.history), dry_run=dry_run)

    # --- planning ------------------------------------------------------------------------------

    def _survey(self, keys: SessionKeys) -> _Survey:
        while True:
            head = self._reader.require_head(keys)
            # By SCAN: agents and open handoffs can be very many.
            pins, authors = (
                dict(self._redis.hscan_iter(name, count=SCAN_COUNT))
                for name in (keys.pins, keys.authors)
            )
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hget(keys.base, "head_etag")
            pipeline.zrevrange(keys.history, 0, -1, withscores=True)
            pipeline.time()
            pipeline.hgetall(keys.tags)
            pipeline.hgetall(keys.conflicts)
            pipeline.lrange(keys.checkpoints, 0, -1)
            etag, history, (seconds, microseconds), *marks = pipeline.execute()
            if etag == head.etag.encode():
                versions = [_member(*entry) for entry in history]
                now = seconds + microseconds / 1e6
                return _Survey(head, versions, now, pins, authors, *marks)

    def _plan(
        self, keys: SessionKeys, survey: _Survey, young_seconds: float
    ) -> tuple[list[_Slice], int]:
        pinned = self._pinned(keys, survey)
        dropped_names = {
            version
            for position, (version, _, at_seconds) in enumerate(survey.history)
            if position >= self.keep_versions
            and version not in pinned
            and (
                survey.now_seconds - at_seconds >= young_seconds
                or position >= self.keep_versions * MAX_YOUNG_FACTOR
            )
        }
        expired = _expired_conflicts(keys, survey)
        kept_count = len(survey.history) - len(dropped_names)
        expired_pins = _expired_pins(keys, survey)
        if not dropped_names and not expired:
            return list(_with_pins([], expired_pins)), kept_count
        versions = self._versions(keys, survey) + self._revisions(keys, survey)
        gone = [
            version
            for version in reversed(versions)
            if (version.conflict_id or version.name) in dropped_names | expired
        ]
        needed = {
            chunk_id
            for version in versions
            if version not in gone
            for chunk_id in version.stored_sizes
        }
        return list(_with_pins(_slices(gone, needed), expired_pins)), kept_count

    def _pinned(self, keys: SessionKeys, survey: _Survey) -> set[str]:
        pinned = {version.decode() for version in survey.tags.values()}
        pinned |= {decode_checkpoint(raw, keys).version for raw in survey.checkpoints}
        for raw in survey.pins.values():
            version, expires_at = decode_pin(raw, keys)
            if expires_at > survey.now_seconds:
                pinned.add(version)
        for conflict_id, raw in survey.conflicts.items():
            conflict = decode_conflict(conflict_id.decode(), raw, keys)
            if conflict.expires_at.timestamp() > survey.now_seconds:
                pinned |= {conflict.base_version, conflict.head_version}
        return pinned | self._versions_of_the_living(survey)

    def _versions_of_the_living(self, survey: _Survey) -> set[str]:
        newest = {agent.decode(): version.decode() for agent, version in survey.authors.items()}
        if self._live_agents is not None:
            living = self._live_agents(newest.keys())
            return {version for agent, version in newest.items() if agent in living}
        recent = {
            version
            for version, _, at_seconds in survey.history
            if survey.now_seconds - at_seconds < AUTHOR_LIVES_SECONDS
        }
        return recent.intersection(newest.values())

    def _versions(self, keys: SessionKeys, survey: _Survey) -> list[_Version]:
        """The newest first."""
        names = [version for version, _, _ in survey.history]
        manifests = self._reader.manifests(keys, keys.session_id, survey.head, names)
        return [
            _Version(name, hash_, stamped.manifest.stored_sizes)
            for (name, hash_, _), stamped in zip(survey.history, manifests, strict=True)
        ]

    def _revisions(self, keys: SessionKeys, survey: _Survey) -> list[_Version]:
        revisions = []
        for conflict_id in map(bytes.decode, survey.conflicts):
            opened = self._reader.find_revision(keys, survey.head, conflict_id)
            if opened is not None:
                sizes = opened.manifest.stored_sizes
                revisions.append(_Version("", "", sizes, conflict_id))
        return revisions

    # --- dropping ------------------------------------------------------------------------------

    def _drop(
        self, keys: SessionKeys, survey: _Survey, slices: list[_Slice], agent_id: str
    ) -> list[_Slice]:
        """Those that went: all, or those before the session changed."""
        epoch = survey.head.epoch
        for index, part in enumerate(slices):
            request = {
                "id": new_operation_id(),
                "expected_etag": survey.head.etag,
                "expected_epoch": epoch,
                "expected_next_chunk": str(survey.head.next_chunk),
                "agent": agent_id,
                "caller": self._caller.as_dict(),
                "versions": [[each.name, each.content_hash] for each in part.dropped if each.name],
                "conflicts": [each.conflict_id for each in part.dropped if each.conflict_id],
                "chunks": part.chunks,
                "pins": part.pins,
            }
            epoch = _COLLECT(self._redis, [keys.base], [json.dumps(request)]).decode()
            if not epoch:
                return slices[:index]
        return slices


def _slices(gone: list[_Version], needed: set[int]) -> Iterator[_Slice]:
    """The versions to drop, a bounded piece of work at a time.

    A chunk goes with the last of them that refers to it, so that those not yet dropped are whole.
    """
    last_user = {
        chunk_id: index for index, each in enumerate(gone) for chunk_id in each.stored_sizes
    }
    part = _Slice([], [])
    for index, version in enumerate(gone):
        chunks = [
            chunk_id
            for chunk_id in version.stored_sizes
            if last_user[chunk_id] == index and chunk_id not in needed
        ]
        full = len(part.chunks) + len(chunks) > CHUNKS_AT_ONCE
        if part.dropped and (full or len(part.dropped) >= VERSIONS_AT_ONCE):
            yield part
            part = _Slice([], [])
        part.dropped.append(version)
        part.chunks.extend(chunks)
    if part.dropped:
        yield part


def _with_pins(slices: Iterable[_Slice], pins: list[str]) -> Iterator[_Slice]:
    """The slices, each with some of the pins to drop, and as many more as it takes."""
    batches = (pins[at : at + PINS_AT_ONCE] for at in range(0, len(pins), PINS_AT_ONCE))
    for part, batch in zip_longest(slices, batches):
        yield replace(part or _Slice([], []), pins=batch or [])


def _report(slices: list[_Slice], kept_count: int, *, dry_run: bool) -> Collection:
    sizes: dict[int, int] = {}
    for part in slices:
        for version in part.dropped:
            sizes.update(version.stored_sizes)
    chunks = [chunk_id for part in slices for chunk_id in part.chunks]
    dropped = [version for part in slices for version in part.dropped]
    return Collection(
        versions=tuple(version.name for version in dropped if version.name),
        conflicts=tuple(version.conflict_id for version in dropped if version.conflict_id),
        chunk_count=len(chunks),
        stored_bytes=sum(sizes[chunk_id] for chunk_id in chunks),
        kept_versions=kept_count,
        dry_run=dry_run,
    )


def _member(member: bytes, at_seconds: float) -> tuple[str, str, float]:
    version, _, hash_ = member.decode("utf-8", "replace").partition(":")
    return version, hash_, at_seconds


def decode_pin(raw: bytes, keys: SessionKeys) -> tuple[str, float]:
    """The version pinned, and until when, in seconds since the epoch."""
    try:
        fields: Any = json.loads(raw)
        return str(fields["version"]), float(fields["expires_at"]) / 1000
    except (ValueError, KeyError, TypeError) as error:
        raise ContextCorruptError(
            f"session {keys.session_id}: a pin is not what was stored ({error!r})"
        ) from error


def _expired_pins(keys: SessionKeys, survey: _Survey) -> list[str]:
    return [
        name.decode()
        for name, raw in survey.pins.items()
        if decode_pin(raw, keys)[1] <= survey.now_seconds
    ]


def _expired_conflicts(keys: SessionKeys, survey: _Survey) -> set[str]:
    return {
        conflict_id.decode()
        for conflict_id, raw in survey.conflicts.items()
        if decode_conflict(conflict_id.decode(), raw, keys).expires_at.timestamp()
        <= survey.now_seconds
    }
