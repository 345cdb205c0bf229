"""Who decides what is answered: a list, a function, matching texts, or an echo."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, Union

from baton.testing.fake_anthropic.failures import Failure, invalid_request
from baton.testing.fake_anthropic.replies import Reply

if TYPE_CHECKING:
    from baton.testing.fake_anthropic.request import MessagesRequest

Answer: TypeAlias = Union[str, Reply, Failure]  # noqa: UP007  # the names are used at run time
Script: TypeAlias = Union[
    "Sequence[Answer]", "Mapping[str, Answer]", "Callable[[MessagesRequest], Answer]"
]

_ECHO_CHARACTERS: Final = 60


class Prompter:
    """Gives each request its answer by a script. Thread-safe, but for the script's own function.

    Args:
        script: a list, used up from its start, by whichever request comes first; a function of the
            request; or a mapping, of which the first text that occurs in the last turn counts.
            None, or no text that occurs: a short echo of the last turn.
    """

    def __init__(self, script: Script | None) -> None:
        self._script = [script] if isinstance(script, str | Reply | Failure) else script
        self._lock = threading.Lock()
        self._used = 0

    def answer(self, request: MessagesRequest) -> Reply | Failure:
        """The answer to this request; whatever goes wrong in the script is a 400 that says so."""
        answer = self._chosen(request)
        return Reply(answer) if isinstance(answer, str) else answer

    def _chosen(self, request: MessagesRequest) -> Answer:
        if self._script is None:
            return _echo(request)
        if isinstance(self._script, Mapping):
            return self._matching(self._script, request)
        if isinstance(self._script, Sequence):
            return self._next(self._script)
        try:
            return self._script(request)
        except Exception as error:  # noqa: BLE001  # the user's function may raise anything
            return invalid_request(f"FakeAnthropic: the script raised {error!r}")

    def _next(self, answers: Sequence[Answer]) -> Answer:
        with self._lock:
            self._used += 1
            if self._used <= len(answers):
                return answers[self._used - 1]
        return invalid_request(f"FakeAnthropic: all {len(answers)} answers are used up")

    @staticmethod
    def _matching(answers: Mapping[str, Answer], request: MessagesRequest) -> Answer:
        text = request.last_text
        return next((answers[key] for key in answers if key in text), _echo(request))


def _echo(request: MessagesRequest) -> str:
    return f"echo: {request.last_text[:_ECHO_CHARACTERS]}"
