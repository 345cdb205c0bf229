"""Which commands a server is slow at, although the machine it shares with the tests is busy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

SLOW_MICROSECONDS = 5_000
ROUNDS = 4


def slow_commands(client: redis.Redis, work: Callable[[], object]) -> set[str]:
    """The commands of `work` that took the server over 5 ms at each of a few rounds.

    The slow log counts wall time: one that was suspended for a while amid a command logs it. What
    is slow by itself is so at every round.
    """
    before = client.config_get("slowlog-log-slower-than")["slowlog-log-slower-than"]
    client.config_set("slowlog-log-slower-than", SLOW_MICROSECONDS)
    try:
        slow = _slow(client, work)
        for _ in range(ROUNDS - 1):
            if not slow:
                break
            slow &= _slow(client, work)
    finally:
        client.config_set("slowlog-log-slower-than", before)
    return slow


def _slow(client: redis.Redis, work: Callable[[], object]) -> set[str]:
    client.slowlog_reset()
    work()
    entries = client.slowlog_get(100)
    return {_told(entry["command"].decode("latin-1").split()) for entry in entries}


def _told(words: list[str]) -> str:
    """A command and its script or first key; of SCAN, the cursor differs each time."""
    return " ".join([word for word in words if not word.isdigit()][:2])
