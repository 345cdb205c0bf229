"""A handoff's nodes as they change, and how they are drawn as a tree."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.text import Text
from rich.tree import Tree

from baton.cli.escaping import escape_line
from baton.cli.output import duration
from baton.handoff.outcome import NODE_STATES, TERMINAL_NODE_STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from baton.handoff.outcome import NodeRecord
    from baton.handoff.view import Event

WORDS: Final = {
    "leased": "running",
    "suspended": "waits for its children",
    "over_budget": "over budget",
}
_STYLES: Final = {
    "leased": "cyan",
    "suspended": "yellow",
    "ok": "green",
    "failed": "red",
    "lost": "red",
    "cancelled": "magenta",
    "skipped": "magenta",
    "over_budget": "red",
}
# What is drawn first where not all fits.
_URGENCY: Final = (
    "leased", "failed", "lost", "over_budget", "suspended", "cancelled", "skipped", "ok", "waiting",
)  # fmt: skip
_LINE_CHARACTERS: Final = 300


class NodeTree:
    """The nodes of one handoff, kept up to date by its events.

    `stale` is True when an event told of nodes that have to be loaded. One thread may change the
    tree while another draws it.
    """

    def __init__(self, handoff_id: str) -> None:
        self.handoff_id = handoff_id
        self.state = "running"
        self.stale = True
        self._nodes: dict[str, NodeRecord] = {}
        self._progress: dict[str, str] = {}

    def load(self, nodes: Iterable[NodeRecord]) -> None:
        """Replace what is known by `nodes`, in slot order."""
        self._nodes = {node.node_id: node for node in nodes}
        self.stale = False

    def take(self, event: Event) -> None:
        """Note one event."""
        if event.type == "handoff":
            self.state = event.state
            return
        if event.type in ("acknowledgement", "cost"):
            return
        node = self._nodes.get(event.node_id)
        # Nobody announces children: a parent is suspended, and there they are.
        if node is None or event.state == "suspended":
            self.stale = True
        if event.type == "progress":
            self._progress[event.node_id] = event.text
        elif event.type == "node" and node is not None:
            changed = dataclasses.replace(node, state=event.state, error=event.error)
            self._nodes[event.node_id] = changed

    def instruction(self, node_id: str) -> str:
        """What a node is to do; empty while that is not loaded."""
        node = self._nodes.get(node_id)
        return "" if node is None else node.instruction

    def draw(self, *, elapsed_seconds: float | None, most_nodes: int) -> Tree:
        """The tree, with at most `most_nodes` nodes: those that matter most, and their parents."""
        nodes = list(self._nodes.values())
        root = Tree(self._title(nodes, elapsed_seconds), guide_style="dim")
        chosen = _chosen(nodes, most_nodes)
        branches = {"": root}
        for node in chosen:
            parent = branches.get(node.parent_id or "", root)
            branches[node.node_id] = parent.add(self._line(node))
        if len(chosen) < len(nodes):
            shown = {node.node_id for node in chosen}
            rest = Counter(node.state for node in nodes if node.node_id not in shown)
            root.add(Text(f"and {rest.total()} more: {counts(rest)}", style="dim"))
        return root

    def _title(self, nodes: Sequence[NodeRecord], elapsed_seconds: float | None) -> Text:
        ended = sum(node.state in TERMINAL_NODE_STATES for node in nodes)
        time = "" if elapsed_seconds is None else f"  {elapsed_seconds:.0f} s"
        text = f"{self.handoff_id}  {self.state}  {ended} of {len(nodes)} nodes ended{time}"
        return Text(text, style="bold", no_wrap=True, overflow="ellipsis")

    def _line(self, node: NodeRecord) -> Text:
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{node.node_id}  ", style="dim")
        line.append(WORDS.get(node.state, node.state), style=_STYLES.get(node.state, "dim"))
        if node.duration_seconds is not None:
            line.append(f" in {duration(node.duration_seconds)}", style="dim")
        line.append(f"  {escape_line(node.instruction, _LINE_CHARACTERS)}")
        said = node.error or ("" if node.state == "ok" else self._progress.get(node.node_id, ""))
        if said:
            line.append(f"  {escape_line(said, _LINE_CHARACTERS)}", style="dim")
        return line


def counts(by_state: Mapping[str, int]) -> str:
    """`2 running, 5 ok`: states that occur, in the order of a node's life."""
    found = [f"{by_state[s]} {WORDS.get(s, s)}" for s in NODE_STATES if by_state.get(s)]
    return ", ".join(found) or "none"


def _chosen(nodes: Sequence[NodeRecord], most: int) -> Sequence[NodeRecord]:
    """At most `most` nodes in their order, with every parent of each."""
    if len(nodes) <= most:
        return nodes
    chosen: set[str] = set()
    for node in sorted(nodes, key=lambda node: _URGENCY.index(node.state)):
        parts = node.node_id.split(".")
        family = {".".join(parts[: length + 1]) for length in range(len(parts))}
        if len(chosen | family) > most:
            continue
        chosen |= family
        if len(chosen) == most:
            break
    return [node for node in nodes if node.node_id in chosen]
