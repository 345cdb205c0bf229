"""Limits on a model's requests and tokens per minute, shared by all processes, fair to handoffs.

**Buckets.** Each model has two token buckets in Redis, refilled by Redis' clock: requests and
tokens. In any window of t seconds, what is granted, less what is settled back, stays within
`limit * t / 60` plus a full bucket (`burst_seconds` of the limit). A call larger than a full
bucket waits for a full one and leaves a debt: it alone may pass the bound, by what it is larger.

**Fairness** is start-time fair queueing over handoffs, not over calls. A handoff's turn is the
bucket time (seconds of the scarcer limit) that its calls have taken; one that has not asked for a
while joins at the current turn, so idleness earns no credit. Of each handoff the call that waits
first has a place in line. A call is granted when the buckets hold enough for it *and* for all
places before it: those of handoffs with an earlier turn, and the one of its own handoff. So a
handoff of 10,000 waiting calls delays another's single one by about one call, small calls do not
starve a large one, and what those before leave over is used at once. A place whose call does not
come back in time (its worker died) is given up after two seconds.

Nothing waits in Redis: a call that may not go is told when to ask again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.agents.keys import rate_key
from baton.errors import InvalidInputError
from baton.redis_client import redis_errors, require_binary
from baton.scripts import Script
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from baton.agents.calls import Call

LONGEST_HOLD_SECONDS: Final = 3600.0

_ASK: Final = Script("baton.agents", "ask_rate")
_SETTLE: Final = Script("baton.agents", "settle_rate")
_HOLD: Final = Script("baton.agents", "hold_rate")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Limits of one model; None is no limit. `burst_seconds` of them fit into a full bucket.

    Raises:
        InvalidInputError: a limit is not a whole number of at least 1, or the burst is not
            between 1 and 3,600 s.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    burst_seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in ("requests_per_minute", "tokens_per_minute"):
            if getattr(self, field) is not None:
                check_whole_number(getattr(self, field), field, least=1)
        if not 1 <= self.burst_seconds <= 3600:
            raise InvalidInputError("burst_seconds", "1 to 3600", self.burst_seconds)


class RateLimits:
    """Permits for calls of models. Thread-safe, as its client is.

    All processes that share a server must be given the same `limits` (model -> limit). A model
    without one is held up only by `hold`. Every method raises `StoreUnavailableError` and its
    like where Redis does not serve (`baton.redis_client.redis_errors`).
    """

    def __init__(self, redis_client: redis.Redis, limits: Mapping[str, RateLimit]) -> None:
        self._redis = require_binary(redis_client)
        self._limits = dict(limits)

    def ask(self, call: Call) -> float:
        """Seconds after which to ask again with the same call; 0.0: granted, send it now.

        Atomic, and asked again after a grant it answers 0.0 and takes nothing more, until the
        call is settled, or for 10 minutes. Apart from a `hold`, the answer is at most 2 s, as
        calls that are settled may make room earlier than can be told.
        """
        args: list[str | float] = [
            *self._limit(call.model), call.call_id, call.handoff_id, call.tokens
        ]  # fmt: skip
        with redis_errors(self._redis):
            return int(_ASK(self._redis, [rate_key(call.model)], args)) / 1000

    def settle(self, call: Call, used_tokens: int) -> None:
        """Give back what a granted call did not use, or take what it used beyond that.

        Idempotent. For a call that was never granted it gives up the call's place in line.

        Raises:
            InvalidInputError: `used_tokens` is not a whole number of at least 0.
        """
        used = check_whole_number(used_tokens, "used_tokens")
        args: list[str | float] = [
            *self._limit(call.model), call.call_id, call.handoff_id, call.tokens, used
        ]  # fmt: skip
        with redis_errors(self._redis):
            _SETTLE(self._redis, [rate_key(call.model)], args)

    def hold(self, model: str, seconds: float) -> None:
        """Grant no call of `model` for so long, and begin with empty buckets then.

        For the API's `retry-after`: what it counts is the truth. At most an hour; of several
        holds the latest end counts.

        Raises:
            InvalidInputError: `seconds` is negative or not finite.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise InvalidInputError("seconds", "a number of at least 0", seconds)
        args = [*self._limit(model), min(seconds, LONGEST_HOLD_SECONDS)]
        with redis_errors(self._redis):
            _HOLD(self._redis, [rate_key(model)], args)

    def _limit(self, model: str) -> tuple[int, int, float]:
        limit = self._limits.get(model, RateLimit())
        return limit.requests_per_minute or 0, limit.tokens_per_minute or 0, limit.burst_seconds
