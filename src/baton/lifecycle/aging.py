"""Ages sessions: looks at those whose time has come, and has the long unused archived."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from baton.errors import BatonError, ContextCorruptError, PermanentError
from baton.lifecycle.states import HOUR_MS
from baton.redis_client import redis_errors, require_binary
from baton.store.keys import VERSION_PATTERN
from baton.store.scanning import scan_sessions

if TYPE_CHECKING:
    import redis

    from baton.lifecycle.due_index import DueIndex
    from baton.lifecycle.facts import SessionFactsReader
    from baton.lifecycle.states import SessionFacts
    from baton.lifecycle.sweep_board import SweepRun
    from baton.store.contexts import ContextStore
    from baton.store.drain import AccessDrain

logger = logging.getLogger(__name__)

# How long a session that should be archived may stay unarchived until it is looked at again.
LOOK_AGAIN_MS: Final = HOUR_MS


class Aging:
    """Finds sessions whose state changes. Any number may run at once.

    Args:
        redis_client: a binary client.
        store: the contexts.
        drain: takes notes of reads off a session before it is judged.
        facts: tells what decides a session's state.
        index: when to look at which session.
    """

    def __init__(
        self,
        redis_client: redis.Redis,
        store: ContextStore,
        drain: AccessDrain,
        facts: SessionFactsReader,
        index: DueIndex,
    ) -> None:
        self._redis = require_binary(redis_client)
        self._store = store
        self._drain = drain
        self._facts = facts
        self._index = index

    def age(self, run: SweepRun | None = None) -> int:
        """Look at every session whose time has come; how many are to be archived from now on.

        Takes memory in proportion to a batch. Stopped half-way, it has lost nothing: those that it
        has not looked at are still due.

        Raises:
            StoreUnavailableError: Redis did not answer.
        """
        due, seen = 0, 0
        now_ms = self._facts.now_ms()
        for batch in self._index.due(now_ms):
            due += self._look_at(batch, now_ms)
            seen += len(batch)
            if run is not None:
                run.progress(seen)
                if run.lost:
                    break
        return due

    def reconcile(self, run: SweepRun | None = None) -> int:
        """Find sessions that the index does not know, by SCAN; how many sessions there are.

        Sessions are put into the index as due, and the next `age` looks at them.
        """
        seen = 0
        now_ms = self._facts.now_ms()
        with redis_errors(self._redis):
            for batch in scan_sessions(self._redis, VERSION_PATTERN):
                self._index.add_new(batch, now_ms)
                seen += len(batch)
                if run is not None:
                    run.progress(seen)
                    if run.lost:
                        break
        return seen

    def _look_at(self, session_ids: list[str], now_ms: int) -> int:
        gone, next_look, due = [], {}, {}
        for facts in self._facts_of(session_ids):
            if facts.has_notes:
                facts = self._drained(facts, now_ms)  # noqa: PLW2901  # the same session, looked at anew
            if not facts.exists or facts.archived_at_ms is not None:
                gone.append(facts.session_id)
            elif facts.is_due(now_ms):
                due[facts.session_id] = facts.accessed_at_ms + facts.durations.archive_ms
                next_look[facts.session_id] = now_ms + self._look_again_ms(facts)
                self._outlive(facts)
            else:
                next_look[facts.session_id] = facts.next_change_ms(now_ms) or now_ms + LOOK_AGAIN_MS
        self._index.drop(gone)
        self._index.archive(due)
        self._index.look_at(next_look)
        return len(due)

    def _facts_of(self, session_ids: list[str]) -> list[SessionFacts]:
        try:
            return self._facts.read(session_ids)
        except ContextCorruptError:
            # One by one, so that a damaged session holds up no other.
            return [facts for each in session_ids for facts in self._readable(each)]

    def _readable(self, session_id: str) -> list[SessionFacts]:
        try:
            return self._facts.read([session_id])
        except ContextCorruptError as error:
            logger.warning("%s; it is left as it is", error)
            self._index.look_at({session_id: self._facts.now_ms() + LOOK_AGAIN_MS})
            return []

    def _drained(self, facts: SessionFacts, now_ms: int) -> SessionFacts:
        """The session's facts with what its readers noted."""
        try:
            self._drain.drain(facts.session_id)
        except PermanentError as error:
            logger.warning("session %s: notes of reads stay: %s", facts.session_id, error)
            return replace(facts, accessed_at_ms=now_ms, has_notes=False)
        (fresh,) = self._facts.read([facts.session_id])
        return replace(fresh, has_notes=False)

    def _look_again_ms(self, facts: SessionFacts) -> int:
        return min(LOOK_AGAIN_MS, max(1_000, facts.durations.archive_ms))

    def _outlive(self, facts: SessionFacts) -> None:
        """While an archive is away or fails, what waits for it must not run out."""
        left_ms = facts.expires_in_ms
        if left_ms is None or left_ms > self._store.backstop_ms / 2:
            return
        try:
            self._store.refresh_expiry(facts.session_id)
        except BatonError as error:
            logger.warning("session %s: its expiry was not moved: %s", facts.session_id, error)
