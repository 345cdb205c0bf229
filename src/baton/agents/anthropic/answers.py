"""What the model answered, put together from the events of a stream."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from baton.agents.anthropic.token_bound import most_tokens
from baton.agents.runner import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Of one call; no model's window comes near. More would be beyond what scripts count exactly.
MOST_COUNTED: Final = 1_000_000_000

_COUNTS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_write_tokens": "cache_creation_input_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool that the model asks for; `arguments` is what it wrote, JSON or not."""

    use_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.

    Attributes:
        blocks: its content in the form in which the API takes it back.
        text: of all its text blocks.
        tool_uses: in their order.
        stop_reason: as the API said it; None: it said none.
        detail: what it said besides, a word, such as a refusal's category.
        usage: what it is paid for.
    """

    blocks: Sequence[Mapping[str, Any]] = ()
    text: str = ""
    tool_uses: Sequence[ToolUse] = ()
    stop_reason: str | None = None
    detail: str = ""
    usage: Usage = field(default_factory=Usage)


class AnswerBuilder:
    """Collects the events of one stream.

    Attributes:
        usage: what is known of it so far; None before the answer has begun.
        whole: whether the answer has come to its end.
    """

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.whole = False
        self._blocks: dict[int, dict[str, Any]] = {}
        self._written: dict[int, list[str]] = {}
        self._stop_reason: str | None = None
        self._detail = ""

    def add(self, event: Any) -> None:
        """Take the next event; an unknown one is skipped, as the API asks of its clients.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: it is not what the API sends.
        """
        if event.type == "message_start":
            self.usage = read_usage(event.message.usage, Usage())
        elif event.type == "content_block_start":
            self._blocks[event.index] = event.content_block.to_dict()
            self._written[event.index] = []
        elif event.type == "content_block_delta":
            self._grow(event.index, event.delta)
        elif event.type == "message_delta":
            self._stop_reason = event.delta.stop_reason
            self._detail = read_detail(event.delta)
            self.usage = read_usage(event.usage, self.usage or Usage())
            self.whole = self.whole or self._stop_reason is not None
        elif event.type == "message_stop":
            self.whole = True

    def answer(self) -> Answer:
        """The answer, so far as it has come."""
        blocks = [self._finished(index) for index in sorted(self._blocks)]
        return Answer(
            # The API takes no empty text back.
            blocks=[block for block in blocks if block.get("text") != ""],
            text="".join(block["text"] for block in blocks if block["type"] == "text"),
            tool_uses=[self._tool_use(index) for index in sorted(self._blocks)
                       if self._blocks[index]["type"] == "tool_use"],
            stop_reason=self._stop_reason,
            detail=self._detail,
            usage=self.usage or Usage(),
        )  # fmt: skip

    @property
    def usage_so_far(self) -> Usage | None:
        """What an answer that is broken off here is paid for, at most; None: nobody knows."""
        if self.usage is None:
            return None
        written = sum(most_tokens("".join(parts)) for parts in self._written.values())
        return replace(self.usage, output_tokens=max(self.usage.output_tokens, written))

    def _grow(self, index: int, delta: Any) -> None:
        for name in ("text", "partial_json", "thinking"):
            if isinstance(part := getattr(delta, name, None), str):
                self._written[index].append(part)
        if isinstance(signature := getattr(delta, "signature", None), str):
            self._blocks[index]["signature"] = signature

    def _finished(self, index: int) -> dict[str, Any]:
        block, written = self._blocks[index], "".join(self._written[index])
        if block["type"] == "tool_use":
            names = ("type", "id", "name")
            return {**{name: block[name] for name in names}, "input": _object(written)}
        if block["type"] in ("text", "thinking"):
            name = block["type"]
            return {**block, name: str(block.get(name) or "") + written}
        return block

    def _tool_use(self, index: int) -> ToolUse:
        block = self._blocks[index]
        return ToolUse(block["id"], block["name"], "".join(self._written[index]) or "{}")


def read_usage(given: Any, before: Usage) -> Usage:
    """`before` with the counts that `given`, the API's usage, has; they are totals.

    Raises:
        ValueError: as `read_count`.
    """
    found = {ours: getattr(given, theirs, None) for ours, theirs in _COUNTS.items()}
    known = {name: read_count(count, name) for name, count in found.items() if count is not None}
    return replace(before, **known)


def read_count(given: Any, name: str) -> int:
    """A number of tokens, which must be one that a call can have: it is charged to a budget.

    Raises:
        ValueError: it is not.
    """
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= MOST_COUNTED:
        raise ValueError(f"{name} is no count")
    return given


def read_detail(given: Any) -> str:
    """The category of a refusal, or the stop sequence; empty where there is none."""
    category = getattr(getattr(given, "stop_details", None), "category", None)
    word = category or getattr(given, "stop_sequence", None) or ""
    return "".join(char for char in str(word)[:80] if char.isprintable())


def _object(text: str) -> dict[str, Any]:
    """The arguments as an object, which the API demands back even where the model wrote none."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
