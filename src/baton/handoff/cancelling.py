"""How a handoff, or a part of one, is cancelled: waiting nodes end, permits are waited for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from baton.errors import InvalidInputError
from baton.failpoints import reach
from baton.handoff.accounts import SEND_WITHIN_SECONDS
from baton.handoff.claims import decode_moves
from baton.handoff.keys import HandoffKeys
from baton.handoff.outcome import unknown_handoff
from baton.redis_client import redis_errors, redis_seconds
from baton.scripts import Script

if TYPE_CHECKING:
    from baton.binary_redis import BinaryRedis
    from baton.handoff.claims import Move

_CANCEL: Final = Script("baton.handoff", "cancel")

CANCEL_SLICE: Final = 32
PERMIT_POLL_SECONDS: Final = 0.05


class TreeCancelling:
    """What cancels handoffs. See `HandoffTree`."""

    _redis: BinaryRedis

    def cancel(self, handoff_id: str, node_id: str | None = None) -> tuple[str, tuple[Move, ...]]:
        """Cancel: none of it is claimed from now on, waiting nodes have ended.

        No paid call is sent after the return: it waits until every permit that was given before
        is settled or over, at most `SEND_WITHIN_SECONDS`.

        Args:
            handoff_id: the handoff.
            node_id: only this node, and all below it; None: all of it.

        Returns:
            The handoff's state (`running` where leased nodes have yet to notice, or others go
            on), and what is to be published.

        Raises:
            HandoffNotFoundError: it does not exist or has expired.
            InvalidInputError: it has no such node.
        """
        keys = HandoffKeys.of(handoff_id)
        root = node_id or ""
        with redis_errors(self._redis):
            state, moves = self._cancel_waiting(keys, root)
            if state == b"gone":
                raise unknown_handoff(handoff_id)
            if state == b"unknown":
                raise InvalidInputError("node_id", "a node of the handoff", root)
            reach("cancel.sliced")
            self._await_permits(keys)
        return state.decode(), moves

    def end_stopped(self, handoff_id: str) -> None:
        """End the waiting nodes of a handoff that stopped by itself: nobody asks for a receipt."""
        with redis_errors(self._redis):
            self._cancel_waiting(HandoffKeys.of(handoff_id), "")

    def _cancel_waiting(self, keys: HandoffKeys, root: str) -> tuple[bytes, tuple[Move, ...]]:
        """End the waiting nodes, a slice a call; the handoff's state then, and what follows."""
        moves: list[Move] = []
        state, cursor = b"running", b"queue"
        while state == b"running" and cursor != b"end":
            state, cursor, published = _CANCEL(
                self._redis, [keys.base], [CANCEL_SLICE, cursor, root]
            )
            reach("cancel.marked")
            moves.extend(decode_moves(published))
        return state, tuple(moves)

    def _await_permits(self, keys: HandoffKeys) -> None:
        """Until no worker may send a call by a permit that it was given so far."""
        last_send_at = self._redis.hget(keys.base, "last_send_at")
        if last_send_at is None:
            return
        left_seconds = int(last_send_at) / 1000 - redis_seconds(self._redis)
        # By our own clock from here on, and no longer than any permit: Redis' may be set back.
        give_up_at = time.monotonic() + min(left_seconds, SEND_WITHIN_SECONDS)
        while time.monotonic() < give_up_at and self._redis.hlen(keys.permits):
            time.sleep(PERMIT_POLL_SECONDS)
