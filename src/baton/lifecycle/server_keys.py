"""Keys of the server, in slices: whose they are, when they run out, which are orphans."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from baton.archive.report import KEEP_MS as REPORT_MS
from baton.handoff.keys import INDEX_RETENTION_MS
from baton.lifecycle.due_index import KEEP_MS as DUE_INDEX_MS
from baton.lifecycle.states import HOUR_MS
from baton.lifecycle.sweep_board import KEEP_SECONDS as SWEEP_SECONDS
from baton.metrics.tally import KEEP_SECONDS as METRICS_SECONDS
from baton.redis_client import redis_errors
from baton.store.keys import SessionKeys, session_id_of
from baton.store.scanning import SCAN_COUNT
from baton.swarm.pools import FORGET_SECONDS
from baton.swarm.registry import RETENTION_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from baton.binary_redis import BinaryRedis

# Chunks outlive the names of a session that runs out by less than this.
RUNNING_OUT_MS: Final = 3 * HOUR_MS
EVERY_KEY: Final = "*:*"

# What outlives a session's container, and has an expiry of its own.
_SURVIVORS: Final = frozenset({":audit", ":audit_state", ":audit_seals", ":deleted", ":purged"})
STAGING: Final = ":staging:"
NO_EXPIRY: Final = -1
# Beginning of a key -> the longest that one of them is kept, in ms.
_LIVES_MS: Final[Mapping[str, int]] = {
    "agents:": RETENTION_SECONDS * 1000,
    "locks:": 24 * HOUR_MS,
    "handoff:": INDEX_RETENTION_MS,
    "handoffs:": INDEX_RETENTION_MS,
    "lifecycle:": DUE_INDEX_MS,
    "sweep:": SWEEP_SECONDS * 1000,
    "pools:": int(FORGET_SECONDS * 1000),
    "models:": 24 * HOUR_MS,
    "metrics:": METRICS_SECONDS * 1000,
    "archive:": REPORT_MS,
    "health:": 60_000,
}


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A key, as it was looked at.

    Attributes:
        pttl: as the server answers it.
        life_ms: the longest that one of its kind is kept, where it is no session's.
        suffix: what stands behind its session's base key.
    """

    name: bytes
    pttl: int
    life_ms: int = 0
    session_id: str | None = None
    suffix: str = ""
    has_container: bool = False
    is_held: bool = False

    @property
    def is_orphan(self) -> bool:
        """Whether it belongs to a session that is gone, and does not run out after it."""
        if self.session_id is None or self.has_container or self.suffix in _SURVIVORS:
            return False
        if self.suffix.startswith(STAGING):
            return self.pttl == NO_EXPIRY
        return self.pttl == NO_EXPIRY or self.pttl > RUNNING_OUT_MS

    @property
    def lacks_expiry(self) -> bool:
        """Whether it would stay for ever, and should not."""
        if self.pttl != NO_EXPIRY or self.is_orphan:
            return False
        return not self.is_held or self.suffix in _SURVIVORS or self.suffix.startswith(STAGING)


class ServerKeys:
    """Reads keys of ours. It changes nothing. Raises StoreUnavailableError.

    Args:
        client: a binary client.
    """

    def __init__(self, client: BinaryRedis) -> None:
        self._redis = client

    def slices(self, pattern: str = EVERY_KEY) -> Iterator[list[bytes]]:
        """Names of keys of ours, at most five hundred at a time."""
        names: list[bytes] = []
        with redis_errors(self._redis):
            for name in self._redis.scan_iter(match=pattern, count=SCAN_COUNT):
                if session_id_of(name) is not None or life_ms_of(name) is not None:
                    names.append(name)
                if len(names) >= SCAN_COUNT:
                    yield names
                    names = []
        yield names

    def look_at(self, names: list[bytes]) -> list[ServerKey]:
        """The keys that are still there, with what their sessions' containers say."""
        sessions = {session_id_of(name) for name in names} - {None}
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.pttl(name)
        for session_id in sessions:
            pipeline.hmget(SessionKeys.of(session_id).base, ["state", "hold"])
        with redis_errors(self._redis):
            answers = pipeline.execute()
        states = dict(zip(sessions, answers[len(names) :], strict=True))
        return [
            _server_key(name, pttl, states)
            for name, pttl in zip(names, answers, strict=False)
            if pttl >= NO_EXPIRY
        ]

    def still_orphans(self, session_id: str, keys: list[ServerKey]) -> list[ServerKey]:
        """Those that are at one instant: a session may be deleted, and begun anew, between two."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.exists(SessionKeys.of(session_id).base)
        for key in keys:
            pipeline.pttl(key.name)
        with redis_errors(self._redis):
            has_container, *lives = pipeline.execute()
        if has_container:
            return []
        looked_at = zip(keys, lives, strict=True)
        return [key for key, pttl in looked_at if replace(key, pttl=pttl).is_orphan]


def _server_key(name: bytes, pttl: int, states: Mapping[Any, list[bytes | None]]) -> ServerKey:
    session_id = session_id_of(name)
    if session_id is None:
        return ServerKey(name, pttl, life_ms_of(name) or 0)
    state, hold = states[session_id]
    suffix = name.decode()[len(SessionKeys.of(session_id).base) :]
    return ServerKey(name, pttl, 0, session_id, suffix, state is not None, hold is not None)


def by_session(keys: Iterable[ServerKey]) -> dict[str, list[ServerKey]]:
    """Those of sessions, by their session."""
    found: dict[str, list[ServerKey]] = {}
    for key in keys:
        if key.session_id is not None:
            found.setdefault(key.session_id, []).append(key)
    return found


def life_ms_of(name: bytes) -> int | None:
    """The longest that a key of that kind is kept, of keys that are no session's."""
    family = name.partition(b":")[0].decode("utf-8", "replace") + ":"
    return _LIVES_MS.get(family)
