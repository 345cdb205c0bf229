"""Looks after open handoffs: what is due is published again, what has ended leaves the list."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from baton.errors import BrokerUnavailableError, PermanentError
from baton.failpoints import reach

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.handoff.claims import Move
    from baton.handoff.dispatcher import Dispatcher
    from baton.handoff.tree import HandoffTree

logger = logging.getLogger(__name__)

SWEEP_LOOKS: Final = 64
SWEEP_BATCH: Final = 200
UNOPENED_SECONDS: Final = 600.0


class TreeSweep:
    """Sweeps handoffs, and publishes what follows from a change of one.

    Args:
        tree: of all handoffs.
        dispatcher: takes the messages.
    """

    def __init__(self, tree: HandoffTree, dispatcher: Dispatcher) -> None:
        self._tree = tree
        self._dispatcher = dispatcher

    def sweep(self) -> int:
        """Look after every open handoff; how many messages were published again."""
        reach("sweep.begun")
        backlog = self._dispatcher.backlog() > 0
        published = 0
        for handoff_id, age_seconds in self._tree.open_ages():
            try:
                state, moved = self.sweep_one(handoff_id, backlog=backlog)
            except PermanentError:
                logger.exception("handoff %s cannot be swept; the others are", handoff_id)
                continue
            published += moved
            ended = state not in ("running", "joining", "gone")
            if ended or (state == "gone" and age_seconds > UNOPENED_SECONDS):
                reach("sweep.closing")
                self._tree.close(handoff_id)
        return published

    def sweep_one(self, handoff_id: str, *, backlog: bool) -> tuple[str, int]:
        """Look at all that is due in one handoff; its state, and the messages published.

        It stops at a batch of messages, so that an outage is not followed by a storm; but not at
        a number of looks, so that nodes in a long queue do not hide one whose worker was lost.
        """
        published, seen = 0, SWEEP_LOOKS
        while seen == SWEEP_LOOKS and published < SWEEP_BATCH:
            state, moves, seen = self._tree.sweep(handoff_id, limit=SWEEP_LOOKS, backlog=backlog)
            reach("sweep.moved")
            self.publish(handoff_id, moves)
            reach("sweep.published")
            published += len(moves)
        return state, published

    def publish(self, handoff_id: str, moves: Sequence[Move]) -> None:
        """Publish what follows. What the broker does not take, the sweep publishes."""
        nodes = [move.node_id for move in moves if move.kind in ("run", "next")]
        kinds = {move.kind for move in moves}
        try:
            if nodes:
                self._dispatcher.run(handoff_id, nodes)
            if "start" in kinds:
                self._dispatcher.start(handoff_id)
            if "join" in kinds:
                self._dispatcher.join(handoff_id)
            if "cancel" in kinds:
                self._tree.end_stopped(handoff_id)
        except BrokerUnavailableError as error:
            logger.warning("handoff %s: left to the sweep: %s", handoff_id, error)
