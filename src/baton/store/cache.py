"""A process's context cache: bounded in bytes, keyed by content hash, one load at a time."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the cache was made, and what it holds now."""

    hits: int
    misses: int
    entries: int
    size_bytes: int


class ContextCache:
    """Texts by content hash, the least recently used dropped first. Safe for threads.

    Share one among all stores of a process: a hundred agents that read one context then share
    one fetch, one decompression and one string. Concurrent misses of one key wait for the first.
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
        self._loading: dict[str, Future[str]] = {}

    def get_or_load(self, key: str, load: Callable[[], str]) -> str:
        """The text under `key`, from `load` if it is not here; what it raises, all waiters get."""
        with self._lock:
            text = self._entries.get(key)
            if text is not None:
                self._entries.move_to_end(key)
                self._hits += 1
                return text
            pending = self._loading.get(key)
            mine = pending is None
            if pending is None:
                self._misses += 1
                pending = self._loading[key] = Future()
            else:
                self._hits += 1
        if mine:
            self._load(key, load, pending)
        return pending.result()

    def stats(self) -> CacheStats:
        """Counters for metrics and tests."""
        with self._lock:
            return CacheStats(self._hits, self._misses, len(self._entries), self._size_bytes)

    def _load(self, key: str, load: Callable[[], str], pending: Future[str]) -> None:
        try:
            text = load()
        except BaseException as error:  # noqa: BLE001  # waiters must not hang, whatever it was
            with self._lock:
                del self._loading[key]
            pending.set_exception(error)
            return
        with self._lock:
            del self._loading[key]
            self._keep(key, text)
        pending.set_result(text)

    def _keep(self, key: str, text: str) -> None:
        size_bytes = sys.getsizeof(text)
        if size_bytes > self._max_bytes:
            return
        self._entries[key] = text
        self._size_bytes += size_bytes
        while self._size_bytes > self._max_bytes:
            _, dropped = self._entries.popitem(last=False)
            self._size_bytes -= sys.getsizeof(dropped)
