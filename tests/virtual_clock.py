"""Scripts on a real server that read a clock of the test's instead of the server's."""

from __future__ import annotations

import copy
import hashlib


def on_virtual_clock(script):
    """The script, reading the time from the hash `clock`."""
    ours = copy.copy(script)
    assert "redis.call('TIME')" in script.source
    ours.source = script.source.replace(
        "redis.call('TIME')", "redis.call('HMGET', 'clock', 'seconds', 'us')"
    )
    ours.sha = hashlib.sha1(ours.source.encode(), usedforsecurity=False).hexdigest()
    return ours


class VirtualClock:
    """The time of scripts made by `on_virtual_clock`; it stands still until it is moved."""

    def __init__(self, client, now=1_700_000_000.0):
        self._client = client
        self.move_to(now)

    def move_to(self, now):
        self.now = now
        seconds, microseconds = divmod(round(now * 1e6), 1_000_000)
        self._client.hset("clock", mapping={"seconds": seconds, "us": microseconds})

    def pass_seconds(self, seconds):
        self.move_to(self.now + seconds)
