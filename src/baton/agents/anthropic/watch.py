"""Looks at a call while it is under way: may it still be sent, is it still wanted, is there time.

The SDK shows neither the moment at which it sends, which comes after it has connected, nor the
pings with which the API fills a silence. Its HTTP client does: `hooks` are for that.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx2

from baton.errors import NodeCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SENDING: Final = "send_request_headers.started"


@dataclass(frozen=True, slots=True)
class Watch:
    """Of one call.

    Attributes:
        check_sendable: called before the first byte is sent; raises to send nothing.
        stopped: True: the rest of the answer is not wanted.
        seconds: how long all of it may take, from now on.
    """

    check_sendable: Callable[[], None]
    stopped: Callable[[], bool]
    seconds: float
    _began_at: float = field(default_factory=time.monotonic)

    def look(self) -> None:
        """Go on reading.

        Raises:
            NodeCancelledError: it is not wanted any more.
            TimeoutError: its time is up.
        """
        if self.stopped():
            raise NodeCancelledError("the node was cancelled; stop and return")
        if time.monotonic() - self._began_at > self.seconds:
            raise TimeoutError


_current: ContextVar[Watch | None] = ContextVar("baton_watch", default=None)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Have the calls of this thread, for the block, looked at by `watch`."""
    token = _current.set(watch)
    try:
        yield
    finally:
        _current.reset(token)


def hooks() -> dict[str, list[Callable[[Any], None]]]:
    """The event hooks of an HTTP client whose calls are watched."""
    return {"request": [_before_sending], "response": [_while_reading]}


def _before_sending(request: httpx2.Request) -> None:
    watch = _current.get()
    if watch is None:
        return

    def trace(name: str, _info: object) -> None:
        if name.endswith(_SENDING):
            watch.check_sendable()

    request.extensions = {**request.extensions, "trace": trace}


def _while_reading(response: httpx2.Response) -> None:
    watch = _current.get()
    if watch is not None and isinstance(response.stream, httpx2.SyncByteStream):
        response.stream = _WatchedBytes(response.stream, watch)


class _WatchedBytes(httpx2.SyncByteStream):
    """The bytes of an answer, with a look at each piece of it: a ping is one."""

    def __init__(self, stream: httpx2.SyncByteStream, watch: Watch) -> None:
        self._stream = stream
        self._watch = watch

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._watch.look()
            yield piece

    def close(self) -> None:
        self._stream.close()
