"""Traffic of calls against the rate limits: simulated on a virtual clock, or from processes."""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import count

import redis

from baton.agents import rate_limits
from baton.agents.calls import Call
from baton.agents.rate_limits import RateLimits
from virtual_clock import VirtualClock, on_virtual_clock

MODEL = "m"


def use_virtual_clock(monkeypatch, client):
    """The rate limits' scripts read the clock that this returns."""
    for name in ("_ASK", "_SETTLE", "_HOLD"):
        monkeypatch.setattr(rate_limits, name, on_virtual_clock(getattr(rate_limits, name)))
    return VirtualClock(client)


@dataclass(frozen=True)
class Worker:
    """Makes calls for a handoff one after the other: how large, how long, how much is used."""

    handoff_id: str
    tokens: int = 100
    call_seconds: float = 0.0
    used: float = 1.0
    calls: int = 1_000_000_000
    starts_at: float = 0.0


@dataclass
class Traffic:
    """Workers on a virtual clock that ask again exactly when they are told to."""

    limits: RateLimits
    clock: VirtualClock
    granted: Counter = field(default_factory=Counter)
    waits: dict = field(default_factory=lambda: defaultdict(list))
    asks: int = 0

    def run(self, workers, seconds):
        began = self.clock.now
        order, jitter = count(), random.Random(1)
        events = [
            (began + worker.starts_at + jitter.random() / 100, next(order), worker, None, 0.0, 0)
            for worker in workers
        ]
        heapq.heapify(events)
        while events and events[0][0] < began + seconds:
            at, _, worker, call, since, made = heapq.heappop(events)
            self.clock.move_to(at)
            if call is not None and since is None:
                self.limits.settle(call, int(worker.used * call.tokens))
                call = None
            if call is None:
                if made == worker.calls:
                    continue
                call, since = Call(MODEL, worker.handoff_id, worker.tokens), at
            self.asks += 1
            wait = self.limits.ask(call)
            if wait == 0:
                self.granted[worker.handoff_id] += 1
                self.waits[worker.handoff_id].append(at - since)
                wait, since, made = worker.call_seconds, None, made + 1
            heapq.heappush(events, (at + wait, next(order), worker, call, since, made))


def call_for(url, limit, handoff_id, seconds, pipe):
    """A process that calls as fast as it may, and sends the ids of what it was granted."""
    granted = []
    with redis.Redis.from_url(url) as client:
        limits = RateLimits(client, {MODEL: limit})
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            call = Call(MODEL, handoff_id, 10)
            while (wait := limits.ask(call)) > 0 and time.monotonic() < end:
                time.sleep(wait)
            if wait == 0:
                granted.append(call.call_id)
    pipe.send(granted)
