"""How a model's window is shared out, how full it is, and who is told when it fills up."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from baton.errors import InvalidInputError, TokenBudgetExceededError
from baton.whole_numbers import check_whole_number

DEFAULT_TOTAL_TOKENS: Final = 200_000
DEFAULT_SHARES: Final[Mapping[str, float]] = MappingProxyType(
    {"system": 0.075, "conversation": 0.40, "reference": 0.25, "reserve": 0.275}
)
"""Instructions; the dialogue; what is looked up; what recovery needs when all else is full."""

_ROUNDING: Final = 1e-9  # ten shares of 0.1 add up to 0.9999999999999999


@dataclass(frozen=True, slots=True)
class Threshold:
    """What to do (`action`) once more than `percent` of the window is used."""

    action: str
    percent: float


DEFAULT_THRESHOLDS: Final = (
    Threshold("track_growth", 60),
    Threshold("defer_non_critical", 75),
    Threshold("condense_and_archive", 85),
)


@dataclass(frozen=True, slots=True)
class WindowPosition:
    """How much of the window was used at one moment."""

    total_tokens: int
    used_tokens: int

    @property
    def available_tokens(self) -> int:
        """What is left, over all allocations."""
        return self.total_tokens - self.used_tokens

    @property
    def token_usage_percent(self) -> float:
        """0.0 to 100.0."""
        return 100 * self.used_tokens / self.total_tokens

    def is_above(self, percent: float) -> bool:
        """True if more than `percent` of the window is used; exactly `percent` is not above."""
        return 100 * self.used_tokens > percent * self.total_tokens


@dataclass(frozen=True, slots=True)
class Crossing:
    """A threshold was crossed upwards; `position` is where the window stood right then."""

    threshold: Threshold
    position: WindowPosition


CrossingCallback: TypeAlias = Callable[[Crossing], None]


class TokenBudget:
    """A window of `total_tokens` in named allocations, each with a limit of its own.

    The limits are whole tokens and add up to the total. Safe for threads.

    A callback is called once when the usage rises above its threshold, and again only after the
    usage fell to the threshold or below and rose once more. It runs in the thread that caused
    the crossing, after the tokens were counted and outside the lock, so it may use and release
    tokens itself. One `use` that crosses several thresholds calls all of theirs, lowest first.

    Args:
        total_tokens: the size of the window, 1 or more.
        shares: allocation to its share of the window; all of them together are 1.
        thresholds: each with an action of its own, above 0 and below 100 %.
        callbacks: action to what is called; an action without one is only watched.

    Raises:
        InvalidInputError: an argument is not as said.
    """

    def __init__(
        self,
        total_tokens: int = DEFAULT_TOTAL_TOKENS,
        *,
        shares: Mapping[str, float] = DEFAULT_SHARES,
        thresholds: Sequence[Threshold] = DEFAULT_THRESHOLDS,
        callbacks: Mapping[str, CrossingCallback] | None = None,
    ) -> None:
        self._total_tokens = check_whole_number(total_tokens, "total_tokens", least=1)
        self._limits = _limits(self._total_tokens, shares)
        self._thresholds = _ascending(thresholds)
        self._callbacks = _known(callbacks or {}, self._thresholds)
        self._used = dict.fromkeys(self._limits, 0)
        self._above: set[Threshold] = set()
        self._lock = threading.Lock()

    @property
    def limits(self) -> Mapping[str, int]:
        """Tokens of each allocation."""
        return MappingProxyType(self._limits)

    @property
    def position(self) -> WindowPosition:
        """How full the window is now."""
        with self._lock:
            return self._position()

    def used(self, allocation: str) -> int:
        """Tokens in use of `allocation`.

        Raises:
            InvalidInputError: there is no such allocation.
        """
        self._check(allocation)
        with self._lock:
            return self._used[allocation]

    def left(self, allocation: str) -> int:
        """Tokens of `allocation` that are free.

        Raises:
            InvalidInputError: there is no such allocation.
        """
        return self._limits[self._check(allocation)] - self.used(allocation)

    def use(self, allocation: str, tokens: int) -> None:
        """Take `tokens` of `allocation`: all of them, or none and an error.

        What a callback raises passes through, once all callbacks were called; the tokens stay
        taken.

        Raises:
            TokenBudgetExceededError: fewer are left.
            InvalidInputError: no such allocation, or no whole number of tokens.
        """
        limit = self._limits[self._check(allocation)]
        check_whole_number(tokens, "tokens")
        with self._lock:
            left = limit - self._used[allocation]
            if tokens > left:
                raise TokenBudgetExceededError(allocation, tokens, left)
            self._used[allocation] += tokens
            crossings = self._crossings()
        # Unlike a loop, a stack calls the callbacks behind one that raises, too.
        with ExitStack() as calls:
            for crossing in reversed(crossings):
                callback = self._callbacks.get(crossing.threshold.action)
                if callback is not None:
                    calls.callback(callback, crossing)

    def release(self, allocation: str, tokens: int) -> None:
        """Give `tokens` of `allocation` back.

        Raises:
            InvalidInputError: no such allocation, no whole number, or more than are in use.
        """
        self._check(allocation)
        check_whole_number(tokens, "tokens")
        with self._lock:
            used = self._used[allocation]
            if tokens > used:
                raise InvalidInputError("tokens", f"at most the {used} in use", tokens)
            self._used[allocation] -= tokens
            position = self._position()
            self._above = {each for each in self._above if position.is_above(each.percent)}

    def _check(self, allocation: str) -> str:
        if allocation not in self._limits:
            raise InvalidInputError("allocation", f"one of {', '.join(self._limits)}", allocation)
        return allocation

    def _position(self) -> WindowPosition:
        return WindowPosition(self._total_tokens, sum(self._used.values()))

    def _crossings(self) -> list[Crossing]:
        position = self._position()
        crossed = [
            each
            for each in self._thresholds
            if each not in self._above and position.is_above(each.percent)
        ]
        self._above.update(crossed)
        return [Crossing(each, position) for each in crossed]


def _limits(total_tokens: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole tokens for each share, within one of its exact size, that add up to the total."""
    for name, share in shares.items():
        if not 0 <= share <= 1:  # false for NaN, too
            raise InvalidInputError(f"shares.{name}", "0 to 1", share)
    together = math.fsum(shares.values())
    if not math.isclose(together, 1, abs_tol=_ROUNDING):
        raise InvalidInputError("shares", "shares that add up to 1", together)
    # Rounding where each one ends, instead of its size, neither loses nor makes a token.
    accumulated = itertools.accumulate(shares.values())
    ends = [min(round(total_tokens * share), total_tokens) for share in accumulated]
    ends[-1] = total_tokens
    sizes = (end - start for start, end in itertools.pairwise([0, *ends]))
    return dict(zip(shares, sizes, strict=True))


def _ascending(thresholds: Sequence[Threshold]) -> tuple[Threshold, ...]:
    for each in thresholds:
        if not 0 < each.percent < 100:
            raise InvalidInputError(f"thresholds.{each.action}", "above 0, below 100", each.percent)
    if len({each.action for each in thresholds}) < len(thresholds):
        actions = ", ".join(each.action for each in thresholds)
        raise InvalidInputError("thresholds", "an action of its own for each", actions)
    return tuple(sorted(thresholds, key=lambda each: each.percent))


def _known(
    callbacks: Mapping[str, CrossingCallback], thresholds: Sequence[Threshold]
) -> dict[str, CrossingCallback]:
    actions = [each.action for each in thresholds]
    for action in callbacks:
        if action not in actions:
            raise InvalidInputError("callbacks", f"actions of {', '.join(actions)}", action)
    return dict(callbacks)
