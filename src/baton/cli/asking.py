"""What this command hands off as, and the rules of tasks, checked before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.content.text import encode_text
from baton.errors import InvalidInputError
from baton.handoff.package import make_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.handoff.package import TaskSpec
    from baton.settings import ClientSettings

ROLE: Final = "sonnet_coordinator"
CAPACITY_TOKENS: Final = 200_000


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
    request = make_request(
        session_id="session",
        context_version="1.0.0",
        agent_id=ROLE,
        tasks=[{"instruction": task, "runner": runner} for task in tasks],
        policy=policy,
        limits={"max_nodes": settings.handoff_max_nodes},
    )
    return request.tasks
