"""What workers and the tree say to each other: claims on nodes, their ends, what follows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from baton.agents.budget import to_nano

Renewal = Literal["held", "cancelled", "lost"]
Verdict = Literal["ok", "failed", "over_budget", "retry"]


@dataclass(frozen=True, slots=True)
class Move:
    """What follows: `run` a node, or the `next` of a chain; `join`, `start` or `cancel` it all."""

    kind: Literal["run", "next", "join", "start", "cancel"]
    node_id: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to run a node until its lease ends; `fence` proves it.

    `step` is 0 for the first run and counts continuations; `then` is the continuation's
    instruction, empty where the node's draft and its children's results simply become its result.
    `by_deadline`: its timeout is what was left until the handoff's deadline. `after` is the node
    before it in its chain, or empty.
    """

    handoff_id: str
    node_id: str
    fence: int
    attempt: int
    step: int
    child_count: int
    instruction: str
    runner: str
    then: str
    session_id: str
    context_version: str
    agent_id: str
    max_depth: int
    max_children: int
    nodes_left: int
    timeout_seconds: float
    lease_seconds: float
    by_deadline: bool = False
    after: str = ""

    @property
    def depth(self) -> int:
        """1 on the first level."""
        return self.node_id.count(".") + 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node could not be claimed: its state, or the handoff's; and what follows."""

    state: str
    moves: tuple[Move, ...] = ()


@dataclass(frozen=True, slots=True)
class Suspension:
    """A node's state after it asked for children: `suspended`, or `cancelled`; what follows."""

    state: str
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class Ending:
    """What a worker reports about a node besides its content. No content, no secrets.

    `usage` and `cost_usd` are what no permit was settled for. `details` is JSON text, which the
    scripts do not look into. `refused_children` are those that it asked for beyond the limits.
    """

    error_type: str = ""
    error: str = ""
    usage: dict[str, int] | None = None
    cost_usd: float = 0.0
    details: str = ""
    size_bytes: int = 0
    retry_after_seconds: float = 0.0
    refused_children: int = 0

    @property
    def cost_nano(self) -> int:
        """`cost_usd` as the scripts count it."""
        return to_nano(Decimal(str(self.cost_usd)))

    def spent(self) -> dict[str, object]:
        """What of a run counts that goes on with children."""
        return {
            "usage": self.usage or {},
            "cost_nano": self.cost_nano,
            "details": self.details,
            "refused_children": self.refused_children,
        }

    def encode(self) -> str:
        """JSON for the script; absent where there is nothing to say."""
        fields = {
            "error_type": self.error_type,
            "error": self.error,
            "usage": self.usage,
            "cost_nano": self.cost_nano,
            "details": self.details,
            "size_bytes": self.size_bytes,
            "refused_children": self.refused_children,
        }
        said = {name: value for name, value in fields.items() if value}
        return json.dumps({**said, "retry_after_ms": round(self.retry_after_seconds * 1000)})


def decode_moves(encoded: bytes) -> tuple[Move, ...]:
    """What follows, as the scripts answer it."""
    return tuple(Move(*move) for move in json.loads(encoded))
