"""Ctrl-C and its kin, so that cleaning up is never torn, and a second one hurries it."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


def signals() -> tuple[signal.Signals, ...]:
    """What stops us: SIGINT, SIGTERM, and SIGHUP but under `nohup`."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return signal.SIGINT, signal.SIGTERM
    return signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def raise_on_signals() -> None:
    """Have every stopping signal raise KeyboardInterrupt: what was opened gets closed."""
    for number in signals():
        signal.signal(number, signal.default_int_handler)


class Interrupts:
    """While open, the first signal raises KeyboardInterrupt, and none does once `hold` was called.

    `hurry` is True when the user asked again, or asked for the first time after `hold`.
    """

    def __init__(self) -> None:
        self.hurry = False
        self._came = False
        self._held = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in signals():
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def hold(self) -> None:
        """From here on signals are only counted."""
        self._held = True

    @contextlib.contextmanager
    def held_at_end(self) -> Iterator[None]:
        """`hold` when the block ends, however it does: what was opened before it gets closed."""
        try:
            yield
        finally:
            self.hold()

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Have a signal that comes within the block raise at its end, not in the middle."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.hurry:
            self.hurry = False
            self._came = True
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._held or self._came:
            self.hurry = True
            return
        self._came = True
        raise KeyboardInterrupt
