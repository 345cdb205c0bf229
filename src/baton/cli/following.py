"""Follows a handoff to its end, through lost connections, and cancels it when told to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from baton.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.cli.progress import Progress
    from baton.handoff.handle import Handoff
    from baton.handoff.outcome import Outcome

TICK_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 60.0
ACKNOWLEDGE_SECONDS: Final = 5.0

_POLL_SECONDS: Final = 0.1


def follow(
    handoff: Handoff,
    progress: Progress,
    *,
    each_second: Callable[[], None] = lambda: None,
    timeout_seconds: float | None = None,
) -> None:
    """Show the handoff's events, from its first to its last.

    `each_second` is called about that often. A Redis that does not answer is asked again for a
    minute.

    Raises:
        TimeoutError: it had not ended in `timeout_seconds`.
        HandoffNotFoundError: it does not exist or has expired.
        StoreUnavailableError: Redis has not answered for a minute.
    """
    begin = heard_at = time.monotonic()
    after = "0-0"
    while True:
        try:
            for event in handoff.events(after, timeout_seconds=TICK_SECONDS):
                after = event.id
                progress.take(event)
        except TimeoutError:
            pass
        except StoreUnavailableError as error:
            if time.monotonic() - heard_at > PATIENCE_SECONDS:
                raise
            progress.note(f"{error} Asking again.")
            continue  # the client has waited between its own attempts
        else:
            return
        heard_at = time.monotonic()
        try:
            each_second()
            progress.refresh()
        except StoreUnavailableError:
            continue  # the next look at the events tells the user
        if timeout_seconds is not None and time.monotonic() - begin >= timeout_seconds:
            raise TimeoutError


def cancel_and_wait(handoff: Handoff, hurry: Callable[[], bool]) -> Outcome:
    """Cancel, give the workers a few seconds to notice, and tell where it stands then."""
    handoff.cancel()
    end = time.monotonic() + ACKNOWLEDGE_SECONDS
    outcome = handoff.outcome()
    while not outcome.ended and not hurry() and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
        outcome = handoff.outcome()
    return outcome
