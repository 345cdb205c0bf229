"""The tools of a worker, as the model sees them: names, descriptions, and checked arguments."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

# Named in the descriptions, as a strict schema has no keywords for bounds.
MAX_READ_BYTES: Final = 32_768
MAX_SPAWNED_AT_ONCE: Final = 100
MAX_PASSAGES: Final = 5
MAX_QUERY_CHARACTERS: Final = 1_000
MAX_LABEL_CHARACTERS: Final = 200

_NOT_STRICT: Final = ("title", "default", "minimum", "maximum", "minLength", "maxLength",
                      "minItems", "maxItems")  # fmt: skip


class Arguments(BaseModel):
    """Arguments of one tool: nothing is converted, nothing else is taken."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    tool: ClassVar[str]
    purpose: ClassVar[str]


class ReadContext(Arguments):
    """A range of the context's bytes."""

    tool = "read_context"
    purpose = (
        "Reads the context's exact text from byte `start` up to, not including, byte `end`. "
        f"At most {MAX_READ_BYTES} bytes at a time; the answer says which bytes it has."
    )
    start: int = Field(ge=0, description="First byte, 0 or more.")
    end: int = Field(ge=1, description="Byte after the last; above `start`.")


class SearchContext(Arguments):
    """Words to look for."""

    tool = "search_context"
    purpose = (
        f"Finds the {MAX_PASSAGES} passages of the context that are most relevant to the words of "
        "`query`, each with its range of bytes."
    )
    query: str = Field(
        min_length=1,
        max_length=MAX_QUERY_CHARACTERS,
        description=f"Words, at most {MAX_QUERY_CHARACTERS} characters.",
    )


class SpawnWorkers(Arguments):
    """Tasks for workers of their own."""

    tool = "spawn_workers"
    purpose = (
        "Hands tasks to new workers over the same context. They start when you end your turn with "
        "what you have. With `then` you are asked once more, with `then` as your task and their "
        "results; without it their results follow yours."
    )
    tasks: list[str] = Field(
        min_length=1,
        max_length=MAX_SPAWNED_AT_ONCE,
        description=f"1 to {MAX_SPAWNED_AT_ONCE} tasks, each complete in itself.",
    )
    then: str | None = Field(default=None, description="What to do with the results, or null.")


class Report(Arguments):
    """The node's result."""

    tool = "report"
    purpose = "Gives your result and ends your work. Nothing you write after it is read."
    result: str = Field(min_length=1, description="The whole result, as text or Markdown.")


class SetCheckpoint(Arguments):
    """A name for a place."""

    tool = "checkpoint"
    purpose = "Sets a checkpoint in the shared context, to which a person can come back."
    label: str = Field(
        min_length=1,
        max_length=MAX_LABEL_CHARACTERS,
        description=f"A short name, one line of at most {MAX_LABEL_CHARACTERS} characters.",
    )


TOOLS: Final[tuple[type[Arguments], ...]] = (
    ReadContext, SearchContext, SpawnWorkers, Report, SetCheckpoint,
)  # fmt: skip


def tool_definitions() -> list[dict[str, Any]]:
    """The request's `tools`, the same in every call."""
    return [
        {
            "name": each.tool,
            "description": each.purpose,
            "input_schema": _strict(each.model_json_schema()),
            "strict": True,
        }
        for each in TOOLS
    ]


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` without what a strict tool may not have; the bounds are checked by us."""
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            kept[key] = {name: _strict(each) for name, each in value.items()}
        elif key not in _NOT_STRICT and not (key == "description" and "properties" in schema):
            kept[key] = value
    return kept
