"""An assignment with a budget, kept in the test's memory by the rules of the engine's."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING

from baton.agents.permits import Permit
from baton.errors import (
    InvalidInputError,
    NodeCancelledError,
    OverBudgetError,
    RunnerError,
    SpawnLimitError,
)

if TYPE_CHECKING:
    from baton.agents.runner import Usage

PERMIT_SECONDS = 10.0
STEP_SECONDS = 0.01


@dataclass
class Budget:
    """What all nodes of a handoff may spend together; thread-safe. None bounds nothing.

    Attributes:
        spent: tokens, dollars; settled for good.
        most_reserved_usd: the largest reservation.
        settled: of each permit, its usage and dollars.
    """

    tokens: int | None = None
    usd: Decimal | None = None
    spent: tuple[int, Decimal] = (0, Decimal(0))
    most_reserved_usd: Decimal = Decimal(0)
    settled: dict = field(default_factory=dict)

    def __post_init__(self):
        self.lock = threading.Lock()
        self.outstanding = {}
        self.numbers = count(1)

    def room(self, tokens, usd, *, with_reserved):
        held = self.outstanding.values() if with_reserved else ()
        used = (
            self.spent[0] + sum(each[0] for each in held),
            self.spent[1] + sum(each[1] for each in held),
        )
        return (self.tokens is None or used[0] + tokens <= self.tokens) and (
            self.usd is None or used[1] + usd <= self.usd
        )

    def take(self, tokens, usd):
        """A permit's id; None: others' reservations leave no room now."""
        with self.lock:
            if not self.room(tokens, usd, with_reserved=False):
                raise OverBudgetError(f"{tokens} tokens, {usd} USD do not fit")
            if not self.room(tokens, usd, with_reserved=True):
                return None
            permit_id = f"permit_{next(self.numbers)}"
            self.outstanding[permit_id] = (tokens, usd)
            self.most_reserved_usd = max(self.most_reserved_usd, usd)
            return permit_id

    def settle(self, permit_id, usage, usd):
        with self.lock:
            if permit_id in self.settled:
                return
            del self.outstanding[permit_id]
            self.settled[permit_id] = (usage, usd)
            self.spent = (self.spent[0] + total(usage), self.spent[1] + usd)


def total(usage: Usage) -> int:
    return (
        usage.input_tokens + usage.output_tokens
        + usage.cache_read_tokens + usage.cache_write_tokens
    )  # fmt: skip


@dataclass
class PaidAssignment:
    """Satisfies `baton.agents.runner.Assignment`. `reach` is all that a tool reached by it."""

    instruction: str = "Review the context."
    context: str = "The lease lasts thirty seconds.\n"
    budget: Budget = field(default_factory=Budget)
    children: tuple = ()
    draft: str = ""
    previous: str = ""
    package: object = None
    handoff_id: str = "handoff_1"
    node_id: str = "0"
    session_id: str = "session_1"
    context_version: str = "1.0.0"
    attempt: int = 1
    seconds: float = 60.0
    max_children: int = 10
    breaker: object = None
    expired_permits: int = 0
    reach: list = field(default_factory=list)
    told: list = field(default_factory=list)

    def __post_init__(self):
        self.deadline = time.monotonic() + self.seconds
        self.stop = threading.Event()
        self.looks = 0
        self.then = None
        self.spawned = []
        data = self.context.encode()
        self.context_hash = "sha256:" + hashlib.sha256(data).hexdigest()

    @property
    def seconds_left(self):
        return max(0.0, self.deadline - time.monotonic())

    @property
    def cancelled(self):
        self.looks += 1
        return self.stop.is_set()

    def raise_if_cancelled(self):
        if self.cancelled:
            raise NodeCancelledError(f"node {self.node_id} was cancelled; stop and return")

    def reserve(self, tokens, usd, *, seconds):
        assert tokens >= 0
        assert usd >= 0
        assert seconds > 0
        while True:
            self.raise_if_cancelled()
            if self.breaker is not None and (reason := self.breaker.find(self.handoff_id)):
                raise RunnerError(f"handoff {self.handoff_id} calls no more models: {reason}")
            permit_id = self.budget.take(tokens, usd)
            if permit_id is not None:
                late = self.expired_permits > 0
                self.expired_permits -= late
                return Permit(permit_id, time.monotonic() + (-1 if late else PERMIT_SECONDS))
            if not self.seconds_left:
                raise OverBudgetError("no room within the node's time")
            time.sleep(STEP_SECONDS)

    def settle(self, permit, usage, usd):
        assert usd >= 0
        self.budget.settle(permit.permit_id, usage, usd)

    def checkpoint(self, label, *, byte_position=None):
        if not label.isprintable() or not label.strip():
            raise InvalidInputError("label", "one line", label)
        self.reach.append(("checkpoint", label))
        return f"checkpoint_{len(self.reach)}"

    def spawn(self, tasks, *, then=None):
        for task in tasks:
            if not isinstance(task, str) or not task.strip():
                raise InvalidInputError("tasks", "text", task)
        if len(self.spawned) + len(tasks) > self.max_children:
            raise SpawnLimitError(
                f"node {self.node_id} may not spawn {len(tasks)} more children: "
                f"handoff_max_children is {self.max_children}"
            )
        self.reach.append(("spawn", tuple(tasks)))
        self.spawned.extend(tasks)
        self.then = then or self.then

    def progress(self, text):
        self.told.append(text)
