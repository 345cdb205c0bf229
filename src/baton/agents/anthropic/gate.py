"""What a call passes before it is sent: its model's circuit breaker, then the rate limits."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from baton.agents.anthropic.pausing import pause
from baton.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from baton.agents.breakers import CallEnd, ModelBreakers
    from baton.agents.calls import Call
    from baton.agents.rate_limits import RateLimits
    from baton.agents.runner import Assignment

logger: Final = logging.getLogger(__name__)


class Passage:
    """A call that was let through; what it used is given back when its block ends.

    Attributes:
        used_tokens: what the API counted against the limit per minute.
        end: what its end says of the API's load.
    """

    def __init__(self, report: Callable[[CallEnd], None]) -> None:
        self.used_tokens = 0
        self.end: CallEnd = "unknown"
        self._report = report

    def begun(self) -> None:
        """The answer begins, so the API is up: who waits for this probe need not wait longer."""
        self.end = "ok"
        self._report("ok")


class Gate:
    """One for a process. Thread-safe."""

    def __init__(self, breakers: ModelBreakers, rate_limits: RateLimits) -> None:
        self._breakers = breakers
        self._rate_limits = rate_limits

    @contextmanager
    def passed(self, call: Call, assignment: Assignment) -> Iterator[Passage]:
        """Wait until `call` may be sent, for the block that sends it.

        Raises:
            ModelUnavailableError: not within the node's time.
            NodeCancelledError: it was cancelled meanwhile.
            StoreUnavailableError: Redis did not answer, so nothing may be sent.
        """
        passage = Passage(lambda end: self._report(call, end))
        try:
            self._wait(call, assignment)
            yield passage
        finally:
            self._report(call, passage.end)
            # An outage must not hide what became of the call; a grant is forgotten by itself.
            try:
                self._rate_limits.settle(call, passage.used_tokens)
            except TransientError as error:
                logger.warning("what a call of %s used was not settled: %s", call.model, error)

    def hold(self, model: str, seconds: float) -> None:
        """Let no call of `model` through for so long, in any process."""
        self._rate_limits.hold(model, seconds)

    def _wait(self, call: Call, assignment: Assignment) -> None:
        # The breaker again after each wait for the limits: it may have opened meanwhile.
        while True:
            if wait_seconds := self._breakers.ask(call):
                reason = "its breaker is open: it was overloaded"
            elif wait_seconds := self._rate_limits.ask(call):
                reason = "its rate limit is used up"
            else:
                return
            pause(assignment, wait_seconds, model=call.model, reason=reason)

    def _report(self, call: Call, end: CallEnd) -> None:
        try:
            self._breakers.report(call, end)
        except TransientError as error:
            logger.warning("the end of a call of %s was not reported: %s", call.model, error)
