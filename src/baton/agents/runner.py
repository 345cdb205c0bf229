"""The runner contract: what a node's executor is given and what it must give back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from baton.agents.budget import Budget
    from baton.agents.handoff_package import HandoffPackage
    from baton.agents.permits import Permit


@dataclass(frozen=True, slots=True)
class ChildResult:
    """What became of one spawned child, in slot order.

    `state` is the child's final state (`ok`, `failed`, ...); `content` its result, empty unless
    `ok`; `error` the reason otherwise.
    """

    node_id: str
    instruction: str
    state: str
    content: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class ChildTask:
    """One child to spawn: an instruction, and the runner for it (None: the parent's).

    `share` is what it and all below it may spend of the handoff's budget (no deadline); None: as
    much as is left.
    """

    instruction: str
    runner: str | None = None
    share: Budget | None = None


@dataclass(frozen=True, slots=True)
class ChildChain:
    """Children to run one after the other, each with the result of the one before in `previous`.

    Where one does not end ok, those behind it are skipped.
    """

    tasks: Sequence[str | ChildTask]


class Assignment(Protocol):
    """A node's work as its runner sees it. Made by the engine; safe to use from one thread."""

    @property
    def handoff_id(self) -> str:
        """The handoff this node belongs to."""

    @property
    def node_id(self) -> str:
        """The node's slot path, e.g. `3` or `3.0`."""

    @property
    def instruction(self) -> str:
        """What to do. On a continuation: the `then` given to `spawn`."""

    @property
    def session_id(self) -> str:
        """The session the context belongs to."""

    @property
    def context_version(self) -> str:
        """The version that `context` is, e.g. `1.0.3`."""

    @property
    def context_hash(self) -> str:
        """`sha256:...` of the context; equal hashes are equal text."""

    @property
    def context(self) -> str:
        """The shared context's text. Loaded at first use, shared by all nodes of the process.

        Raises:
            ContextCorruptError, NotFoundError, StoreUnavailableError: as `ContextStore.get`.
        """

    @property
    def package(self) -> HandoffPackage | None:
        """What the handoff's sender says of it: goal, decisions, what not to redo; often None.

        Loaded at first use. Where its `session_context.view` is set, that is what was to be carried
        instead of the context, which can be read all the same. Its text is data: an instruction
        in it binds nobody.

        Raises:
            ContextCorruptError, StoreUnavailableError: as `context`.
        """

    @property
    def attempt(self) -> int:
        """1 for the first run of this node, one more for each run after a lost worker."""

    @property
    def children(self) -> Sequence[ChildResult]:
        """Results of the children this node spawned; empty on its first run."""

    @property
    def draft(self) -> str:
        """What this node returned before it waited for its children; empty on its first run."""

    @property
    def seconds_left(self) -> float:
        """Time until the node's own timeout; give it to every blocking call."""

    @property
    def cancelled(self) -> bool:
        """True once the handoff was cancelled or the claim was lost: stop and return."""

    def raise_if_cancelled(self) -> None:
        """Raise `NodeCancelledError` if `cancelled`."""

    def reserve(self, tokens: int, usd: Decimal, *, seconds: float) -> Permit:
        """The right to send one paid call, charged with the most it can take until it is settled.

        Waits, within the node's time, where only other calls' outstanding reservations leave no
        room. Where the handoff has no budget, the permit still says that it is not cancelled.

        Args:
            tokens: prompt and reply at most, cached tokens included.
            usd: its price at most.
            seconds: how long the call may run. A permit that is not settled for so long counts
                as spent: its worker was lost, and the call was probably paid.

        Raises:
            OverBudgetError: what is spent for good leaves no room for it.
            NodeCancelledError: the handoff, or this part of its tree, was cancelled.
            FencedError: the claim has passed to another worker.
            RunnerError: the handoff's breaker is open: a quota or key was refused before.
            InvalidInputError: a figure is negative, or beyond what a budget may have.
            StoreUnavailableError: Redis did not answer; nothing may be sent.
        """

    def settle(self, permit: Permit, usage: Usage, usd: Decimal) -> None:
        """Tell what a reserved call really used; zeros if it was never sent. Idempotent.

        It is added to the node's totals, whatever becomes of this attempt: leave it out of the
        `RunnerResult`. Waits out an outage of Redis, as the call has been paid.

        Raises:
            InvalidInputError: as `reserve`; it then counts as it was reserved.
        """

    def checkpoint(self, label: str, *, byte_position: int | None = None) -> str:
        """Set a checkpoint in the version that `context` is; its id.

        Args:
            label: a short name for people.
            byte_position: where, in UTF-8 bytes; None: the end.

        Raises:
            InvalidInputError: the label or the position is wrong.
            AccessDeniedError, StoreUnavailableError: as `ContextStore.checkpoint`.
        """

    @property
    def previous(self) -> str:
        """The result of the node before this one in its chain; empty for all others."""

    def spawn(
        self, tasks: Sequence[str | ChildTask | ChildChain], *, then: str | None = None
    ) -> None:
        """Ask for children; they start when the runner returns, chains one after the other.

        Without `then`, the node ends when its children have, its result being its own text
        followed by theirs. With `then`, the runner runs once more, with `then` as `instruction`
        and the results in `children`. Calls add up; the last `then` counts.

        Raises:
            SpawnLimitError: too deep, too many children, or too many nodes in the handoff.
            InvalidInputError: a task is empty or not text.
        """

    def progress(self, text: str) -> None:
        """Append one line to the handoff's event stream. Best effort; at most 1,000 characters."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens one run consumed, as the model's API reports them; zeros for runners without one."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0


@dataclass(frozen=True, slots=True)
class RunnerResult:
    """A node's result: its text, what it cost, and small JSON-ready details (no content)."""

    content: str
    usage: Usage = field(default_factory=Usage)
    cost_usd: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Runner(Protocol):
    """Executes nodes. One instance serves a whole process, from many threads at once.

    `run` may be called again for the same node after a crash: effects outside Baton must be
    idempotent under (`handoff_id`, `node_id`). It must return or raise within
    `assignment.seconds_left`, and should look at `assignment.cancelled` between steps.
    """

    name: str

    def run(self, assignment: Assignment) -> RunnerResult:
        """Do the work and return its result.

        Raises:
            RunnerError: the work failed for good; recorded as the node's error.
            TransientError: worth another attempt; the node is queued again, within its attempts.
            NodeCancelledError: `raise_if_cancelled` found the node cancelled.
        """
