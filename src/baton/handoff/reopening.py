"""What a retry makes of an ended handoff's nodes: only what gave no result goes again. Pure."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from baton.errors import InvalidInputError
from baton.handoff.outcome import TERMINAL_NODE_STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Of the run that failed; what it used and cost stays until the next has ended.
_OF_THE_END = ("ended_at", "error_type", "error", "finished_by", "worker", "claimed_by")


@dataclass(frozen=True, slots=True)
class Reopening:
    """The tree as it goes on.

    `nodes` is all that is stored of the nodes, by id, as JSON; `waiting` are those to be run now;
    `pending` is how many of the first level have yet to end.
    """

    nodes: Mapping[str, str]
    waiting: list[str]
    counts: Mapping[str, int]
    pending: int


@dataclass(slots=True)
class _Tree:
    """All nodes of an ended handoff; one that never began has no entry of its own."""

    nodes: dict[str, dict[str, Any]]
    round: int
    waiting: list[str] = field(default_factory=list)

    def reopen(self, node_id: str) -> bool:
        """Have what is not ok at or below the node go again; whether anything does.

        A node over children that go again waits for them, and then goes on with their results,
        even where it had made do without: its own result rests on theirs.
        """
        node = self.nodes[node_id]
        children = [f"{node_id}.{index}" for index in range(node["children"])]
        again = [child for child in children if self.reopen(child)]
        if again:
            self._renew(node, "suspended", pending=len(again))
        elif node["state"] != "ok":
            node.pop("started_at", None)
            self._renew(node, "waiting", attempt=0)
            self.waiting.append(node_id)
        return node["state"] not in TERMINAL_NODE_STATES

    def suspend_above(self, node_id: str) -> None:
        """Have all nodes above it wait for it."""
        while parent_id := node_id.rpartition(".")[0]:
            self._renew(self.nodes[parent_id], "suspended", pending=1)
            node_id = parent_id

    def _renew(self, node: dict[str, Any], state: str, **fields: int) -> None:
        for name in _OF_THE_END:
            node.pop(name, None)
        node.update(state=state, round=self.round, **fields)


def plan_reopening(
    planned: Iterable[str], stored: Mapping[str, str], round_: int, node_id: str | None
) -> Reopening:
    """What becomes of the tree in its next round.

    Args:
        planned: all node ids.
        stored: what is stored of those that something has happened to, as JSON.
        round_: the number of the next round.
        node_id: only this node, and what is below it; None: all of the tree.

    Raises:
        InvalidInputError: there is no such node, or nothing of it can go again.
    """
    nodes = {each: _node(stored.get(each)) for each in planned}
    if node_id is not None and node_id not in nodes:
        raise InvalidInputError("node_id", "a node of the handoff", node_id)
    tree = _Tree(nodes, round_)
    roots = [each for each in nodes if "." not in each] if node_id is None else [node_id]
    if not [each for each in roots if tree.reopen(each)]:
        expected = "a handoff, or a node of it, in which something has not ended ok"
        raise InvalidInputError("node_id" if node_id else "handoff_id", expected, node_id or "<ok>")
    if node_id is not None:
        tree.suspend_above(node_id)
    first_level = (node for each, node in nodes.items() if "." not in each)
    return Reopening(
        nodes={each: json.dumps(node, separators=(",", ":")) for each, node in nodes.items()},
        waiting=tree.waiting,
        counts=Counter(node["state"] for node in nodes.values()),
        pending=sum(node["state"] not in TERMINAL_NODE_STATES for node in first_level),
    )


def _node(stored: str | None) -> dict[str, Any]:
    if stored is None:
        return {"state": "waiting", "fence": 0, "attempt": 0, "step": 0, "children": 0}
    node: dict[str, Any] = json.loads(stored)
    return node
