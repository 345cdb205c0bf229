"""A process that asks a breaker once."""

from __future__ import annotations

import redis

from baton.agents.breakers import ModelBreakers
from baton.agents.calls import Call


def ask_once(url, policy, pipe):
    """What a new call of the model `m` is told."""
    with redis.Redis.from_url(url) as client:
        pipe.send(ModelBreakers(client, policy).ask(Call("m", "h", 1)))
