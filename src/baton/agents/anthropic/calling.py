"""A paid call from its reservation to its settlement, and the retries around it.

Every try is a call of its own: it passes the gate, has a permit of its own, and is settled with
what it used. One whose answer is lost counts as spent in full, as the API probably did the work.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from baton.agents.anthropic.answers import Answer
from baton.agents.anthropic.pausing import pause
from baton.agents.anthropic.watch import Watch
from baton.agents.calls import Call
from baton.agents.runner import Usage
from baton.errors import ModelUnavailableError, RunnerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from baton.agents.anthropic.failures import Failure
    from baton.agents.anthropic.gate import Gate, Passage
    from baton.agents.anthropic.ledger import Ledger
    from baton.agents.anthropic.options import AnthropicOptions
    from baton.agents.anthropic.wire import Wire
    from baton.agents.breakers import HandoffBreakers
    from baton.agents.permits import Permit
    from baton.agents.prices import PriceTable
    from baton.agents.runner import Assignment

# A lost answer is paid, so it is asked for only so often in all.
MOST_LOST: Final = 3
# Room of a permit beyond its call: to close the connection, and to settle.
GRACE_SECONDS: Final = 5.0
# Of a count, which is free and quick, and which others of the process wait for.
COUNT_SECONDS: Final = 30.0
_LEAST_CALL_SECONDS: Final = 0.1
_MOST_DOUBLINGS: Final = 20


@dataclass(frozen=True, slots=True)
class Extent:
    """How large a call can be, in tokens.

    Attributes:
        prompt_tokens: at most.
        cached_tokens: of these, what is read from the cache, at least.
        reply_tokens: at most.
    """

    prompt_tokens: int
    cached_tokens: int
    reply_tokens: int

    @property
    def tokens(self) -> int:
        """Prompt and reply."""
        return self.prompt_tokens + self.reply_tokens

    @property
    def fresh_tokens(self) -> int:
        """What counts against a limit per minute."""
        return self.tokens - self.cached_tokens

    @property
    def usage(self) -> Usage:
        """All of it, as if it were used."""
        fresh = self.prompt_tokens - self.cached_tokens
        return Usage(
            input_tokens=fresh,
            output_tokens=self.reply_tokens,
            cache_read_tokens=self.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Errand:
    """For whom calls are made: a node, and the ledger of its run."""

    assignment: Assignment
    ledger: Ledger


class Caller:
    """Makes the calls of all threads of a process."""

    def __init__(
        self,
        options: AnthropicOptions,
        wire: Wire,
        gate: Gate,
        prices: PriceTable,
        handoff_breakers: HandoffBreakers,
    ) -> None:
        self._options = options
        self._wire = wire
        self._gate = gate
        self._prices = prices
        self._handoff_breakers = handoff_breakers

    def ask(self, errand: Errand, body: Mapping[str, Any], extent: Extent) -> Answer:
        """Have `body` answered.

        Raises:
            ModelUnavailableError: no answer within the node's time, or three were lost.
            RunnerError: key, quota or account were refused, or the request was.
            OverBudgetError, NodeCancelledError, FencedError, StoreUnavailableError: as
                `Assignment.reserve`.
            PriceNotFoundError, ModelRetiredError: as `PriceTable.most`.
        """

        def send(watch: Watch, passage: Passage) -> Answer | Failure:
            return self._wire.stream(body, watch, begun=passage.begun)

        return self._tried(errand, extent, send, errand.ledger.add_answer)

    def warm(self, errand: Errand, body: Mapping[str, Any], extent: Extent) -> Answer:
        """Have `body`, to which nothing is answered, write the cache. Errors as `ask`."""

        def send(watch: Watch, passage: Passage) -> Answer | Failure:
            outcome = self._wire.send(body, watch)
            if isinstance(outcome, Answer):
                passage.begun()
            return outcome

        return self._tried(errand, extent, send, errand.ledger.add_warming)

    def count(self, errand: Errand, body: Mapping[str, Any]) -> int | None:
        """The API's count of a prompt's tokens; None where it gives none now.

        It is free, but tells the API of the context: so only under a permit.

        Raises:
            RunnerError: key, quota or account were refused.
            OverBudgetError, …: as `Assignment.reserve`.
        """
        assignment = errand.assignment
        permit = assignment.reserve(0, Decimal(0), seconds=COUNT_SECONDS + GRACE_SECONDS)
        try:
            watch = self._watch(assignment, permit, most_seconds=COUNT_SECONDS)
            counted = self._wire.count(body, watch)
        finally:
            assignment.settle(permit, Usage(), Decimal(0))
        if isinstance(counted, int):
            return counted
        if counted.kind == "refused":
            self._end(assignment, counted)
        return None

    def _tried(
        self,
        errand: Errand,
        extent: Extent,
        send: Callable[[Watch, Passage], Answer | Failure],
        note: Callable[[Usage], None],
    ) -> Answer:
        number = lost = 0
        while True:
            outcome = self._once(errand, extent, send)
            if isinstance(outcome, Answer):
                note(outcome.usage)
                return outcome
            errand.assignment.raise_if_cancelled()
            if outcome.kind == "expired":
                continue
            errand.ledger.add_failure(lost=outcome.kind == "lost")
            if outcome.kind in ("refused", "invalid"):
                self._end(errand.assignment, outcome)
            lost += outcome.kind == "lost"
            if lost == MOST_LOST:
                raise self._unavailable(f"{lost} answers were lost; the last: {outcome.reason}")
            self._back_off(errand.assignment, outcome, number)
            number += 1

    def _once(
        self,
        errand: Errand,
        extent: Extent,
        send: Callable[[Watch, Passage], Answer | Failure],
    ) -> Answer | Failure:
        """One try, settled; what came of it."""
        assignment = errand.assignment
        call = Call(self._options.model, assignment.handoff_id, extent.fresh_tokens)
        most_usd = self._most_usd(extent)
        with self._gate.passed(call, assignment) as passage:
            seconds = self._seconds(assignment) + GRACE_SECONDS
            permit = assignment.reserve(extent.tokens, most_usd, seconds=seconds)
            usage, usd = Usage(), Decimal(0)
            try:
                watch = self._watch(assignment, permit)
                # Until it is known better, and if anything unforeseen happens: it was paid.
                usage, usd = extent.usage, most_usd
                passage.used_tokens = extent.fresh_tokens
                outcome = send(watch, passage)
                if (used := _used(outcome, extent)) is not None:
                    usage, usd = used, errand.ledger.price(used)
            finally:
                assignment.settle(permit, usage, usd)
            passage.used_tokens = (
                usage.input_tokens + usage.cache_write_tokens + usage.output_tokens
            )
            if not isinstance(outcome, Answer) and passage.end != "ok":
                overloaded = outcome.kind in ("overloaded", "unsent", "lost")
                passage.end = "overloaded" if overloaded else "unknown"
            return outcome

    def _most_usd(self, extent: Extent) -> Decimal:
        options = self._options
        return self._prices.most(
            options.model, extent.prompt_tokens, extent.reply_tokens, datetime.now(UTC),
            cached_tokens=extent.cached_tokens, cache_ttl=options.cache_ttl,
        )  # fmt: skip

    def _watch(
        self, assignment: Assignment, permit: Permit, *, most_seconds: float = math.inf
    ) -> Watch:
        return Watch(
            check_sendable=permit.check_usable,
            stopped=lambda: assignment.cancelled,
            seconds=min(most_seconds, self._seconds(assignment)),
        )

    def _seconds(self, assignment: Assignment) -> float:
        """How long a call that is sent now may take."""
        seconds = min(self._options.timeout_seconds, assignment.seconds_left)
        if seconds < _LEAST_CALL_SECONDS:
            raise self._unavailable("the node's time is up")
        return seconds

    def _back_off(self, assignment: Assignment, failure: Failure, number: int) -> None:
        options = self._options
        most = options.backoff_seconds * 2 ** min(number, _MOST_DOUBLINGS)
        # Jitter: those who failed together must not come back together.
        seconds = min(most, options.longest_backoff_seconds) * random.uniform(0.5, 1)  # noqa: S311
        asked_for = failure.retry_after_seconds
        if failure.kind == "rate_limited":
            seconds = seconds if asked_for is None else asked_for
            self._gate.hold(options.model, seconds)
        else:
            seconds = max(seconds, asked_for or 0)
        assignment.progress(f"no answer ({failure.reason}); tried again in {seconds:.1f} s")
        if failure.kind != "rate_limited":  # for which the gate holds all
            pause(assignment, seconds, model=options.model, reason=failure.reason)

    def _end(self, assignment: Assignment, failure: Failure) -> None:
        """Raise what no retry mends; where it concerns the account, stop the whole handoff."""
        if failure.kind == "refused":
            self._handoff_breakers.open(
                assignment.handoff_id, f"the model's API refused the account: {failure.reason}"
            )
        raise RunnerError(f"Runner anthropic failed: the API refused the call: {failure.reason}")

    def _unavailable(self, reason: str) -> ModelUnavailableError:
        return ModelUnavailableError(
            f"model {self._options.model} gave no answer ({reason}); "
            "the node is tried again, within its attempts"
        )


def _used(outcome: Answer | Failure, extent: Extent) -> Usage | None:
    """What a call is counted as; None: nobody knows, so all that it could."""
    if isinstance(outcome, Answer) or outcome.kind == "stopped":
        return outcome.usage
    if outcome.kind != "lost":
        return Usage()
    # The reply may have gone on after what came of it.
    return outcome.usage and replace(outcome.usage, output_tokens=extent.reply_tokens)
