"""Waiting within a node's time, in steps short enough to notice that it was cancelled."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from baton.errors import ModelUnavailableError

if TYPE_CHECKING:
    from baton.agents.runner import Assignment

STEP_SECONDS: Final = 0.2


def pause(assignment: Assignment, seconds: float, *, model: str, reason: str) -> None:
    """Wait `seconds` for `reason`.

    Raises:
        ModelUnavailableError: the node's time would be up before.
        NodeCancelledError: it was cancelled meanwhile.
    """
    ends_at = time.monotonic() + seconds
    while True:
        assignment.raise_if_cancelled()
        left_seconds = ends_at - time.monotonic()
        if left_seconds <= 0:
            return
        if left_seconds >= assignment.seconds_left:
            raise ModelUnavailableError(
                f"model {model} cannot be asked within the node's time ({reason}); "
                "the node is tried again, within its attempts"
            )
        time.sleep(min(left_seconds, STEP_SECONDS))
