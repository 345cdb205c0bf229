"""The keys of a handoff. All of them carry `{handoff id}`, so they share one hash slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from baton.ids import check_id, check_node_id
from baton.settings import DAY_SECONDS

INDEX: Final = "handoffs:index"
OPEN: Final = "handoffs:open"
# The indexes are shared by all handoffs, so no single one's retention may shorten their lives.
INDEX_RETENTION_MS: Final = 366 * DAY_SECONDS * 1000


@dataclass(frozen=True, slots=True)
class HandoffKeys:
    """Key names of one handoff; scripts derive the same siblings from `base`.

    `base` itself is a hash: state, limits, counters by node state.
    """

    base: str

    @classmethod
    def of(cls, handoff_id: object) -> HandoffKeys:
        """The keys of `handoff_id`.

        Raises:
            InvalidIdError: the id could leave its place in a key.
        """
        return cls(f"handoff:{{{check_id(handoff_id, 'handoff_id')}}}")

    @property
    def plan(self) -> str:
        """Hash: first-level node -> JSON of what it is to do; written once."""
        return f"{self.base}:plan"

    def plan_below(self, node_id: str) -> str:
        """Hash: the same of a node's children; their order in chains, and the node's `then`."""
        return f"{self.base}:plan:{check_node_id(node_id)}"

    @property
    def queue(self) -> str:
        """List: ranges of waiting nodes that are not published yet."""
        return f"{self.base}:queue"

    @property
    def budget(self) -> str:
        """Hash: caps, what is spent, what permits hold."""
        return f"{self.base}:budget"

    @property
    def permits(self) -> str:
        """Hash: permit -> JSON of what it holds; `permit_ends` beside it says until when."""
        return f"{self.base}:permits"

    @property
    def nodes(self) -> str:
        """Hash: node -> JSON of what became of it so far; a node without entry is waiting."""
        return f"{self.base}:nodes"

    @property
    def due(self) -> str:
        """Sorted set: node, `start` or `join` -> when the sweep should look at it (ms)."""
        return f"{self.base}:due"

    @property
    def events(self) -> str:
        """Stream: transitions and progress, bounded."""
        return f"{self.base}:events"

    @property
    def package(self) -> str:
        """Hash: the handoff package as a blob, its source's digest, how it was acknowledged."""
        return f"{self.base}:package"

    @property
    def merged(self) -> str:
        """String: the merged result as a self-checking blob."""
        return f"{self.base}:merged"

    def result(self, node_id: str) -> str:
        """String: a node's result as a self-checking blob."""
        return f"{self.base}:results:{check_node_id(node_id)}"

    def draft(self, node_id: str) -> str:
        """String: what a node returned before it waited for its children, as a blob."""
        return f"{self.base}:drafts:{check_node_id(node_id)}"

    def staging(self, node_id: str, fence: int, what: str) -> str:
        """A node's value on its way in; expires by itself."""
        return f"{self.base}:staging:{check_node_id(node_id)}:{fence}:{what}"

    def staging_plan(self, operation_id: str) -> str:
        """The first level's plan on its way in; expires by itself."""
        return f"{self.base}:staging:open:{operation_id}:plan"

    def staging_reopening(self, operation_id: str, what: str) -> str:
        """The tree of a retry on its way in; expires by itself."""
        return f"{self.base}:staging:reopen:{operation_id}:{what}"

    def staging_merged(self, fence: int) -> str:
        """The merged result on its way in; expires by itself."""
        return f"{self.base}:staging:join:{fence}:merged"
