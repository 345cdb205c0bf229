"""Carries out what the model asks of its tools, within the rights of its node.

A tool reaches the node's own assignment and nothing else: no argument names a session, a handoff,
a runner or a file. So whatever text talked the model into a call, there is nothing it could reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from baton.agents.anthropic.token_bound import most_tokens
from baton.agents.anthropic.tools import (
    TOOLS,
    Arguments,
    ReadContext,
    Report,
    SearchContext,
    SetCheckpoint,
    SpawnWorkers,
)
from baton.errors import (
    AccessDeniedError,
    ContextImmutableError,
    InvalidInputError,
    NotFoundError,
    SpawnLimitError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.agents.anthropic.answers import ToolUse
    from baton.agents.anthropic.context_tools import ContextReader
    from baton.agents.runner import Assignment

_KINDS: Final[Mapping[str, type[Arguments]]] = {each.tool: each for each in TOOLS}
_MAX_TOLD: Final = 3
_MAX_NAME_CHARACTERS: Final = 40


@dataclass(frozen=True, slots=True)
class ToolReply:
    """What the model is told; `refused`: its call was not carried out.

    `result` is the node's, if it was reported.
    """

    text: str
    refused: bool = False
    result: str | None = None


class Toolbox:
    """The tools of one run.

    Attributes:
        spawned: whether workers were asked for, so that the run's own text may be empty.

    Args:
        assignment: all that they reach.
        reader: of its context.
        room_tokens: how much of contexts they may return in all.
    """

    def __init__(self, assignment: Assignment, reader: ContextReader, room_tokens: int) -> None:
        self.spawned = False
        self._assignment = assignment
        self._reader = reader
        self._room_tokens = room_tokens

    def use(self, asked: ToolUse) -> ToolReply:
        """Carry out one call; a wrong one is refused in words that help the model to mend it.

        Raises:
            NodeCancelledError, FencedError, TransientError: as the assignment.
            RunnerError: this Python's SQLite cannot rank text.
        """
        kind = _KINDS.get(asked.name)
        if kind is None:
            shown = asked.name[:_MAX_NAME_CHARACTERS]
            return _refusal(f"there is no tool {shown!r}; there are {', '.join(_KINDS)}")
        try:
            arguments = kind.model_validate_json(asked.arguments)
        except ValidationError as error:
            return _refusal(_told(error))
        try:
            return self._carried_out(arguments)
        except (AccessDeniedError, ContextImmutableError, NotFoundError):
            # Their messages name servers and sessions.
            return _refusal(f"this node may not use {asked.name}")
        except (InvalidInputError, SpawnLimitError) as error:
            return _refusal(str(error))

    def _carried_out(self, arguments: Arguments) -> ToolReply:
        if isinstance(arguments, ReadContext):
            return self._within_room(
                self._reader.read(self._assignment, arguments.start, arguments.end)
            )
        if isinstance(arguments, SearchContext):
            return self._within_room(self._reader.search(self._assignment, arguments.query))
        if isinstance(arguments, SpawnWorkers):
            self._assignment.spawn(arguments.tasks, then=arguments.then)
            self.spawned = True
            return ToolReply(
                f"{len(arguments.tasks)} workers start when you end your turn. "
                "End it with what you have so far."
            )
        if isinstance(arguments, SetCheckpoint):
            return ToolReply(f"Checkpoint {self._assignment.checkpoint(arguments.label)} is set.")
        if isinstance(arguments, Report) and arguments.result.strip():
            return ToolReply("Thank you.", result=arguments.result)
        return _refusal("result: expected more than white space")

    def _within_room(self, text: str) -> ToolReply:
        needed = most_tokens(text)
        if needed > self._room_tokens:
            return _refusal("there is no room for more of the context; end with what you have")
        self._room_tokens -= needed
        return ToolReply(text)


def _refusal(reason: str) -> ToolReply:
    return ToolReply(f"Not done: {reason}.", refused=True)


def _told(error: ValidationError) -> str:
    """What is wrong with the arguments, without repeating them."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_TOLD]
    return "; ".join(
        f"{'.'.join(map(str, each['loc'])) or 'arguments'}: {each['msg']}" for each in first
    )
