"""Runs cases and says what came of each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from unittest import SkipTest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from baton.testing.case import Case
    from baton.testing.deployment import Deployment

Outcome = Literal["passed", "failed", "skipped"]

_REASON_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one case; `reason` is empty where it passed."""

    case: Case
    outcome: Outcome
    reason: str
    seconds: float


def run_case(case: Case, deployment: Deployment) -> None:
    """Run one case and clean up behind it.

    Raises:
        AssertionError, or what the store raised: the case failed.
        SkipTest: it cannot be told here.
    """
    with deployment.kit() as kit:
        case.run(kit)


def judge(cases: Iterable[Case], deployment: Deployment) -> Iterator[Verdict]:
    """Run the cases one after another; a verdict as each ends."""
    for case in cases:
        begun = time.monotonic()
        outcome, reason = _outcome(case, deployment)
        yield Verdict(case, outcome, reason[:_REASON_CHARACTERS], time.monotonic() - begun)


def _outcome(case: Case, deployment: Deployment) -> tuple[Outcome, str]:
    try:
        run_case(case, deployment)
    except SkipTest as error:
        return "skipped", str(error)
    except AssertionError as error:
        return "failed", str(error)
    except Exception as error:  # noqa: BLE001  # whatever a foreign store raises fails its case
        return "failed", f"{type(error).__name__}: {error}"
    return "passed", ""
