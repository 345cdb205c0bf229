"""What the doctor finds, and the contract of what looks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: what it is, in a word; of `Check.kinds`.
        subject: the session, handoff, agent or key.
        problem: what is wrong with it, in a sentence without its subject.
        mending: what mending does; where there is no `mend`, why it is left and what helps.
        mend: mends it, and looks again before; False: there was nothing to mend any more. None: it
            is left, as something might be lost by mending it.
    """

    kind: str
    subject: str
    problem: str
    mending: str
    mend: Callable[[], bool] | None = None


class Check(Protocol):
    """Looks for faults of a few kinds. It changes nothing by looking."""

    @property
    def kinds(self) -> dict[str, str]:
        """Kind -> what it means, in a sentence."""

    def find(self) -> Iterator[Finding]:
        """What there is of them, in memory proportional to a batch; no command takes over 5 ms.

        What is found may be mended at once, before the next is asked for.

        Raises:
            StoreUnavailableError: Redis did not answer.
        """
