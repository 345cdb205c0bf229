"""What became of a handoff: its state, its census, its nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from baton.errors import HandoffNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

TERMINAL_NODE_STATES: Final = ("ok", "failed", "cancelled", "lost", "skipped", "over_budget")
NODE_STATES: Final = ("waiting", "leased", "suspended", *TERMINAL_NODE_STATES)
TERMINAL_HANDOFF_STATES: Final = frozenset({"done", "degraded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Census:
    """How many nodes are in which state; the counts always add up to `total`."""

    total: int
    by_state: Mapping[str, int]

    def __getitem__(self, state: str) -> int:
        return self.by_state.get(state, 0)

    def as_dict(self) -> dict[str, int]:
        """`total` and every state, zeros included."""
        return {"total": self.total, **{state: self[state] for state in NODE_STATES}}


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One node as the tree knows it. Durations in seconds; `error` is empty unless it failed.

    `round` is the retry that it last went again in; 0: none. `earlier_details` are what is kept of
    those of runs that it made before its children.
    """

    node_id: str
    instruction: str
    runner: str
    state: str
    attempt: int = 0
    worker: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_seconds: float | None = None
    error_type: str = ""
    error: str = ""
    size_bytes: int = 0
    cost_usd: float = 0.0
    usage: Mapping[str, int] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    earlier_details: tuple[Mapping[str, Any], ...] = ()
    child_count: int = 0
    round: int = 0

    @property
    def parent_id(self) -> str | None:
        """The node that spawned this one; None on the first level."""
        return self.node_id.rpartition(".")[0] or None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A handoff's state now; final once `ended`.

    `version` is the version that holds the merged result, or None while there is none.
    `base_version` is what the nodes read. `error` says why the handoff as a whole failed, if it
    did beyond its nodes. `round` counts its retries. `refused_children` were asked for beyond the
    limits of depth, children and nodes.
    """

    handoff_id: str
    state: str
    session_id: str
    base_version: str
    agent_id: str
    merge: str
    policy: str
    first_level: int
    version: str | None
    census: Census
    created_at: datetime
    ended_at: datetime | None
    error_type: str = ""
    error: str = ""
    round: int = 0
    refused_children: int = 0

    @property
    def ended(self) -> bool:
        """True once nothing will change any more."""
        return self.state in TERMINAL_HANDOFF_STATES


def unknown_handoff(handoff_id: str) -> HandoffNotFoundError:
    """The error for a handoff that is not there, or no longer."""
    return HandoffNotFoundError(f"handoff {handoff_id} does not exist or has expired")
