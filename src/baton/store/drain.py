"""Drains notes of reads into metadata and audit; the sweep's side of `AccessNotes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.redis_client import redis_errors, require_binary
from baton.scripts import Script
from baton.store.keys import ACCESS_PATTERN, SessionKeys, session_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from baton.store.contexts import ContextStore

_DRAIN: Final = Script("baton.store", "drain_access")

NOTES_AT_ONCE: Final = 500
SCAN_COUNT: Final = 1_000


class AccessDrain:
    """Moves notes of reads to where they count. Any number may run at once."""

    def __init__(self, redis_client: redis.Redis, store: ContextStore) -> None:
        self._redis = require_binary(redis_client)
        self._store = store

    def drain_all(self) -> int:
        """Drain every session that has notes; the notes taken.

        Raises:
            StoreUnavailableError: Redis did not answer; what was drained stays drained.
        """
        return sum(self.drain(session_id) for session_id in self._noted_sessions())

    def drain(self, session_id: str) -> int:
        """Drain one session: last access, audit entries, expiry; the notes taken.

        Raises:
            StoreUnavailableError: Redis did not answer.
        """
        keys = SessionKeys.of(session_id)
        total, left, refresh_due = 0, 1, 0
        with redis_errors(self._redis):
            while left > 0:
                taken, left, due = _DRAIN(
                    self._redis, [keys.base], [NOTES_AT_ONCE, self._store.backstop_ms]
                )
                total += taken
                refresh_due |= due
        if refresh_due:
            self._store.refresh_expiry(session_id)
        return total

    def _noted_sessions(self) -> Iterator[str]:
        with redis_errors(self._redis):
            batch: list[bytes] = []
            for key in self._redis.scan_iter(match=ACCESS_PATTERN, count=SCAN_COUNT):
                batch.append(key)
                if len(batch) >= SCAN_COUNT:
                    yield from self._with_notes(batch)
                    batch = []
            yield from self._with_notes(batch)

    def _with_notes(self, keys: list[bytes]) -> Iterator[str]:
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.llen(key)
        for key, length in zip(keys, pipeline.execute() if keys else (), strict=True):
            session_id = session_id_of(key)
            if session_id is not None and length > 1:
                yield session_id
