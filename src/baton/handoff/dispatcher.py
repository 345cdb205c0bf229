"""The dispatcher contract: how the tree's moves become messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Dispatcher(Protocol):
    """Publishes messages that name handoffs and nodes, never content.

    Publishing is idempotent in effect: a message that arrives twice, late, or for a node that has
    ended changes nothing. A message that is lost is published again by the sweep.

    Every method raises BrokerUnavailableError if the broker takes no message.
    """

    def start(self, handoff_id: str) -> None:
        """Have the handoff's first level fanned out."""

    def run(self, handoff_id: str, node_ids: Sequence[str]) -> None:
        """Have the nodes run, each on its own."""

    def join(self, handoff_id: str) -> None:
        """Have the handoff's results merged."""

    def close(self) -> None:
        """Close what it holds open; it is not used afterwards."""

    def backlog(self) -> int:
        """Messages that wait for a worker to run a node."""
