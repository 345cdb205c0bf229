"""A node's work as its runner sees it: the engine's side of the `Assignment` contract."""
# ruff: noqa: D102  # the contract documents its methods

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar

from baton.agents.runner import ChildChain, ChildTask
from baton.content.text import encode_text
from baton.errors import InvalidInputError, NodeCancelledError, SpawnLimitError, TransientError
from baton.failpoints import reach
from baton.handoff.request import MAX_INSTRUCTION_CHARACTERS, RUNNER_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from baton.agents.handoff_package import HandoffPackage
    from baton.agents.permits import Permit
    from baton.agents.runner import ChildResult, Usage
    from baton.handoff.claims import Claim
    from baton.handoff.paying import Paying
    from baton.store.records import Context

logger = logging.getLogger(__name__)

_Task = TypeVar("_Task")

MAX_PROGRESS_CHARACTERS: Final = 1_000


class NodeAssignment:
    """See `baton.agents.runner.Assignment`. One per claim; collects what the runner asks for.

    Args:
        claim: the claim on the node.
        load: fetches the context by reference; called at most once, at first use.
        report: takes a line of progress.
        paying: reserves and settles calls.
        mark: sets a checkpoint at a byte position; its id.
        before: fetches the result of the node before it in its chain.
        load_package: fetches the handoff's package, or None; called at most once, at first use.
    """

    def __init__(
        self,
        claim: Claim,
        *,
        load: Callable[[], Context],
        report: Callable[[str], None],
        paying: Paying,
        mark: Callable[[str, int | None], str],
        before: Callable[[], str],
        load_package: Callable[[], HandoffPackage | None] = lambda: None,
    ) -> None:
        self._claim = claim
        self._load = load
        self._report = report
        self._paying = paying
        self._mark = mark
        self._before = before
        self._load_package = load_package
        self._deadline = time.monotonic() + claim.timeout_seconds
        self._stop = threading.Event()
        self.children: Sequence[ChildResult] = ()
        self.draft = ""
        self.spawned: list[tuple[ChildTask, ...]] = []
        self.then = ""
        self.refused_children = 0

    @property
    def handoff_id(self) -> str:
        return self._claim.handoff_id

    @property
    def node_id(self) -> str:
        return self._claim.node_id

    @property
    def instruction(self) -> str:
        return self._claim.then or self._claim.instruction

    @property
    def session_id(self) -> str:
        return self._claim.session_id

    @property
    def context_version(self) -> str:
        return self._claim.context_version

    @property
    def context_hash(self) -> str:
        return self._context.content_hash

    @property
    def context(self) -> str:
        return self._context.content

    @cached_property
    def package(self) -> HandoffPackage | None:
        return self._load_package()

    @property
    def attempt(self) -> int:
        return self._claim.attempt

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """Have the runner stop: the handoff was cancelled, or the claim is lost."""
        self._stop.set()

    def resume(self, children: Sequence[ChildResult], draft: str) -> None:
        """Give a continuation its children's results, and what the run before returned."""
        self.children = children
        self.draft = draft

    def raise_if_cancelled(self) -> None:
        if self.cancelled:
            raise NodeCancelledError(f"node {self.node_id} was cancelled; stop and return")

    @cached_property
    def previous(self) -> str:
        return self._before()

    def reserve(self, tokens: int, usd: Decimal, *, seconds: float) -> Permit:
        return self._paying.reserve(tokens, usd, seconds=seconds, work=self)

    def settle(self, permit: Permit, usage: Usage, usd: Decimal) -> None:
        self._paying.settle(permit, usage, usd)

    def checkpoint(self, label: str, *, byte_position: int | None = None) -> str:
        return self._mark(label, byte_position)

    def spawn(
        self, tasks: Sequence[str | ChildTask | ChildChain], *, then: str | None = None
    ) -> None:
        chains = [_chain(task, f"tasks[{index}]") for index, task in enumerate(_listed(tasks))]
        if then is not None and not (chains or self.spawned):
            raise InvalidInputError("tasks", "at least one child before `then`", "<none>")
        self._check_limits(sum(map(len, chains)))
        after = self.then if then is None else _instruction(then, "then")
        self.spawned.extend(chains)
        self.then = after

    def progress(self, text: str) -> None:
        try:
            self._report(_line(text))
        except TransientError as error:
            logger.debug("progress of node %s was not recorded: %s", self.node_id, error)

    @cached_property
    def _context(self) -> Context:
        context = self._load()
        reach("node.loaded")
        return context

    def _check_limits(self, count: int) -> None:
        claim = self._claim
        wanted = sum(map(len, self.spawned)) + count
        for name, value, allowed in (
            ("handoff_max_depth", claim.depth + 1, claim.max_depth),
            ("handoff_max_children", claim.child_count + wanted, claim.max_children),
            ("handoff_max_nodes", wanted, claim.nodes_left),
        ):
            if value > allowed:
                self.refused_children += count
                raise SpawnLimitError(
                    f"node {self.node_id} may not spawn {count} more children: "
                    f"{name} leaves {allowed}, this would need {value}"
                )


def _listed(tasks: Sequence[_Task]) -> Sequence[_Task]:
    if isinstance(tasks, str):  # a sequence too: of its letters
        raise InvalidInputError("tasks", "a list of tasks", "<str>")
    return tasks


def _chain(task: str | ChildTask | ChildChain, field: str) -> tuple[ChildTask, ...]:
    if not isinstance(task, ChildChain):
        return (_child(task, field),)
    chain = tuple(
        _child(each, f"{field}.tasks[{step}]") for step, each in enumerate(_listed(task.tasks))
    )
    if not chain:
        raise InvalidInputError(f"{field}.tasks", "at least one task", "<none>")
    return chain


def _child(task: str | ChildTask, field: str) -> ChildTask:
    given = task if isinstance(task, ChildTask) else ChildTask(task)
    if given.runner is not None and not RUNNER_NAME.fullmatch(str(given.runner)):
        raise InvalidInputError(f"{field}.runner", "a runner's name", given.runner)
    if given.share is not None and given.share.deadline_seconds is not None:
        raise InvalidInputError(f"{field}.share", "tokens or dollars only", "<a deadline>")
    return replace(given, instruction=_instruction(given.instruction, field))


def _line(text: object) -> str:
    """One line that any terminal and UTF-8 can bear."""
    line = " ".join(str(text)[:MAX_PROGRESS_CHARACTERS].split())
    return "".join(char if char.isprintable() else "?" for char in line)


def _instruction(text: object, field: str) -> str:
    encode_text(text, field)
    stripped = str(text).strip()
    if not stripped or len(stripped) > MAX_INSTRUCTION_CHARACTERS:
        raise InvalidInputError(
            field, f"1 to {MAX_INSTRUCTION_CHARACTERS} characters", f"<{len(stripped)} characters>"
        )
    return stripped
