"""Exit codes, and the text that documents them at the end of each command's help."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from baton.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.errors import BatonError

DONE: Final = 0
MISSING: Final = 1
USAGE: Final = 2
DEGRADED: Final = 3
MERGE_REQUIRED: Final = 3
FAILED: Final = 4
CANCELLED: Final = 5
INTERRUPTED: Final = 130

_OF_STATE: Final = {
    "done": DONE,
    "degraded": DEGRADED,
    "failed": FAILED,
    "cancelled": CANCELLED,
    "cancelling": CANCELLED,
}
_MEANING: Final = {
    DONE: "done",
    MISSING: "something needed is missing",
    USAGE: "wrong usage or input",
    DEGRADED: "degraded: some tasks gave no result",
    FAILED: "failed",
    CANCELLED: "cancelled",
    INTERRUPTED: "interrupted",
}

# What differs from the above where a command writes a context.
_MEANING_OF_WRITES: Final = {
    MERGE_REQUIRED: "merge required: the write is kept until `baton context resolve`",
    FAILED: "failed, or rejected: nothing was written",
}

HANDOFF_CODES: Final = (DONE, USAGE, DEGRADED, FAILED, CANCELLED, INTERRUPTED)
STORE_CODES: Final = (DONE, USAGE, FAILED, INTERRUPTED)
WRITE_CODES: Final = (DONE, USAGE, MERGE_REQUIRED, FAILED, INTERRUPTED)


def code_of_state(state: str) -> int:
    """The exit code that says how a handoff ended; 4 for one that has not."""
    return _OF_STATE.get(state, FAILED)


def code_of_error(error: BatonError) -> int:
    """2 where the input was refused, 4 for anything else."""
    return USAGE if isinstance(error, InvalidInputError) else FAILED


def epilog(
    *examples: str, codes: tuple[int, ...], meanings: Mapping[int, str] = MappingProxyType({})
) -> str:
    r"""What ends a command's help: examples, and its exit codes. `\b` keeps the line breaks.

    `meanings` stand in for the usual ones.
    """
    title = "Example:" if len(examples) == 1 else "Examples:"
    shown = "\n".join(f"  {example}" for example in examples)
    lines = "\n".join(f"  {code:<4} {meanings.get(code, _MEANING[code])}" for code in codes)
    return f"\b\n{title}\n{shown}\n\n\b\nExit codes:\n{lines}"


def write_epilog(*examples: str) -> str:
    """As `epilog`, for a command whose write may meet another's."""
    return epilog(*examples, codes=WRITE_CODES, meanings=_MEANING_OF_WRITES)
