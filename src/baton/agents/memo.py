"""Things derived from a text, kept by its hash: bounded in bytes, each built once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Memo(Generic[T]):
    """A cache of values by key, the least recently used dropped first. Safe for threads.

    The first caller of a key builds its value, the others wait for it. The newest value is kept
    even if it alone is above the bound: the nodes of one handoff share it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[Future[T], int]] = OrderedDict()

    def get(self, key: str, size_bytes: int, build: Callable[[], T]) -> T:
        """The value of `key`, from `build` if it is not kept. What `build` raises all waiters get.

        `size_bytes` is what the value is counted as.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                value: Future[T] = Future()
                self._entries[key] = (value, size_bytes)
                self._drop_oldest()
            else:
                value = entry[0]
                self._entries.move_to_end(key)
        if entry is None:
            self._build(key, value, build)
        return value.result()

    def _build(self, key: str, value: Future[T], build: Callable[[], T]) -> None:
        try:
            value.set_result(build())
        except BaseException as error:  # noqa: BLE001  # the waiters must not hang; get raises it
            with self._lock:
                if self._entries.get(key, (None, 0))[0] is value:
                    del self._entries[key]
            value.set_exception(error)

    def _drop_oldest(self) -> None:
        while len(self._entries) > 1 and self._size_bytes() > self._max_bytes:
            self._entries.popitem(last=False)

    def _size_bytes(self) -> int:
        return sum(size_bytes for _, size_bytes in self._entries.values())
