"""Whether new handoffs are taken: while few enough are open, and Redis has memory for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.errors import HandoffBacklogError
from baton.handoff.keys import OPEN, HandoffKeys
from baton.memory_room import MemoryRoom
from baton.redis_client import redis_errors, require_binary
from baton.store.keys import SessionKeys

if TYPE_CHECKING:
    import redis


class Admission:
    """Back-pressure for those who submit. What was accepted, its children and joins, goes on.

    Args:
        client: a binary client of the store.
        max_open: while so many handoffs have not ended, no more are taken.
        memory_share: nor while Redis uses more than this share of its memory limit.
    """

    def __init__(self, client: redis.Redis, *, max_open: int, memory_share: float) -> None:
        self._redis = require_binary(client)
        self._max_open = max_open
        self._memory = MemoryRoom(client, memory_share)

    def require_room(self, handoff_id: str, session_id: str) -> None:
        """Do nothing while there is room for this handoff.

        Raises:
            HandoffBacklogError: too many are open; racing submissions may pass the bound by as
                many.
            StoreFullError: memory runs short.
        """
        with redis_errors(self._redis):
            count = self._redis.zcard(OPEN)
        if count >= self._max_open:
            raise HandoffBacklogError(
                f"{count} handoffs are open, and {self._max_open} may be; "
                "submit again when some have ended"
            )
        self.require_memory(handoff_id, session_id)

    def require_memory(self, handoff_id: str, session_id: str) -> None:
        """Do nothing while Redis has memory for this handoff, new or to go on.

        Raises:
            StoreFullError: it runs short.
        """
        self._memory.require(HandoffKeys.of(handoff_id).base, SessionKeys.of(session_id).base)
