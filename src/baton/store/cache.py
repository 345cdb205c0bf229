"""A process's context cache: bounded in bytes, keyed by content hash, one load at a time."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from baton.errors import InvalidInputError
from baton.store.forks import renew_in_children

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the cache was made, and what it holds now."""

    hits: int
    misses: int
    entries: int
    size_bytes: int


@dataclass(slots=True, eq=False)
class _Load:
    """A load under way. Once it is done: its text, or None if it failed."""

    done: threading.Event = field(default_factory=threading.Event)
    text: str | None = None


class ContextCache:
    """Texts by content hash, the least recently used dropped first. Safe for threads and forks.

    Share one among all stores of a process: a hundred agents that read one context then share
    one fetch, one decompression and one string. Concurrent misses of one key wait for the first;
    if that one fails, each loads for itself: equal content may come from different sessions, and
    only one of them need be damaged. A forked child keeps the texts.

    A text larger than the whole bound is handed out but not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise InvalidInputError("max_bytes", "0 or more", max_bytes)
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._hits = 0
        self._misses = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, str] = OrderedDict()
        self._loading: dict[str, _Load] = {}
        renew_in_children(self)

    def get_or_load(self, key: str, load: Callable[[], str]) -> str:
        """The text under `key`, from `load` if it is not here; raises what this `load` raises."""
        with self._lock:
            text = self._entries.get(key)
            if text is not None:
                self._entries.move_to_end(key)
                self._hits += 1
                return text
            others = self._loading.get(key)
            if others is None:
                mine = self._loading[key] = _Load()
        if others is None:
            return self._load_for_all(key, load, mine)
        others.done.wait()
        if others.text is None:
            return self._load(key, load)
        with self._lock:
            self._hits += 1
        return others.text

    def stats(self) -> CacheStats:
        """Counters for metrics and tests."""
        with self._lock:
            return CacheStats(self._hits, self._misses, len(self._entries), self._size_bytes)

    def renew_after_fork(self) -> None:
        """In a forked child: keep the texts, forget the loads, which go on in the parent only."""
        self._lock = threading.Lock()
        self._loading = {}
        self._size_bytes = sum(map(sys.getsizeof, self._entries.values()))

    def _load_for_all(self, key: str, load: Callable[[], str], mine: _Load) -> str:
        try:
            mine.text = self._load(key, load)
            return mine.text
        finally:
            with self._lock:
                self._loading.pop(key, None)
            mine.done.set()

    def _load(self, key: str, load: Callable[[], str]) -> str:
        with self._lock:
            self._misses += 1
        text = load()
        with self._lock:
            self._keep(key, text)
        return text

    def _keep(self, key: str, text: str) -> None:
        size_bytes = sys.getsizeof(text)
        if key in self._entries or size_bytes > self._max_bytes:
            return
        self._entries[key] = text
        self._size_bytes += size_bytes
        while self._size_bytes > self._max_bytes:
            _, dropped = self._entries.popitem(last=False)
            self._size_bytes -= sys.getsizeof(dropped)
