"""The Messages API of Anthropic, played on this machine: how users test their swarms offline.

    with FakeAnthropic(script={"Review": "Looks right."}) as fake:
        client = Anthropic(base_url=fake.base_url, api_key=fake.api_key, max_retries=0)

An HTTP server on 127.0.0.1 that the real SDK talks to; nothing here imports the SDK, nor Redis.
`docs/testing.md` says what it does as the real one, and what it does not.
"""

from __future__ import annotations

from baton.testing.fake_anthropic.billing import PriceBand, Usage
from baton.testing.fake_anthropic.calls import Call
from baton.testing.fake_anthropic.failures import (
    Failure,
    billing_refused,
    overloaded,
    rate_limited,
    server_error,
    spend_limit_reached,
)
from baton.testing.fake_anthropic.fake import FakeAnthropic
from baton.testing.fake_anthropic.models import MODELS, ModelLimits
from baton.testing.fake_anthropic.pacing import Gate, Pace
from baton.testing.fake_anthropic.replies import Cut, Reply, ToolCall
from baton.testing.fake_anthropic.request import MessagesRequest

__all__ = [
    "MODELS",
    "Call",
    "Cut",
    "Failure",
    "FakeAnthropic",
    "Gate",
    "MessagesRequest",
    "ModelLimits",
    "Pace",
    "PriceBand",
    "Reply",
    "ToolCall",
    "Usage",
    "billing_refused",
    "overloaded",
    "rate_limited",
    "server_error",
    "spend_limit_reached",
]
