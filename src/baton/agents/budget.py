"""What a handoff, or a part of its tree, may spend: tokens, dollars, time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from baton.errors import InvalidInputError
from baton.whole_numbers import check_whole_number

NANO: Final = 1_000_000_000
MOST_USD: Final = 9_000_000
MOST_TOKENS: Final = 10**15
MOST_SECONDS: Final = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds of what is spent; None bounds nothing.

    `tokens` counts prompts and replies, cached tokens included. `usd` is kept as `Decimal`, rounded
    down to nano-dollars: beyond nine million dollars a script could no longer count them exactly.
    `deadline_seconds` counts from the submission, or from a retry; a share of a child has none.

    Raises:
        InvalidInputError: a bound is out of range; names it.
    """

    tokens: int | None = None
    usd: Decimal | float | None = None
    deadline_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.tokens is not None:
            check_whole_number(self.tokens, "budget.tokens", least=1)
            if self.tokens > MOST_TOKENS:
                raise InvalidInputError("budget.tokens", f"at most {MOST_TOKENS}", self.tokens)
        if self.usd is not None:
            object.__setattr__(self, "usd", _usd(self.usd))
        if self.deadline_seconds is not None:
            _check_seconds(self.deadline_seconds)

    def caps(self) -> dict[str, int]:
        """The bounds as scripts count them: whole tokens, whole nano-dollars."""
        caps = {}
        if self.tokens is not None:
            caps["cap_tokens"] = self.tokens
        if self.usd is not None:
            caps["cap_nano"] = to_nano(Decimal(self.usd))
        return caps


def to_nano(usd: Decimal) -> int:
    """Whole nano-dollars, rounded down."""
    return int(usd * NANO)


def to_usd(nano: float) -> Decimal:
    """Dollars of whole nano-dollars."""
    return Decimal(int(nano)) / NANO


def _usd(value: Decimal | float) -> Decimal:
    try:
        usd = Decimal(str(value))
    except InvalidOperation:
        usd = Decimal("NaN")
    if isinstance(value, bool) or not usd.is_finite() or not 0 < usd <= MOST_USD:
        raise InvalidInputError("budget.usd", f"dollars above 0, up to {MOST_USD}", value)
    return to_usd(to_nano(usd))


def _check_seconds(value: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value <= MOST_SECONDS:
        expected = f"seconds above 0, up to {MOST_SECONDS}"
        raise InvalidInputError("budget.deadline_seconds", expected, value)
