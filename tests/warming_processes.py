"""Processes whose threads want one prefix warm."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import redis

from baton.agents.warming import Prefix, Warming
from waiting import until

PREFIX = Prefix("claude-haiku-5-5", "ab" * 32, 90_000)


def go_on():
    """Nobody has cancelled."""


def ensure_from_threads(url, prefixes, asking, pipe):
    """One thread for each prefix; a warming call ends when `asking` of all processes have asked."""
    with redis.Redis.from_url(url) as client:
        warming = Warming(client)

        def warm():
            client.incr("test:warmed")
            until(lambda: int(client.get("test:asked")) == asking, what="all asking")

        def ensure(prefix):
            client.incr("test:asked")
            return warming.ensure(prefix, warm, seconds=60, cancelled=go_on)

        with ThreadPoolExecutor(len(prefixes)) as threads:
            pipe.send(list(threads.map(ensure, prefixes)))


def warm_for_ever(url, lease_seconds, pipe):
    """Send a word from within the warming call, which never ends."""

    def warm():
        pipe.send("warming")
        time.sleep(3600)

    with redis.Redis.from_url(url) as client:
        Warming(client, lease_seconds=lease_seconds).ensure(
            PREFIX, warm, seconds=3600, cancelled=go_on
        )
