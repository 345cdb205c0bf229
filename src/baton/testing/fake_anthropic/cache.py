"""The prompt cache: an entry is readable only once the response of its writer has begun."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from baton.testing.fake_anthropic.billing import Usage
from baton.testing.fake_anthropic.prompt import TTL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from baton.testing.fake_anthropic.request import MessagesRequest

CacheUse = Literal["hit", "write", "miss", "none"]

# From a breakpoint the real cache looks this many blocks back for something to read.
LOOKBACK_BLOCKS: Final = 20

Key = tuple[str, str, bytes]


@dataclass(slots=True)
class _Entry:
    ttl_seconds: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class CachePlan:
    """What one request reads, and what it will have written when its response begins.

    Attributes:
        use: `hit` something was read (more may be written), `write` only written, `miss` neither
            although asked for (below the minimum), `none` not asked for.
        usage: the prompt's share of the call's usage.
        writes: what becomes readable, with its seconds to live.
    """

    use: CacheUse
    usage: Usage
    writes: tuple[tuple[Key, int], ...]


class PromptCache:
    """Entries by workspace, model and prefix. Thread-safe.

    Args:
        clock: seconds, of any origin; it decides when entries expire.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[Key, _Entry] = {}

    def look_up(self, request: MessagesRequest, minimum_tokens: int) -> CachePlan:
        """Read the longest entry there is, which moves its expiry. Nothing is written yet."""
        blocks = request.blocks
        asked = [number for number, block in enumerate(blocks) if block.ttl]
        marks = [number for number in asked if blocks[number].end_tokens >= minimum_tokens]
        keys = [(request.workspace, request.model, block.digest) for block in blocks]
        with self._lock:
            hit = self._longest_hit(keys, marks)
            self._refresh([keys[number] for number in {*marks, hit} if 0 <= number <= hit])
        written = [number for number in marks if number > hit]
        return CachePlan(
            use=_use(hit, written, asked),
            usage=_prompt_usage(request, hit, written),
            writes=tuple((keys[number], TTL_SECONDS[blocks[number].ttl]) for number in written),
        )

    def begin_response(self, plan: CachePlan) -> None:
        """From now on, what the plan writes can be read."""
        with self._lock:
            now = self._clock()
            for key, ttl_seconds in plan.writes:
                entry = self._entries.setdefault(key, _Entry(ttl_seconds, now))
                entry.ttl_seconds = max(entry.ttl_seconds, ttl_seconds)
                entry.expires_at = max(entry.expires_at, now + ttl_seconds)

    def clear(self) -> None:
        """Forget every entry, as the real cache may at any time."""
        with self._lock:
            self._entries.clear()

    def _longest_hit(self, keys: Sequence[Key], marks: Sequence[int]) -> int:
        for mark in reversed(marks):
            for number in range(mark, max(-1, mark - LOOKBACK_BLOCKS), -1):
                if self._is_readable(keys[number]):
                    return number
        return -1

    def _is_readable(self, key: Key) -> bool:
        entry = self._entries.get(key)
        if entry is not None and entry.expires_at <= self._clock():
            del self._entries[key]
            return False
        return entry is not None

    def _refresh(self, keys: Sequence[Key]) -> None:
        now = self._clock()
        for key in keys:
            if self._is_readable(key):
                self._entries[key].expires_at = now + self._entries[key].ttl_seconds


def _use(hit: int, written: Sequence[int], asked: Sequence[int]) -> CacheUse:
    if hit >= 0:
        return "hit"
    if written:
        return "write"
    return "miss" if asked else "none"


def _prompt_usage(request: MessagesRequest, hit: int, written: Sequence[int]) -> Usage:
    read = request.blocks[hit].end_tokens if hit >= 0 else 0
    end, tokens = read, dict.fromkeys(TTL_SECONDS, 0)
    for number in written:
        block = request.blocks[number]
        tokens[block.ttl] += block.end_tokens - end
        end = block.end_tokens
    return Usage(
        input_tokens=request.prompt_tokens - end,
        cache_read_tokens=read,
        cache_write_5m_tokens=tokens["5m"],
        cache_write_1h_tokens=tokens["1h"],
    )
