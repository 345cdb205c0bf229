"""A handle on one handoff: follow it, cancel it, collect what came of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from baton.errors import BrokerUnavailableError
from baton.ids import check_node_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from baton.agents.handoff_package import HandoffPackage
    from baton.handoff.accounts import Account, Accounts
    from baton.handoff.claims import Move
    from baton.handoff.dispatcher import Dispatcher
    from baton.handoff.outcome import NodeRecord, Outcome
    from baton.handoff.packages import Acknowledgement
    from baton.handoff.tree import HandoffTree
    from baton.handoff.view import Event, HandoffView

logger = logging.getLogger(__name__)


class Handoff:
    """A handle on one handoff. Every method may raise HandoffNotFoundError once it has expired."""

    def __init__(
        self,
        handoff_id: str,
        tree: HandoffTree,
        view: HandoffView,
        accounts: Accounts,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        self.handoff_id = handoff_id
        self._tree = tree
        self._view = view
        self._accounts = accounts
        self._dispatcher = dispatcher

    def outcome(self) -> Outcome:
        """The state now, final or not."""
        return self._view.outcome(self.handoff_id)

    def nodes(self) -> list[NodeRecord]:
        """All nodes in slot order, children behind their parents."""
        return self._view.nodes(self.handoff_id)

    def events(self, after: str = "0-0", timeout_seconds: float | None = None) -> Iterator[Event]:
        """Events from `after` on, as they happen, until the handoff has ended.

        Raises:
            TimeoutError: it had not ended in time.
        """
        return self._view.watch(self.handoff_id, after, timeout_seconds=timeout_seconds)

    def wait(
        self,
        timeout_seconds: float | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Outcome:
        """Wait until the handoff has ended; its outcome.

        Raises:
            TimeoutError: it had not ended in time; it goes on.
        """
        for event in self.events(timeout_seconds=timeout_seconds):
            if on_event is not None:
                on_event(event)
        return self.outcome()

    def result(self) -> str | None:
        """The merged result: the work log of the first level; None while there is none.

        Raises:
            ContextCorruptError: it is not what was stored.
        """
        return self._tree.merged(self.handoff_id)

    def node_result(self, node_id: str) -> str | None:
        """One node's result, or None if it has none."""
        return self._tree.results(self.handoff_id, [node_id]).get(node_id)

    def package(self) -> HandoffPackage | None:
        """The package that was handed over; None if it has none.

        Raises:
            ContextCorruptError: it is not what was stored.
        """
        return self._view.packages.find(self.handoff_id)

    def acknowledgement(self) -> Acknowledgement | None:
        """What its receiver found when it took the package over; None if it has not yet."""
        return self._view.packages.find_acknowledgement(self.handoff_id)

    def account(self, node_id: str = "") -> Account:
        """What was spent of its budget, and what outstanding calls hold.

        `node_id`: of the share that this node was given instead.
        """
        return self._accounts.account(self.handoff_id, node_id)

    def cancel(self, node_id: str | None = None) -> str:
        """Cancel it: no node starts from now on, and no paid call is sent after the return.

        That is why it may take as long as a permit to send a call lasts, 5 s. (A worker that the
        system froze between its last look at the clock and sending remains.)

        Args:
            node_id: only this node, and all below it; the others go on. None: all of it.

        Returns:
            The handoff's state: `cancelled`; `running` while workers have yet to notice, or where
            others go on; `joining` if all nodes have ended; or what it had ended in before.

        Raises:
            InvalidInputError: it has no such node.
        """
        if node_id is not None:
            check_node_id(node_id)
        state, moves = self._tree.cancel(self.handoff_id, node_id)
        try:
            self._follow(moves)
        except BrokerUnavailableError as error:
            logger.warning("handoff %s goes on with the sweep: %s", self.handoff_id, error)
        return state

    def _follow(self, moves: Sequence[Move]) -> None:
        """Publish what goes on beside what was cancelled; without a broker, the sweep does."""
        if self._dispatcher is None:
            return
        nodes = [move.node_id for move in moves if move.kind in ("run", "next")]
        if nodes:
            self._dispatcher.run(self.handoff_id, nodes)
        if any(move.kind == "join" for move in moves):
            self._dispatcher.join(self.handoff_id)
