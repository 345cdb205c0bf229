"""Durations as Redis takes them."""

from __future__ import annotations

from typing import Final

from baton.errors import InvalidInputError
from baton.settings import DAY_SECONDS

MAX_SECONDS: Final = 3650 * DAY_SECONDS + 1


def milliseconds(seconds: float, field: str) -> int:
    """`seconds` in milliseconds, one at least.

    Raises:
        InvalidInputError: they are not above 0, or ten years and more.
    """
    if not (isinstance(seconds, int | float) and 0 < seconds < MAX_SECONDS):
        raise InvalidInputError(field, f"above 0, below {MAX_SECONDS}", seconds)
    return max(1, round(seconds * 1000))
