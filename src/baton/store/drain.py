"""Drains notes of reads into metadata and audit; the sweep's side of `AccessNotes`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from baton.errors import UnexpectedAnswerError
from baton.redis_client import redis_errors, require_binary
from baton.scripts import Script
from baton.store.keys import ACCESS_PATTERN, SessionKeys
from baton.store.scanning import scan_sessions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from baton.store.contexts import ContextStore

logger = logging.getLogger(__name__)

_DRAIN: Final = Script("baton.store", "drain_access")

NOTES_AT_ONCE: Final = 50  # 1 to 3 ms of the server where all of them differ


class AccessDrain:
    """Moves notes to where they count. Any number may run at once.

    Sessions with notes are found by SCAN over all keys of the server. An index of the sessions,
    when there is one, will take its place.
    """

    def __init__(self, redis_client: redis.Redis, store: ContextStore) -> None:
        self._redis = require_binary(redis_client)
        self._store = store

    def drain_all(self) -> int:
        """Drain every session that has notes; the notes taken.

        A session with a key that is not ours is left as it is, and named in the log.

        Raises:
            StoreUnavailableError: Redis did not answer; what was drained stays drained.
        """
        total = 0
        for session_id in self._noted_sessions():
            try:
                total += self.drain(session_id)
            except UnexpectedAnswerError as error:
                logger.warning("notes of reads of session %s stay: %s", session_id, error)
        return total

    def drain(self, session_id: str) -> int:
        """Drain one session: last access, audit entries, expiry; the notes taken.

        Raises:
            StoreUnavailableError: Redis did not answer.
            UnexpectedAnswerError: a key of the session is not ours; the notes are still there.
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
            for session_ids in scan_sessions(self._redis, ACCESS_PATTERN):
                yield from self._with_notes(session_ids)

    def _with_notes(self, session_ids: list[str]) -> Iterator[str]:
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in session_ids:
            pipeline.llen(SessionKeys.of(session_id).access)
        lengths = pipeline.execute(raise_on_error=False)
        for session_id, length in zip(session_ids, lengths, strict=True):
            # An error is yielded as well: the drain of that session meets it again and reports it.
            if length not in (0, 1):
                yield session_id
