"""A request to `/v1/messages`, as a script reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from baton.testing.fake_anthropic.prompt import Block, as_blocks, prompt_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """What was asked.

    Attributes:
        body: the JSON as it came.
        workspace: whose key it came with.
        blocks: the prompt as the cache sees it.
    """

    body: Mapping[str, Any]
    workspace: str
    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, body: Mapping[str, Any], workspace: str) -> MessagesRequest:
        """From a body that has been checked."""
        return cls(body, workspace, prompt_blocks(body))

    @property
    def model(self) -> str:
        """The model's id."""
        return str(self.body["model"])

    @property
    def max_tokens(self) -> int:
        """The most tokens to answer with; 0 only warms the cache."""
        return int(self.body["max_tokens"])

    @property
    def streams(self) -> bool:
        """Whether the answer is to be a stream of events."""
        return bool(self.body.get("stream"))

    @property
    def stop_sequences(self) -> Sequence[str]:
        """Texts before which the answer ends."""
        return self.body.get("stop_sequences") or ()

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The turns, oldest first."""
        messages: Sequence[Mapping[str, Any]] = self.body["messages"]
        return messages

    @property
    def system(self) -> str:
        """The text of the system prompt."""
        return _text(self.body.get("system"))

    @property
    def last_text(self) -> str:
        """The text of the last turn, that of its tool results with it."""
        return _text(self.messages[-1].get("content"))

    @property
    def tool_results(self) -> Sequence[Mapping[str, Any]]:
        """The `tool_result` blocks of the last turn."""
        content = as_blocks(self.messages[-1].get("content"))
        return [block for block in content if block.get("type") == "tool_result"]

    @property
    def prompt_tokens(self) -> int:
        """The whole prompt's length."""
        return self.blocks[-1].end_tokens if self.blocks else 0


def _text(content: Any) -> str:
    parts = []
    for block in as_blocks(content):
        if block.get("type") == "text":
            parts.append(str(block.get("text", "")))
        elif block.get("type") == "tool_result":
            parts.append(_text(block.get("content")))
    return "\n".join(parts)
