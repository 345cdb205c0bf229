"""What a node's spawn writes: the plans of its children, alone or in chains. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from baton.agents.runner import ChildTask


@dataclass(frozen=True, slots=True)
class Spawning:
    """`plan` is the hash to stage; `ranges` are the slots of children that wait for no other."""

    plan: Mapping[str, str]
    count: int
    ranges: Sequence[tuple[int, int]]
    chains: bool
    shares: Mapping[str, Mapping[str, int]]

    def request(self, spent: Mapping[str, object]) -> str:
        """The rest of what the script is told, as JSON, with what it is told of the run."""
        return json.dumps(
            {
                **spent,
                "fields": len(self.plan),
                "ranges": self.ranges,
                "chains": self.chains,
                "shares": self.shares,
            }
        )


def plan_spawning(
    node_id: str, first_slot: int, runner: str, chains: Sequence[Sequence[ChildTask]], then: str
) -> Spawning:
    """Plan the children of a node.

    Args:
        node_id: the parent.
        first_slot: the first child's slot, above those of earlier spawns.
        runner: of children that name none.
        chains: the children in slot order; a child alone is a chain of one.
        then: the continuation's instruction; empty: none.
    """
    plan, shares, starters = {"then": then}, {}, []
    slot = first_slot
    for chain in chains:
        starters.append(slot)
        for position, child in enumerate(chain):
            child_id = f"{node_id}.{slot}"
            plan[child_id] = encode_plan(child.instruction, child.runner or runner)
            if position:
                plan[f"{child_id}:after"] = f"{node_id}.{slot - 1}"
                plan[f"{node_id}.{slot - 1}:next"] = child_id
            if child.share is not None:
                caps = child.share.caps()
                shares[child_id] = {name.removeprefix("cap_"): cap for name, cap in caps.items()}
            slot += 1
    count = slot - first_slot
    return Spawning(plan, count, list(_ranges(starters)), len(chains) < count, shares)


def encode_plan(instruction: str, runner: str) -> str:
    """What a node is to do, as the plan holds it."""
    return json.dumps({"instruction": instruction, "runner": runner}, ensure_ascii=False)


def _ranges(slots: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Rising slots as ranges, both ends included."""
    first = last = slots[0]
    for slot in slots[1:]:
        if slot != last + 1:
            yield first, last
            first = slot
        last = slot
    yield first, last
