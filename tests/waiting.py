"""Waiting in tests. A module of its own: `conftest` names whichever conftest was loaded last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def until(probe: Callable[[], T], deadline_seconds: float = 30.0, what: str = "condition") -> T:
    """Poll `probe` until it is truthy and return what it gave; fail the test at the deadline."""
    end = time.monotonic() + deadline_seconds
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"{what} did not come true within {deadline_seconds} s (last: {value!r})")
        time.sleep(0.02)
