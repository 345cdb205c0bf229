"""Notices that a clock may have jumped, so that nothing is erased before somebody could see it."""

from __future__ import annotations

from typing import Protocol


class Facts(Protocol):
    """Keeps a few words by name, on the disk."""

    def fact(self, name: str) -> str | None:
        """What was recorded, or None."""

    def set_fact(self, name: str, value: str) -> None:
        """Record it, in place of what was there."""


class JumpWatch:
    """Pauses what goes by the clock after a time in which nobody looked at it.

    Args:
        facts: where the last look is kept.
        name: what goes by the clock.
        jump_ms: how far the clock may move between two looks; more than their period.
        pause_ms: how long it pauses, at most, after more than that: a tenth of what it moved.
    """

    def __init__(self, facts: Facts, name: str, *, jump_ms: int, pause_ms: int) -> None:
        self._facts = facts
        self._seen = f"{name}_seen_at_ms"
        self._paused = f"{name}_paused_until_ms"
        self._jump_ms = jump_ms
        self._pause_ms = pause_ms

    def paused_until_ms(self, now_ms: int) -> int:
        """Until when it pauses; 0 if it does not. This is a look."""
        seen_ms = int(self._facts.fact(self._seen) or now_ms)
        gap_ms = abs(now_ms - seen_ms)
        if gap_ms > self._jump_ms:
            # A machine that is off every night must not pause all day.
            pause_ms = min(self._pause_ms, max(self._jump_ms, gap_ms // 10))
            self._facts.set_fact(self._paused, str(now_ms + pause_ms))
        self._facts.set_fact(self._seen, str(now_ms))
        until_ms = int(self._facts.fact(self._paused) or 0)
        # A pause that lies further ahead than it can was noted by a clock that was wrong.
        return until_ms if now_ms < until_ms <= now_ms + self._pause_ms else 0
