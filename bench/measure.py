"""Interleaved rounds: every contestant runs in every round, so that noise hits all alike."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, TypeVar

from bench import stopping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Contestant = Callable[[int], float]

T = TypeVar("T")

WARM_UP = 0


class WrongResultError(Exception):
    """<contestant>: expected <what is right>, got <what came>. Its time means nothing."""


def interleave(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant, one for each round, taken in turn: A B C, A B C, A B C.

    Args:
        contestants: each is given the round's number, sets up what it needs, and returns the
            seconds of the part that counts, after it has checked the result.
        rounds: numbered from 1; round 0 warms up and is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(WARM_UP, rounds + 1):
        for name, run in contestants.items():
            gc.collect()
            stopping.check()
            took = run(number)
            if number != WARM_UP:
                seconds[name].append(took)
    return seconds


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds that `work` took, and what it returned."""
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def expect(contestant: str, right: object, got: object) -> None:
    """Refuse a wrong result.

    Raises:
        WrongResultError: `got` is not `right`.
    """
    if got != right:
        raise WrongResultError(f"{contestant}: expected {right!r:.60}, got {got!r:.60}")
