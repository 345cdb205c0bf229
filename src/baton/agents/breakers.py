"""Circuit breakers that all pools share: one per model for overload, one per handoff for quotas.

**A model's** opens when, of its last calls that ended within a window, too many met an overloaded
API. While it is open nothing is sent; after a while one call at a time goes as the probe. If that
succeeds the breaker closes and forgets; if it meets overload too, the breaker stays open for twice
as long, up to a bound. Calls that were sent before it opened say nothing more.

**A handoff's** opens at the first quota, spend-limit or auth error, which no retry mends, and stays
open until it is closed by hand: `baton handoff retry`, once the cause is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from baton.agents.keys import breaker_key, handoff_breaker_key
from baton.errors import InvalidInputError
from baton.redis_client import redis_errors, require_binary
from baton.scripts import Script
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    import redis

    from baton.agents.calls import Call

CallEnd = Literal["ok", "overloaded", "unknown"]

_DAY_SECONDS: Final = 86_400
_MOST_REASON_CHARACTERS: Final = 500
_ENDS: Final = ("ok", "overloaded", "unknown")

_ASK: Final = Script("baton.agents", "ask_breaker")
_REPORT: Final = Script("baton.agents", "report_breaker")


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a model's breaker opens, and for how long.

    It opens at `failures` among the last `of_calls` that ended within `window_seconds`; first for
    `open_seconds`, then twice as long each time, up to `longest_open_seconds`. A probe that has
    not reported after `probe_seconds` counts as lost, and another call may be one.

    Raises:
        InvalidInputError: a count is not a whole number from 1 to 1,000, failures are more than
            calls, or a time is not between 0.01 and 86,400 s.
    """

    failures: int = 10
    of_calls: int = 20
    window_seconds: float = 60.0
    open_seconds: float = 5.0
    longest_open_seconds: float = 60.0
    probe_seconds: float = 60.0

    def __post_init__(self) -> None:
        check_whole_number(self.failures, "failures", least=1)
        check_whole_number(self.of_calls, "of_calls", least=1)
        if not self.failures <= self.of_calls <= 1000:
            raise InvalidInputError("of_calls", f"{self.failures} to 1000", self.of_calls)
        for field in ("window_seconds", "open_seconds", "longest_open_seconds", "probe_seconds"):
            if not 0.01 <= getattr(self, field) <= _DAY_SECONDS:
                raise InvalidInputError(field, f"0.01 to {_DAY_SECONDS}", getattr(self, field))


class ModelBreakers:
    """Breakers of models. Thread-safe, as its client is.

    All processes that share a server must be given the same `policy`. Every method raises
    `StoreUnavailableError` and its like where Redis does not serve
    (`baton.redis_client.redis_errors`).
    """

    def __init__(self, redis_client: redis.Redis, policy: BreakerPolicy | None = None) -> None:
        self._redis = require_binary(redis_client)
        self._policy = policy or BreakerPolicy()

    def ask(self, call: Call) -> float:
        """Seconds after which to ask again with the same call; 0.0: it may be sent.

        Atomic and idempotent: the call that was let go as the probe is let go again. While
        another is the probe the answer is at most 1 s. Whoever sends a call must report its end.
        """
        args: list[str | float] = [
            call.call_id,
            self._policy.longest_open_seconds,
            self._policy.probe_seconds,
        ]
        with redis_errors(self._redis):
            return int(_ASK(self._redis, [breaker_key(call.model)], args)) / 1000

    def report(self, call: Call, end: CallEnd) -> None:
        """How a call ended, as soon as that is known: `ok` once its answer has begun.

        `overloaded`: the API said so (529, 503, 500), or did not answer. `unknown`: it says
        nothing of the API's load, as a cancelled call does; a probe then leaves its place to
        another. Idempotent per call.

        Raises:
            InvalidInputError: `end` is none of these.
        """
        if end not in _ENDS:
            raise InvalidInputError("end", "'ok', 'overloaded' or 'unknown'", end)
        policy = self._policy
        args: list[str | float] = [
            call.call_id, end, policy.failures, policy.of_calls, policy.window_seconds,
            policy.open_seconds, policy.longest_open_seconds,
        ]  # fmt: skip
        with redis_errors(self._redis):
            _REPORT(self._redis, [breaker_key(call.model)], args)


class HandoffBreakers:
    """Breakers of handoffs. Thread-safe, as its client is.

    They expire `keep_seconds` after they opened: give it no less than handoffs live. Errors as
    `ModelBreakers`, and InvalidIdError for a handoff id that is none.
    """

    def __init__(
        self, redis_client: redis.Redis, *, keep_seconds: int = 365 * _DAY_SECONDS
    ) -> None:
        require_binary(redis_client)
        self._redis = redis_client
        self._keep_ms = check_whole_number(keep_seconds, "keep_seconds", least=1) * 1000

    def open(self, handoff_id: str, reason: str) -> None:
        """Send no more calls for the handoff. Of several reasons the first stays.

        `reason` is shown to users: at most 500 characters of it, and no secrets in it.
        """
        text = reason[:_MOST_REASON_CHARACTERS].encode("utf-8", "replace")
        with redis_errors(self._redis):
            self._redis.set(handoff_breaker_key(handoff_id), text, nx=True, px=self._keep_ms)

    def find(self, handoff_id: str) -> str | None:
        """Why the handoff sends no more calls; None: it does."""
        with redis_errors(self._redis):
            reason: Any = self._redis.get(handoff_breaker_key(handoff_id))
        return None if reason is None else reason.decode()

    def close(self, handoff_id: str) -> None:
        """Let the handoff send calls again. Idempotent."""
        with redis_errors(self._redis):
            self._redis.delete(handoff_breaker_key(handoff_id))
