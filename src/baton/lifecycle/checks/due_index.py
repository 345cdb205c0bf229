"""Whether the due index knows the sessions that are here, and none that are gone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from baton.errors import ContextCorruptError
from baton.lifecycle.findings import Finding
from baton.lifecycle.states import DAY_MS, HOUR_MS
from baton.redis_client import redis_errors, require_binary
from baton.store.keys import VERSION_PATTERN, SessionKeys
from baton.store.scanning import scan_sessions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from baton.lifecycle.due_index import DueIndex
    from baton.lifecycle.facts import SessionFactsReader
    from baton.lifecycle.states import SessionFacts
    from baton.lifecycle.sweep_board import SweepBoard

# The sweep that makes new sessions known.
RECONCILE: Final = "reconcile"
PERIODS: Final = 2
# Entries of sessions that are gone are dropped when their time comes; this is how late that may be.
OVERDUE_MS: Final = HOUR_MS


class DueIndexCheck:
    """Compares the index with the sessions.

    Args:
        redis_client: a binary client.
        facts: tells which sessions are here.
        index: when to look at which.
        board: tells how often sessions become known to it.
    """

    kinds: Final = {
        "unknown_session": "Sessions that the due index does not know: they would never age.",
        "index_leftover": "Entries of the due index that no session is left of.",
    }

    def __init__(
        self,
        redis_client: redis.Redis,
        facts: SessionFactsReader,
        index: DueIndex,
        board: SweepBoard,
    ) -> None:
        self._redis = require_binary(redis_client)
        self._facts = facts
        self._index = index
        self._board = board

    def find(self) -> Iterator[Finding]:
        """See `Check.find`."""
        now_ms = self._facts.now_ms()
        yield from self._unknown(now_ms)
        yield from self._leftovers(now_ms)

    def _unknown(self, now_ms: int) -> Iterator[Finding]:
        known_after_ms = self._known_after_ms()
        with redis_errors(self._redis):
            for batch in scan_sessions(self._redis, VERSION_PATTERN):
                unknown = self._index.unknown(batch)
                for session_id, began_ms in self._began_ms(unknown).items():
                    if now_ms - began_ms > known_after_ms:
                        yield Finding(
                            "unknown_session", session_id, "is not known to the due index",
                            "has the next sweep `age` look at it",
                            partial(self._enter, session_id, now_ms),
                        )  # fmt: skip

    def _leftovers(self, now_ms: int) -> Iterator[Finding]:
        longest_ms = max(self._facts.durations.archive_ms, DAY_MS) + OVERDUE_MS
        for batch in self._index.entries():
            # What is not due yet is dropped when it is.
            odd = {
                session_id
                for session_id, at_ms in batch
                if now_ms - at_ms > OVERDUE_MS or at_ms - now_ms > longest_ms
            }
            for facts in self._readable(sorted(odd)):
                if not facts.exists or facts.archived_at_ms is not None:
                    yield Finding(
                        "index_leftover", facts.session_id,
                        "is in the due index, and not here any more", "drops the entry",
                        partial(self._drop, facts.session_id),
                    )  # fmt: skip

    def _began_ms(self, session_ids: list[str]) -> dict[str, int]:
        """When each session began, or came back from the archive; of those that are here."""
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in session_ids:
            keys = SessionKeys.of(session_id)
            pipeline.hmget(keys.base, ["state", "archived", "created_at", "restored_by"])
            pipeline.hget(keys.metadata, "updated_at")
        answers = pipeline.execute()
        found = {}
        for session_id, container, updated_at in zip(
            session_ids, answers[::2], answers[1::2], strict=True
        ):
            state, archived, created_at, restored_by = container
            if state == b"live" and archived != b"1":
                began_at = updated_at if restored_by else created_at
                found[session_id] = int(began_at or 0)
        return found

    def _known_after_ms(self) -> int:
        """How long a session may be unknown: new ones wait for the sweep that finds them."""
        periods = [each.period_seconds for each in self._board.list() if each.name == RECONCILE]
        return round(PERIODS * periods[0] * 1000) if periods else DAY_MS

    def _readable(self, session_ids: list[str]) -> Iterator[SessionFacts]:
        try:
            yield from self._facts.read(session_ids)
        except ContextCorruptError:
            if len(session_ids) > 1:
                for session_id in session_ids:
                    yield from self._readable([session_id])

    def _enter(self, session_id: str, now_ms: int) -> bool:
        self._index.add_new([session_id], now_ms)
        return True

    def _drop(self, session_id: str) -> bool:
        (facts,) = self._facts.read([session_id])
        if facts.exists and facts.archived_at_ms is None:
            return False
        self._index.drop([session_id])
        return True
