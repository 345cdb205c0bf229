"""The function runner: a node's work done by the user's own Python function."""

from __future__ import annotations

import inspect
import json
import math
import traceback
from typing import TYPE_CHECKING, Final

from baton.agents.runner import RunnerResult, Usage
from baton.errors import BatonError, InvalidInputError, RunnerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.agents.runner import Assignment

MAX_MESSAGE_CHARS: Final = 500


class FunctionRunner:
    """Calls `function(assignment)`; it returns the result's text, or a `RunnerResult`.

    Raises:
        InvalidInputError: `function` is not a plain function (or other callable).
    """

    def __init__(self, name: str, function: Callable[[Assignment], str | RunnerResult]) -> None:
        if not callable(function) or inspect.iscoroutinefunction(function):
            kind = "async function" if callable(function) else type(function).__name__
            raise InvalidInputError("function", "a plain function of one argument", f"<{kind}>")
        self.name = name
        self._function = function

    def run(self, assignment: Assignment) -> RunnerResult:
        """Call the function and check what it returned.

        Raises:
            RunnerError: it raised something of its own, or what it returned is not a result.
            BatonError: it raised one, e.g. a TransientError for another attempt.
        """
        try:
            outcome = self._function(assignment)
        except BatonError:
            raise
        # The user's code may raise anything; sys.exit() there must not end the worker either.
        except (Exception, SystemExit) as error:
            raise RunnerError(f"Runner {self.name} failed: {told(error)}") from error
        return self._checked(outcome)

    def _checked(self, outcome: object) -> RunnerResult:
        result = RunnerResult(outcome) if isinstance(outcome, str) else outcome
        if not isinstance(result, RunnerResult):
            raise self._refusal(f"returned {type(result).__name__}, not text or a RunnerResult")
        if not isinstance(result.content, str):
            raise self._refusal(
                f"returned a RunnerResult whose content is {type(result.content).__name__}"
            )
        try:
            result.content.encode()
        except UnicodeEncodeError as error:
            reason = f"returned text with a lone surrogate at character {error.start}"
        else:
            self._check_figures(result)
            return result
        # Raised out here because the codec's error holds the whole text.
        raise self._refusal(reason)

    def _check_figures(self, result: RunnerResult) -> None:
        """Refuse what could not be counted against a budget or stored as JSON."""
        if not isinstance(result.usage, Usage):
            raise self._refusal(f"returned usage of type {type(result.usage).__name__}")
        cost = result.cost_usd
        if not isinstance(cost, int | float) or not math.isfinite(cost) or cost < 0:
            raise self._refusal(f"returned cost_usd {cost!r:.80}, not a number of dollars from 0")
        try:
            json.dumps(dict(result.details), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._refusal(f"returned details that JSON cannot hold: {error}") from error

    def _refusal(self, reason: str) -> RunnerError:
        return RunnerError(f"Runner {self.name} failed: it {reason}.")


def told(error: BaseException) -> str:
    """Type and message on one printable line; survives an exception whose `str()` fails."""
    message = str(traceback.TracebackException(type(error), error, None))
    line = " ".join(f"{type(error).__name__}: {message}".split())
    return "".join(char if char.isprintable() else "?" for char in line[:MAX_MESSAGE_CHARS])
