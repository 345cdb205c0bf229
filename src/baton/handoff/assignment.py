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
from baton.handoff.package import MAX_INSTRUCTION_CHARACTERS

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
        children: results of the children of an earlier run.
        draft: what that earlier run returned.
        report: takes a line of progress.
    """

    def __init__(
        self,
        claim: Claim,
        *,
        load: Callable[[], Context],
        children: Sequence[ChildResult],
        draft: str,
        report: Callable[[str], None],
    ) -> None:
        self._claim = claim
        self._load = load
        self._report = report
        self._deadline = time.monotonic() + claim.timeout_seconds
        self._stop = threading.Event()
        self.children = children
        self.draft = draft
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

    def raise_if_cancelled(self) -> None:
        if self.cancelled:
            raise NodeCancelledError(f"node {self.node_id} was cancelled; stop and return")

    def spawn(self, tasks: Sequence[str | ChildTask], *, then: str | None = None) -> None:
        children = [_child(task, index) for index, task in enumerate(tasks)]
        self._check_limits(len(children))
        self.spawned.extend(children)
        if then is not None:
            self.then = _instruction(then, "then")

    def progress(self, text: str) -> None:
        try:
            self._report(text[:MAX_PROGRESS_CHARACTERS])
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
    return ChildTask(_instruction(given.instruction, f"tasks[{index}]"), given.runner)


def _instruction(text: object, field: str) -> str:
    encode_text(text, field)
    stripped = str(text).strip()
    if not stripped or len(stripped) > MAX_INSTRUCTION_CHARACTERS:
        raise InvalidInputError(
            field, f"1 to {MAX_INSTRUCTION_CHARACTERS} characters", f"<{len(stripped)} characters>"
        )
    return stripped
