"""One case of the suite: a function of a `Kit`, with a name and a sentence that say what holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.testing.kit import Kit


@dataclass(frozen=True, slots=True)
class Case:
    """What a deployment has to do.

    Attributes:
        group: what it is about, such as `writing`.
        name: unique in the suite; part of the test's id, so it stays.
        sentence: what holds, in one sentence.
        run: returns if it holds; raises AssertionError or whatever the store raised if it does
            not, and `unittest.SkipTest` where it cannot be told here.
    """

    group: str
    name: str
    sentence: str
    run: Callable[[Kit], None]


class CaseGroup:
    """Decorates the functions of a group of cases, and keeps them in their order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cases: list[Case] = []

    def __call__(self, run: Callable[[Kit], None]) -> Callable[[Kit], None]:
        """Add `run`, named as it is called; its docstring's first line is the sentence."""
        sentence = (run.__doc__ or "").partition("\n")[0]
        self.cases.append(Case(self.name, run.__name__, sentence, run))
        return run
