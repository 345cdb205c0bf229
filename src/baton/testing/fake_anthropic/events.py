"""A message as the API sends it: whole, or as the events of a stream."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from baton.testing.fake_anthropic.prompt import count_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.testing.fake_anthropic.billing import Usage
    from baton.testing.fake_anthropic.generation import Generation, Written

_DELTA_CHARACTERS: Final = 32


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream, and how much output has been written up to and with it."""

    name: str
    fields: dict[str, Any]
    output_tokens: int

    def encoded(self, *, breaks_json: bool = False) -> bytes:
        """As it goes out; broken, its JSON ends half-way."""
        text = json.dumps({"type": self.name, **self.fields})
        data = text[: len(text) // 2] if breaks_json else text
        return f"event: {self.name}\ndata: {data}\n\n".encode()


def message_json(message_id: str, model: str, written: Generation, usage: Usage) -> dict[str, Any]:
    """The whole message."""
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [block.as_json() for block in written.blocks],
        "usage": usage.as_json(),
        **_stop_json(written),
    }


def stream_events(
    message_id: str, model: str, written: Generation, prompt_usage: Usage
) -> Iterator[Event]:
    """The same message, event by event.

    Args:
        message_id: the message's.
        model: its model's.
        written: what the model wrote.
        prompt_usage: the prompt's share of the usage.
    """
    begun = message_json(message_id, model, written, prompt_usage)
    begun |= {"content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None}
    yield Event("message_start", {"message": begun}, 0)
    yield Event("ping", {}, 0)
    before_tokens = 0
    for index, block in enumerate(written.blocks):
        yield from _block_events(index, block, before_tokens)
        before_tokens += block.tokens
    usage = prompt_usage.with_output(before_tokens).as_json()
    usage = {key: usage[key] for key in usage if key.endswith("_tokens")}
    yield Event("message_delta", {"delta": _stop_json(written), "usage": usage}, before_tokens)
    yield Event("message_stop", {}, before_tokens)


def _block_events(index: int, block: Written, before_tokens: int) -> Iterator[Event]:
    begun = {"index": index, "content_block": block.begun_json()}
    yield Event("content_block_start", begun, before_tokens)
    for start in range(0, len(block.text), _DELTA_CHARACTERS):
        end = start + _DELTA_CHARACTERS
        delta = _delta_json(block, block.text[start:end])
        tokens = before_tokens + count_tokens(block.text[:end])
        yield Event("content_block_delta", {"index": index, "delta": delta}, tokens)
    yield Event("content_block_stop", {"index": index}, before_tokens + block.tokens)


def _delta_json(block: Written, part: str) -> dict[str, str]:
    if block.tool_name:
        return {"type": "input_json_delta", "partial_json": part}
    return {"type": "text_delta", "text": part}


def _stop_json(written: Generation) -> dict[str, Any]:
    refusal = {"type": "refusal", "category": None, "explanation": None}
    return {
        "stop_reason": written.stop_reason,
        "stop_sequence": written.stop_sequence,
        "stop_details": refusal if written.stop_reason == "refusal" else None,
    }
