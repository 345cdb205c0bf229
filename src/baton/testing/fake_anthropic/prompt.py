"""A request's prompt as the cache sees it: blocks in the order tools, system, messages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from baton.testing.fake_anthropic.failures import Failure, invalid_request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BYTES_PER_TOKEN: Final = 4
MAX_BREAKPOINTS: Final = 4
TTL_SECONDS: Final[Mapping[str, int]] = {"5m": 300, "1h": 3600}


@dataclass(frozen=True, slots=True)
class Block:
    """One block.

    Attributes:
        digest: of everything up to and with this block.
        end_tokens: how long the prompt is up to and with this block.
        ttl: `5m` or `1h` where it ends a prefix to cache, else empty.
    """

    digest: bytes
    end_tokens: int
    ttl: str


def count_tokens(text: str) -> int:
    """The whole rule: a token for each four bytes of UTF-8 or what is left of four."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def prompt_blocks(body: Mapping[str, Any]) -> tuple[Block, ...]:
    """The blocks of a request's body, which has been checked by `check_prompt`.

    Text counts by its own length, any other block by that of its compact JSON. The order of an
    object's keys counts, as it does for the real cache.
    """
    raw = list(_raw_blocks(body))
    blocks, digest, tokens = [], sha256(), 0
    for number, (place, block) in enumerate(raw, 1):
        ttl = _ttl(block) or (_ttl(body) if number == len(raw) else "")
        text = _counted_text(block)
        tokens += count_tokens(text)
        digest.update(f"{place}\0{block.get('type')}\0{len(text)}\0{text}".encode(errors="replace"))
        blocks.append(Block(digest.digest(), tokens, ttl))
    return tuple(blocks)


def check_prompt(body: Mapping[str, Any]) -> Failure | None:
    """What the API would refuse about the prompt, or None."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return invalid_request("messages: at least one message is required")
    if not all(isinstance(each, dict) and isinstance(each.get("role"), str) for each in messages):
        return invalid_request("messages: each must be an object with a role and content")
    sections = [body.get("tools"), body.get("system"), *(each.get("content") for each in messages)]
    if not all(_is_content(each) for each in sections):
        return invalid_request("content: text or a list of objects is expected")
    return _check_breakpoints([*(block for _, block in _raw_blocks(body)), body])


def _is_content(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(each, dict) for each in value)
    return value is None or isinstance(value, str)


def _check_breakpoints(blocks: Sequence[Mapping[str, Any]]) -> Failure | None:
    ttls = [_ttl(block) for block in blocks if block.get("cache_control") is not None]
    if len(ttls) > MAX_BREAKPOINTS:
        return invalid_request(
            f"A maximum of {MAX_BREAKPOINTS} blocks with cache_control may be provided. "
            f"Found {len(ttls)}."
        )
    if unknown := [ttl for ttl in ttls if ttl not in TTL_SECONDS]:
        return invalid_request(f"cache_control.ttl: expected 5m or 1h, got {unknown[0]!r}")
    if ttls != sorted(ttls):  # "1h" sorts before "5m"
        return invalid_request("cache_control: a ttl of 1h must not come after one of 5m")
    return None


def _ttl(holder: Mapping[str, Any]) -> str:
    control = holder.get("cache_control")
    if control is None:
        return ""
    if not isinstance(control, dict) or control.get("type") != "ephemeral":
        return "<not ephemeral>"
    return str(control.get("ttl") or "5m")


def _raw_blocks(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from (("tools", tool) for tool in body.get("tools") or ())
    yield from (("system", block) for block in as_blocks(body.get("system")))
    for message in body["messages"]:
        yield from ((message["role"], block) for block in as_blocks(message.get("content")))


def as_blocks(content: Any) -> Sequence[Mapping[str, Any]]:
    """Content in its long form: plain text is one text block."""
    if isinstance(content, str):
        return ({"type": "text", "text": content},)
    return content or ()


def _counted_text(block: Mapping[str, Any]) -> str:
    if block.get("type") == "text":
        return str(block.get("text", ""))
    bare = {key: value for key, value in block.items() if key != "cache_control"}
    return json.dumps(bare, ensure_ascii=False, separators=(",", ":"))
