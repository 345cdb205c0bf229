"""What the tree is told of a run: figures, or a failure in words fit to be kept."""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from baton.agents.budget import MOST_TOKENS, MOST_USD
from baton.agents.cache_report import CACHE
from baton.agents.function import told
from baton.agents.runner import Usage
from baton.content.secrets import redact_secrets
from baton.errors import RunnerError
from baton.handoff.claims import Ending

if TYPE_CHECKING:
    from baton.agents.runner import RunnerResult
    from baton.errors import BatonError
    from baton.handoff.claims import Claim, Verdict

MAX_ERROR_CHARACTERS: Final = 1_000
MAX_TOLD_CHARACTERS: Final = 100_000
MAX_DETAILS_BYTES: Final = 64 * 1024


def ending_of(result: RunnerResult) -> Ending:
    """What the tree keeps of a result besides its text.

    Raises:
        RunnerError: figures or details that could not be counted or stored.
    """
    return Ending(
        usage=_usage(result.usage),
        cost_usd=_cost(result.cost_usd),
        details=_details(result),
        size_bytes=len(result.content.encode()),
    )


def kept_details(result: RunnerResult) -> str:
    """What of a run that goes on with children counts with the node's end: its cache report."""
    kept = {name: value for name, value in result.details.items() if name == CACHE}
    return _details(replace(result, details=kept))


def overrun_of(claim: Claim) -> tuple[Verdict, Ending]:
    """What becomes of a node that runs past its time."""
    if claim.by_deadline:
        late = "the handoff's deadline passed while it ran"
        return "over_budget", Ending("OverBudgetError", late)
    late = f"it ran longer than its timeout of {claim.timeout_seconds:g} s"
    return "failed", Ending("TimeoutError", late)


def failure_of(error: BatonError, retry_after_seconds: float = 0.0) -> Ending:
    """The error as it may be stored: the type of what the runner's code raised, a bounded text."""
    source = error.__cause__ if isinstance(error, RunnerError) and error.__cause__ else error
    # As told by the traceback module, which survives an exception whose `str()` fails.
    said = str(traceback.TracebackException(type(source), source, None))
    return Ending(
        error_type=bounded(type(source).__name__),
        error=bounded(said or str(error)),
        retry_after_seconds=retry_after_seconds,
    )


def bounded(text: str) -> str:
    """One bounded line that any terminal and UTF-8 can bear, without what looks like a secret."""
    line = " ".join(redact_secrets(text[:MAX_TOLD_CHARACTERS]).split())
    if len(line) > MAX_ERROR_CHARACTERS:
        line = f"{line[: MAX_ERROR_CHARACTERS - 1]}…"
    return "".join(char if char.isprintable() else "?" for char in line)


def _usage(usage: object) -> dict[str, int]:
    counts: dict[str, Any] = asdict(usage) if isinstance(usage, Usage) else {"usage": usage}
    for name, count in counts.items():
        if not isinstance(count, int) or not 0 <= count <= MOST_TOKENS:
            raise RunnerError(f"expected {name} as a number of tokens from 0, got {count!r:.80}")
    return {name: count for name, count in counts.items() if count}


def _cost(cost: object) -> float:
    # A comparison, so that neither NaN nor a whole number beyond all floats comes through.
    if not isinstance(cost, int | float) or not 0 <= cost <= MOST_USD:
        raise RunnerError(f"expected cost_usd as a number of dollars from 0, got {cost!r:.80}")
    return float(cost)


def _details(result: RunnerResult) -> str:
    """The details as JSON text; empty if there are none."""
    try:
        details = json.dumps(dict(result.details), allow_nan=False) if result.details else ""
    except (TypeError, ValueError, RecursionError) as error:
        raise RunnerError(f"expected details that JSON can hold: {told(error)}") from None
    if len(details) > MAX_DETAILS_BYTES:
        raise RunnerError(f"expected details of {MAX_DETAILS_BYTES} bytes, got {len(details)}")
    return details
