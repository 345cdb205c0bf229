"""A node's work as its runner sees it: the engine's side of the `Assignment` contract."""
# ruff: noqa: D102  # the contract documents its methods

from __future__ import annotations

import logging
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING, Final

from baton.agents.runner import ChildTask
from baton.content.text import encode_text
from baton.errors import InvalidInputError, NodeCancelledError, SpawnLimitError, TransientError
from baton.handoff.package import MAX_INSTRUCTION_CHARACTERS, RUNNER_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from baton.agents.runner import ChildResult
    from baton.handoff.tree import Claim
    from baton.store.records import Context

logger = logging.getLogger(__name__)

MAX_PROGRESS_CHARACTERS: Final = 1_000


class NodeAssignment:
    """See `baton.agents.runner.Assignment`. One per claim; collects what the runner asks for.

    Args:
        claim: the claim on the node.
        load: fetches the context by reference; called at most once, at first use.
        report: takes a line of progress.
    """

    def __init__(
        self,
        claim: Claim,
        *,
        load: Callable[[], Context],
        report: Callable[[str], None],
    ) -> None:
        self._claim = claim
        self._load = load
        self._report = report
        self._deadline = time.monotonic() + claim.timeout_seconds
        self._stop = threading.Event()
        self.children: Sequence[ChildResult] = ()
        self.draft = ""
        self.spawned: list[ChildTask] = []
        self.then = ""

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

    def spawn(self, tasks: Sequence[str | ChildTask], *, then: str | None = None) -> None:
        if isinstance(tasks, str):  # a sequence too: of its letters
            raise InvalidInputError("tasks", "a list of tasks", "<str>")
        children = [_child(task, index) for index, task in enumerate(tasks)]
        if then is not None and not (children or self.spawned):
            raise InvalidInputError("tasks", "at least one child before `then`", "<none>")
        self._check_limits(len(children))
        after = self.then if then is None else _instruction(then, "then")
        self.spawned.extend(children)
        self.then = after

    def progress(self, text: str) -> None:
        try:
            self._report(_line(text))
        except TransientError as error:
            logger.debug("progress of node %s was not recorded: %s", self.node_id, error)

    @cached_property
    def _context(self) -> Context:
        return self._load()

    def _check_limits(self, count: int) -> None:
        claim = self._claim
        wanted = len(self.spawned) + count
        for name, value, allowed in (
            ("handoff_max_depth", claim.depth + 1, claim.max_depth),
            ("handoff_max_children", claim.child_count + wanted, claim.max_children),
            ("handoff_max_nodes", wanted, claim.nodes_left),
        ):
            if value > allowed:
                raise SpawnLimitError(
                    f"node {self.node_id} may not spawn {count} more children: "
                    f"{name} leaves {allowed}, this would need {value}"
                )


def _child(task: str | ChildTask, index: int) -> ChildTask:
    given = task if isinstance(task, ChildTask) else ChildTask(task)
    if given.runner is not None and not RUNNER_NAME.fullmatch(str(given.runner)):
        raise InvalidInputError(f"tasks[{index}].runner", "a runner's name", given.runner)
    return ChildTask(_instruction(given.instruction, f"tasks[{index}]"), given.runner)


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
