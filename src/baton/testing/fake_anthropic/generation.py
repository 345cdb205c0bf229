"""What the model writes of a reply within the request's limits, and why it stops."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from baton.testing.fake_anthropic.prompt import BYTES_PER_TOKEN, count_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from baton.testing.fake_anthropic.replies import Reply
    from baton.testing.fake_anthropic.request import MessagesRequest


@dataclass(frozen=True, slots=True)
class Written:
    """A block of the answer: text, or the arguments of a tool call that has a name."""

    text: str
    tool_name: str = ""
    tool_use_id: str = ""

    @property
    def tokens(self) -> int:
        """How much output it is."""
        return count_tokens(self.text)

    def as_json(self) -> dict[str, Any]:
        """The API's form. Arguments that are no JSON stay text, which the SDK's types forbid."""
        if not self.tool_name:
            return {"type": "text", "text": self.text}
        try:
            arguments = json.loads(self.text)
        except ValueError:
            arguments = self.text
        return {**self.begun_json(), "input": arguments}

    def begun_json(self) -> dict[str, Any]:
        """The block before anything was written into it."""
        if not self.tool_name:
            return {"type": "text", "text": ""}
        return {
            "type": "tool_use", "id": self.tool_use_id, "name": self.tool_name, "input": {},
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Generation:
    """What the model wrote, and why it stopped."""

    blocks: tuple[Written, ...]
    stop_reason: str
    stop_sequence: str | None = None

    @property
    def output_tokens(self) -> int:
        """All blocks together."""
        return sum(block.tokens for block in self.blocks)


def generate(
    reply: Reply, request: MessagesRequest, context_tokens: int, call_number: int
) -> Generation:
    """Write `reply`, up to a stop sequence, `max_tokens` or the end of the context window.

    Args:
        reply: what the script chose.
        request: whose limits hold.
        context_tokens: the model's window.
        call_number: makes the ids of tool calls.
    """
    whole = _written(reply, call_number)
    stopped, stop_sequence = _until_stop_sequence(whole, request.stop_sequences)
    room = context_tokens - request.prompt_tokens
    kept = _within(stopped, min(room, request.max_tokens))
    if kept != stopped or not request.max_tokens:
        stop_sequence = None
        is_window = room < request.max_tokens
        reason = "model_context_window_exceeded" if is_window else "max_tokens"
    elif stop_sequence is not None:
        reason = "stop_sequence"
    else:
        reason = "tool_use" if any(block.tool_name for block in kept) else "end_turn"
    return Generation(kept, reply.stop_reason or reason, stop_sequence)


def _written(reply: Reply, call_number: int) -> tuple[Written, ...]:
    text = (Written(reply.text),) if reply.text else ()
    calls = (
        Written(call.arguments_json, call.name, call.id or f"toolu_fake_{call_number}_{place}")
        for place, call in enumerate(reply.tool_calls)
    )
    return (*text, *calls)


def _until_stop_sequence(
    blocks: Sequence[Written], stop_sequences: Sequence[str]
) -> tuple[tuple[Written, ...], str | None]:
    """Only text ends at a stop sequence, and what comes after it is never written."""
    text = blocks[0].text if blocks and not blocks[0].tool_name else ""
    places = [(text.find(each), each) for each in stop_sequences if each in text]
    if not text or not places:
        return tuple(blocks), None
    end, found = min(places)
    return ((Written(text[:end]),) if end else ()), found


def _within(blocks: Iterable[Written], limit_tokens: int) -> tuple[Written, ...]:
    kept, room = [], limit_tokens
    for block in blocks:
        if block.tokens > room:
            if room > 0:
                kept.append(replace(block, text=_head(block.text, room)))
            break
        kept.append(block)
        room -= block.tokens
    return tuple(kept)


def _head(text: str, limit_tokens: int) -> str:
    return text.encode("utf-8", "replace")[: limit_tokens * BYTES_PER_TOKEN].decode(
        "utf-8", "ignore"
    )
