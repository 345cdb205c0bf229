"""Whole numbers that callers give."""

from __future__ import annotations

from baton.errors import InvalidInputError


def check_whole_number(value: object, field: str, *, least: int = 0) -> int:
    """Return `value` if it is an int of at least `least`; a bool is none.

    Raises:
        InvalidInputError: it is something else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise InvalidInputError(field, f"a whole number, {least} or more", value)
