"""What a retry makes of an ended handoff's nodes: only what gave no result goes again. Pure."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from baton.errors import InvalidInputError
from baton.handoff.outcome import TERMINAL_NODE_STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Of the run that failed; what it used and cost stays until the next has ended.
_OF_THE_END = (
    "ended_at", "error_type", "error", "finished_by", "worker", "claimed_by", "losses",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reopening:
    """The tree as it goes on.

    `nodes` is all that is stored of the nodes, by id, as JSON; `waiting` are those that can be run
    now (who follows in a chain cannot); `pending` is how many of the first level have yet to end.
    """

    nodes: Mapping[str, str]
    waiting: list[str]
    counts: Mapping[str, int]
    pending: int


@dataclass(slots=True)
class _Tree:
    """All nodes of an ended handoff; one that never began has no entry of its own."""

    nodes: dict[str, dict[str, Any]]
    before: Mapping[str, str]
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
            before = self.before.get(node_id)
            if before is None or self.nodes[before]["state"] == "ok":
                self.waiting.append(node_id)
        return node["state"] not in TERMINAL_NODE_STATES

    def chain_from(self, node_id: str) -> list[str]:
        """The node and all behind it in its chain, in order."""
        after = {before: each for each, before in self.before.items()}
        chain = [node_id]
        while chain[-1] in after:
            chain.append(after[chain[-1]])
        return chain

    def suspend_above(self, node_id: str, pending: int) -> None:
        """Have all nodes above it wait for it, its parent for so many."""
        while parent_id := node_id.rpartition(".")[0]:
            self._renew(self.nodes[parent_id], "suspended", pending=pending)
            node_id, pending = parent_id, 1

    def _renew(self, node: dict[str, Any], state: str, **fields: int) -> None:
        for name in _OF_THE_END:
            node.pop(name, None)
        node.update(state=state, round=self.round, **fields)


def plan_reopening(
    first_level: int,
    stored: Mapping[str, dict[str, Any]],
    before: Mapping[str, str],
    round_: int,
    node_id: str | None,
) -> Reopening:
    """What becomes of the tree in its next round.

    Args:
        first_level: how many nodes the handoff began with.
        stored: what is stored of those that something has happened to.
        before: of nodes that follow in a chain, the one before.
        round_: the number of the next round.
        node_id: only this node, what is below it, and behind it in its chain; None: all of it.

    Raises:
        InvalidInputError: there is no such node, nothing of it can go again, or it waits for one
            that has not ended ok.
    """
    nodes = {each: _node(stored.get(each)) for each in _all_ids(first_level, stored)}
    if node_id is not None and node_id not in nodes:
        raise InvalidInputError("node_id", "a node of the handoff", node_id)
    tree = _Tree(nodes, before, round_)
    roots = [each for each in nodes if "." not in each]
    if node_id is not None:
        roots = tree.chain_from(node_id)
        earlier = before.get(node_id)
        if earlier is not None and nodes[earlier]["state"] != "ok":
            raise InvalidInputError("node_id", f"node {earlier}, before it in its chain", node_id)
    again = [each for each in roots if tree.reopen(each)]
    if not again:
        expected = "a handoff, or a node of it, in which something has not ended ok"
        raise InvalidInputError("node_id" if node_id else "handoff_id", expected, node_id or "<ok>")
    if node_id is not None:
        tree.suspend_above(node_id, len(again))
    top = (node for each, node in nodes.items() if "." not in each)
    return Reopening(
        nodes={each: json.dumps(node, separators=(",", ":")) for each, node in nodes.items()},
        waiting=tree.waiting,
        counts=Counter(node["state"] for node in nodes.values()),
        pending=sum(node["state"] not in TERMINAL_NODE_STATES for node in top),
    )


def queue_of(node_ids: Iterable[str]) -> Iterator[str]:
    """Nodes as the queue has them: neighbours as one range, `prefix:first:last` (window.lua)."""
    # Of neighbours, the slot and the place in line differ by the same.
    for (prefix, _), found in groupby(enumerate(node_ids), key=_run_of):
        slots = [node_id.removeprefix(prefix) for _, node_id in found]
        yield f"{prefix}:{slots[0]}:{slots[-1]}"


def _run_of(placed: tuple[int, str]) -> tuple[str, int]:
    place, node_id = placed
    parent_id, dot, slot = node_id.rpartition(".")
    return f"{parent_id}{dot}", int(slot) - place


def _all_ids(first_level: int, stored: Mapping[str, dict[str, Any]]) -> list[str]:
    """Every node, parents before their children."""
    ids = [str(slot) for slot in range(first_level)]
    for each in ids:  # it grows
        ids.extend(f"{each}.{slot}" for slot in range(stored.get(each, {}).get("children", 0)))
    return ids


def _node(stored: dict[str, Any] | None) -> dict[str, Any]:
    if stored is None:
        return {"state": "waiting", "fence": 0, "attempt": 0, "step": 0, "children": 0}
    return dict(stored)
