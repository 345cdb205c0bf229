"""Exit codes, and the text that documents them at the end of each command's help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.errors import InvalidInputError

if TYPE_CHECKING:
    from baton.errors import BatonError

DONE: Final = 0
MISSING: Final = 1
USAGE: Final = 2
DEGRADED: Final = 3
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

HANDOFF_CODES: Final = (DONE, USAGE, DEGRADED, FAILED, CANCELLED)
STORE_CODES: Final = (DONE, USAGE, FAILED, INTERRUPTED)


def code_of_state(state: str) -> int:
    """The exit code that says how a handoff ended; 4 for one that has not."""
    return _OF_STATE.get(state, FAILED)


def code_of_error(error: BatonError) -> int:
    """2 where the input was refused, 4 for anything else."""
    return USAGE if isinstance(error, InvalidInputError) else FAILED


def epilog(*examples: str, codes: tuple[int, ...]) -> str:
    r"""What ends a command's help: examples, and its exit codes. `\b` keeps the line breaks."""
    title = "Example:" if len(examples) == 1 else "Examples:"
    shown = "\n".join(f"  {example}" for example in examples)
    meanings = "\n".join(f"  {code:<4} {_MEANING[code]}" for code in codes)
    return f"\b\n{title}\n{shown}\n\n\b\nExit codes:\n{meanings}"
