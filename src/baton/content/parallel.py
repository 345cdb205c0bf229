"""Work on bytes spread over all cores, by threads: hashing and compressing release the GIL."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")

# Below it, waking another thread costs more than it saves.
WORTH_SHARING_BYTES: Final = 262_144


def map_parallel(function: Callable[[T], R], items: Sequence[T], *, size_bytes: int) -> list[R]:
    """`[function(item) for item in items]`, on all cores where `size_bytes` of work pay for it.

    Fails as `iterate_parallel` does.
    """
    return list(iterate_parallel(function, items, size_bytes=size_bytes))


def iterate_parallel(
    function: Callable[[T], R], items: Sequence[T], *, size_bytes: int
) -> Iterator[R]:
    """Yield `function(item)` of each item in order, while other cores work ahead.

    The caller's thread works too whenever the next result is not there yet, so calls may nest
    and none waits for a busy pool. If calls fail, the error of the first such item is raised in
    its turn, and items not yet begun are left.
    """
    helpers_count = min(_cores(), len(items)) - 1
    if helpers_count < 1 or size_bytes < WORTH_SHARING_BYTES:
        yield from map(function, items)
        return
    share = _Share(function, items)
    helpers = [_submit(share.work) for _ in range(helpers_count)]
    try:
        for index in range(len(items)):
            while index not in share.results and share.work_on_next():
                pass
            if index not in share.results:
                _settle(helpers)
            yield share.take(index)
    finally:
        share.pending.clear()
        _settle(helpers)


def run_both(aside: Callable[[], A], here: Callable[[], B], *, size_bytes: int) -> tuple[A, B]:
    """`(aside(), here())`, `aside` on another thread where `size_bytes` of work pay for it.

    Errors: `here`'s if it fails, else `aside`'s.
    """
    other = _submit(aside) if _cores() > 1 and size_bytes >= WORTH_SHARING_BYTES else None
    try:
        result = here()
    except BaseException:
        _settle([other])
        raise
    if other is None or other.cancel():
        return aside(), result
    return other.result(), result


class _Share(Generic[T, R]):
    """The items of one call, handed out in order to every thread that works on it."""

    def __init__(self, function: Callable[[T], R], items: Sequence[T]) -> None:
        self.function = function
        self.pending = deque(enumerate(items))
        self.results: dict[int, R] = {}
        self.failures: dict[int, Exception] = {}

    def work(self) -> None:
        """Work until no item is left or one has failed."""
        while self.work_on_next():
            pass

    def work_on_next(self) -> bool:
        """Work on one item; False if none is left."""
        try:
            index, item = self.pending.popleft()
        except IndexError:
            return False
        try:
            self.results[index] = self.function(item)
        except Exception as error:  # noqa: BLE001  # carried to the caller, in its turn
            self.failures[index] = error
            self.pending.clear()
        return True

    def take(self, index: int) -> R:
        """The result, or the error, of an item that was worked on."""
        if index in self.failures:
            raise self.failures[index]
        return self.results.pop(index)


def _submit(work: Callable[[], R]) -> Future[R] | None:
    try:
        return _pool().submit(work)
    except RuntimeError:  # the interpreter is shutting down, or the system gives no more threads
        return None


def _settle(helpers: Iterable[Future[R] | None]) -> None:
    """Withdraw the helpers that have not begun; wait for those that have."""
    wait([helper for helper in helpers if helper is not None and not helper.cancel()])


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, _cores() - 1), thread_name_prefix="baton-content")


# A forked child inherits the pool without its threads, and would wait for them for ever.
os.register_at_fork(after_in_child=_pool.cache_clear)


@cache
def _cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
