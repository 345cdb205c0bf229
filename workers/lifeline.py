"""Ends a process in time: when its parent is gone, and when its own warm shutdown takes too long.

The parent holds the write end of a pipe and never writes. The kernel closes it however the
parent dies, SIGKILL included; the child, reading, sees the end and stops.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

_EXIT_CODE = 75  # EX_TEMPFAIL: stopped before it was done


def watch(fd: int, *, then_exit_seconds: float) -> None:
    """Send SIGTERM to this process when the other end of `fd` closes.

    A process still there `then_exit_seconds` later ends at once. Returns immediately.
    """
    threading.Thread(
        target=_follow, args=(fd, then_exit_seconds), name="lifeline", daemon=True
    ).start()


def exit_in(seconds: float) -> None:
    """End this process in `seconds`, whatever hangs. Leases and late acks keep its work.

    A thread that never returns would otherwise hold the interpreter at its exit.
    """
    threading.Thread(target=_exit, args=(seconds,), name="exit-in", daemon=True).start()


def _follow(fd: int, then_exit_seconds: float) -> None:
    while os.read(fd, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    _exit(then_exit_seconds)


def _exit(seconds: float) -> None:
    time.sleep(seconds)
    sys.stderr.flush()
    os._exit(_EXIT_CODE)
