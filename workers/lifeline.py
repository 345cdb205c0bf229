"""Ends a process in time: its parent is gone, its warm shutdown takes too long, or it is frozen.

The parent holds the write end of a pipe and never writes. The kernel closes it however the
parent dies, SIGKILL included; the child, reading, sees the end and stops.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_EXIT_CODE = 75  # EX_TEMPFAIL: stopped before it was done
_WINDS_PER_ALARM = 4
LAST_SECONDS = 3.0


@contextmanager
def opened() -> Iterator[int]:
    """For a parent: the end of a pipe that its children watch, until the block ends or it dies."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


def watch(fd: int, *, then_exit_seconds: float) -> None:
    """Send SIGTERM to this process when the other end of `fd` closes.

    A process still there `then_exit_seconds` later ends at once. Returns immediately.
    """
    threading.Thread(
        target=_follow, args=(fd, then_exit_seconds), name="lifeline", daemon=True
    ).start()


def exit_in(seconds: float, *, first: Callable[[], object] | None = None) -> None:
    """End this process in `seconds`, whatever hangs. Leases and late acks keep its work.

    A thread that never returns would otherwise hold the interpreter at its exit. `first` is called
    then, and given `LAST_SECONDS`.
    """
    threading.Thread(target=_exit, args=(seconds, first), name="exit-in", daemon=True).start()


def end_when_frozen(seconds: float) -> None:
    """Have the kernel end this process (SIGALRM) when its threads have not run for so long.

    One of them may hold the interpreter in a C function; then nothing in here could end it.
    """
    threading.Thread(target=_wind, args=(seconds,), name="watchdog", daemon=True).start()


def _wind(seconds: float) -> None:
    while True:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        time.sleep(seconds / _WINDS_PER_ALARM)


def _follow(fd: int, then_exit_seconds: float) -> None:
    while os.read(fd, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    _exit(then_exit_seconds)


def _exit(seconds: float, first: Callable[[], object] | None = None) -> None:
    time.sleep(seconds)
    if first is not None:
        last = threading.Thread(target=first, name="last", daemon=True)
        last.start()
        last.join(LAST_SECONDS)
    sys.stderr.flush()
    os._exit(_EXIT_CODE)
