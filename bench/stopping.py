"""Ctrl-C and SIGTERM that cannot get lost, and that never cut a clean-up short."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class _Stop:
    """Whether somebody asked this process to stop."""

    asked = False


def listen() -> None:
    """From now on the first signal raises KeyboardInterrupt where the process is; others wait."""
    signal.signal(signal.SIGINT, _on_signal)
    signal.signal(signal.SIGTERM, _on_signal)


def check() -> None:
    """Raise KeyboardInterrupt if a signal came: Python drops one that meets a garbage collection.

    Raises:
        KeyboardInterrupt: the process was asked to stop.
    """
    if _Stop.asked:
        raise KeyboardInterrupt


def _on_signal(_number: int, _frame: FrameType | None) -> None:
    if not _Stop.asked:
        _Stop.asked = True
        raise KeyboardInterrupt
