"""What this command hands off as, and the rules of tasks, checked before anything is started."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from baton.agents.budget import Budget
from baton.content.text import encode_text
from baton.errors import InvalidInputError
from baton.handoff.request import make_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.handoff.request import TaskSpec
    from baton.settings import ClientSettings

ROLE: Final = "sonnet_coordinator"
CAPACITY_TOKENS: Final = 200_000

_POLICY: Final = re.compile(r"all|best_effort|fail_fast|quorum:([1-9][0-9]{0,6})")
_OPTION_OF: Final = {
    "budget.tokens": "--budget-tokens",
    "budget.usd": "--budget-usd",
    "budget.deadline_seconds": "--deadline",
}


def checked_budget(
    tokens: int | None, usd: float | None, deadline_seconds: float | None = None
) -> Budget | None:
    """What was asked for, or None where that is nothing.

    Raises:
        InvalidInputError: names the option that is wrong.
    """
    if tokens is None and usd is None and deadline_seconds is None:
        return None
    try:
        return Budget(tokens, usd, deadline_seconds)
    except InvalidInputError as error:
        raise InvalidInputError(_OPTION_OF[error.field], error.expected, error.got) from None


def checked_tasks(
    tasks: Sequence[str], runner: str | None, policy: str, settings: ClientSettings
) -> tuple[TaskSpec, ...]:
    """The tasks, if a handoff would take them, and the policy.

    Raises:
        InvalidInputError: names the first that is wrong.
    """
    for number, task in enumerate(tasks, start=1):
        encode_text(task, f"TASK {number}")
        if not task.strip():
            raise InvalidInputError(f"TASK {number}", "what a worker is to do", "<nothing>")
    _check_policy(policy, len(tasks))
    request = make_request(
        session_id="session",
        context_version="1.0.0",
        agent_id=ROLE,
        tasks=[{"instruction": task, "runner": runner} for task in tasks],
        policy=policy,
        limits={"max_nodes": settings.handoff_max_nodes},
    )
    return request.tasks


def _check_policy(policy: str, tasks: int) -> None:
    known = _POLICY.fullmatch(policy)
    if known is None:
        expected = "all, best_effort, fail_fast or quorum:N, with N from 1"
        raise InvalidInputError("--policy", expected, policy)
    if int(known[1] or 1) > tasks:
        raise InvalidInputError("--policy", f"a quorum of at most the {tasks} tasks", policy)
