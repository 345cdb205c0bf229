"""Handoffs that nothing moves any more."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from baton.lifecycle.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.handoff.neglect import Neglected, NeglectedHandoffs

_ENDED: Final = "takes it off the sweep's list"
_OVERDUE: Final = "looks at it as the sweep `nodes` would, and publishes what is due"
_UNLISTED: Final = "enters it there: the next sweep looks after it"
_LOST: Final = "puts them back under the sweep's care, and publishes what is due"


class HandoffCheck:
    """Looks at every open handoff.

    Args:
        handoffs: finds the neglected ones.
    """

    kinds: Final = {
        "handoff_ended": "Handoffs that have ended, or are gone, and are on the sweep's list.",
        "handoff_overdue": "Handoffs with something due that no sweep has seen to.",
        "handoff_lost": "Handoffs that wait for a node or a join that nobody will see to.",
        "handoff_unlisted": "Handoffs that go on, and that no sweep knows of.",
    }

    def __init__(self, handoffs: NeglectedHandoffs) -> None:
        self._handoffs = handoffs

    def find(self) -> Iterator[Finding]:
        """See `Check.find`."""
        for found in self._handoffs.find():
            yield self._finding(found)

    def _finding(self, found: Neglected) -> Finding:
        mend = partial(self._handoffs.mend, found)
        match found.why:
            case "ended":
                problem, mending = "has ended, and is on the list of open ones", _ENDED
            case "overdue":
                problem, mending = "has had something due for two minutes", _OVERDUE
            case "unlisted":
                problem, mending = "goes on, and is not on the sweep's list", _UNLISTED
            case "lost":
                named = ", ".join(found.members[:3])
                more = len(found.members) - 3
                told = f"{named} and {more} more" if more > 0 else named
                problem, mending = f"waits for what nobody will see to: {told}", _LOST
        return Finding(f"handoff_{found.why}", found.handoff_id, problem, mending, mend)
