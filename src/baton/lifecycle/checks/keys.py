"""Keys that belong to no session, and keys that would stay for ever."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from baton.archive.report import KEEP_MS as REPORT_MS
from baton.handoff.keys import INDEX_RETENTION_MS
from baton.lifecycle.due_index import KEEP_MS as DUE_INDEX_MS
from baton.lifecycle.findings import Finding
from baton.lifecycle.states import DAY_MS, HOUR_MS
from baton.lifecycle.sweep_board import KEEP_SECONDS as SWEEP_SECONDS
from baton.metrics.tally import KEEP_SECONDS as METRICS_SECONDS
from baton.redis_client import redis_errors, require_binary
from baton.store.keys import SessionKeys, session_id_of
from baton.store.scanning import SCAN_COUNT
from baton.swarm.pools import FORGET_SECONDS
from baton.swarm.registry import RETENTION_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import redis

    from baton.store.mending import KeyMending

# Longer than any write, restore or deletion takes from its first key to its last.
UNTOUCHED_SECONDS: Final = 3_600
# Chunks outlive the names of a session that runs out by less than this.
RUNNING_OUT_MS: Final = 3 * HOUR_MS
MOST_NAMED: Final = 3

# What outlives a session's container, and has an expiry of its own.
_SURVIVORS: Final = frozenset({":audit", ":audit_state", ":audit_seals", ":deleted", ":purged"})
_STAGING: Final = ":staging:"
_NO_EXPIRY: Final = -1
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
class _Key:
    """A key of a slice.

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
        if self.suffix.startswith(_STAGING):
            return self.pttl == _NO_EXPIRY
        return self.pttl == _NO_EXPIRY or self.pttl > RUNNING_OUT_MS

    @property
    def lacks_expiry(self) -> bool:
        """Whether it would stay for ever, and should not."""
        if self.pttl != _NO_EXPIRY or self.is_orphan:
            return False
        return not self.is_held or self.suffix in _SURVIVORS or self.suffix.startswith(_STAGING)


class KeyCheck:
    """Looks at every key of the server, a slice at a time.

    Args:
        redis_client: a binary client.
        mending: of keys.
    """

    kinds: Final = {
        "orphan_keys": "Keys of a session without a container: nobody can read or end them.",
        "no_expiry": "Keys that would stay for ever, and are not under hold.",
    }

    def __init__(self, redis_client: redis.Redis, mending: KeyMending) -> None:
        self._redis = require_binary(redis_client)
        self._mending = mending

    def find(self) -> Iterator[Finding]:
        """See `Check.find`."""
        for names in self._slices():
            with redis_errors(self._redis):
                keys = self._look_at(names)
                lacking = self._still_lacking([key for key in keys if key.lacks_expiry])
            yield from self._orphans([key for key in keys if key.is_orphan])
            yield from self._without_expiry(lacking)

    def _slices(self) -> Iterator[list[bytes]]:
        """Names of keys of ours, at most a thousand at a time."""
        names: list[bytes] = []
        with redis_errors(self._redis):
            for name in self._redis.scan_iter(match="*:*", count=SCAN_COUNT):
                if session_id_of(name) is not None or _life_ms(name) is not None:
                    names.append(name)
                if len(names) >= SCAN_COUNT:
                    yield names
                    names = []
        yield names

    def _look_at(self, names: list[bytes]) -> list[_Key]:
        """The keys that are still there, with what their sessions' containers say."""
        sessions = {session_id_of(name) for name in names} - {None}
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.pttl(name)
        for session_id in sessions:
            pipeline.hmget(SessionKeys.of(session_id).base, ["state", "hold"])
        answers = pipeline.execute()
        states = dict(zip(sessions, answers[len(names) :], strict=True))
        return [
            _key(name, pttl, states)
            for name, pttl in zip(names, answers, strict=False)
            if pttl >= _NO_EXPIRY
        ]

    def _still_orphans(self, session_id: str, keys: list[_Key]) -> list[_Key]:
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

    def _untouched_seconds(self, keys: list[_Key]) -> int:
        """For how long nobody has used any of them; 0 where the server does not tell."""
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.execute_command("OBJECT", "IDLETIME", key.name)
        with redis_errors(self._redis):
            answers = pipeline.execute(raise_on_error=False)
        return min(idle if isinstance(idle, int) else 0 for idle in answers)

    def _still_lacking(self, keys: list[_Key]) -> list[_Key]:
        """Some keys are given their expiry right behind their first value."""
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.pttl(key.name)
        again = pipeline.execute()
        return [key for key, pttl in zip(keys, again, strict=True) if pttl == _NO_EXPIRY]

    def _orphans(self, keys: list[_Key]) -> Iterator[Finding]:
        for session_id, suspects in _by_session(keys).items():
            orphans = self._still_orphans(session_id, suspects)
            if not orphans:
                continue
            untouched = self._untouched_seconds(orphans)
            suffixes = [key.suffix for key in orphans]
            found = partial(
                Finding,
                "orphan_keys",
                session_id,
                f"has no container, but {_named(suffixes)}",
            )
            if untouched < UNTOUCHED_SECONDS:
                yield found(
                    f"they were used {untouched} s ago: somebody may be at work with them; what "
                    "nobody has used for an hour is dropped"
                )
            else:
                mend = partial(self._drop, session_id, suffixes)
                yield found("drops them: without the container nothing can be read from them", mend)

    def _without_expiry(self, keys: list[_Key]) -> Iterator[Finding]:
        for key in keys:
            if key.session_id is None:
                name = key.name.decode("utf-8", "replace")
                yield Finding(
                    "no_expiry", name, "has no expiry",
                    f"has it expire in {key.life_ms / DAY_MS:.3g} days",
                    partial(self._mending.expire, name, key.life_ms),
                )  # fmt: skip
        for session_id, lacking in _by_session(keys).items():
            suffixes = sorted(key.suffix for key in lacking)  # the container first
            yield Finding(
                "no_expiry", session_id, f"has no expiry on {_named(suffixes)}",
                "gives them the one that the session has, or should have",
                partial(self._expire, session_id, suffixes),
            )  # fmt: skip

    def _drop(self, session_id: str, suffixes: list[str]) -> bool:
        return bool(self._mending.drop_orphans(SessionKeys.of(session_id), suffixes))

    def _expire(self, session_id: str, suffixes: list[str]) -> bool:
        return bool(self._mending.expire_session(SessionKeys.of(session_id), suffixes))


def _key(name: bytes, pttl: int, states: Mapping[Any, list[bytes | None]]) -> _Key:
    session_id = session_id_of(name)
    if session_id is None:
        return _Key(name, pttl, _life_ms(name) or 0)
    state, hold = states[session_id]
    suffix = name.decode()[len(SessionKeys.of(session_id).base) :]
    return _Key(name, pttl, 0, session_id, suffix, state is not None, hold is not None)


def _by_session(keys: Iterable[_Key]) -> dict[str, list[_Key]]:
    found: dict[str, list[_Key]] = {}
    for key in keys:
        if key.session_id is not None:
            found.setdefault(key.session_id, []).append(key)
    return found


def _life_ms(name: bytes) -> int | None:
    """The longest that a key of that kind is kept, of keys that are no session's."""
    family = name.partition(b":")[0].decode("utf-8", "replace") + ":"
    return _LIVES_MS.get(family)


def _named(suffixes: list[str]) -> str:
    """A few by name, and how many more."""
    shown = [suffix.removeprefix(":") or "the container" for suffix in suffixes[:MOST_NAMED]]
    more = len(suffixes) - len(shown)
    return f"{', '.join(shown)} and {more} more" if more else ", ".join(shown)
