"""Anthropic runners over the fake endpoint and a real Redis."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import SecretStr

from baton.agents.anthropic.options import AnthropicOptions
from baton.agents.anthropic.runner import AnthropicRunner
from baton.agents.breakers import HandoffBreakers, ModelBreakers
from baton.agents.prices import PriceTable
from baton.agents.rate_limits import RateLimit, RateLimits
from baton.agents.warming import Warming
from baton.testing.fake_anthropic import FakeAnthropic, PriceBand
from paid_assignment import PaidAssignment

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
KEY = "sk-ant-api03-top-secret-key"
PRICES = {
    HAIKU: [
        PriceBand("0.10", "0.50", "0.125", "0.20", "0.01", up_to_tokens=100_000),
        PriceBand("0.50", "2.50", "0.625", "1", "0.05"),
    ],
    SONNET: [PriceBand("2", "10", "2.50", "4", "0.10")],
    "claude-haiku-4-5": [PriceBand("1", "5", "1.25", "2", "0.10")],
}


@dataclass
class AnthropicBench:
    """One fake, and runners of it that share what processes share."""

    redis: object
    fake: FakeAnthropic
    limit: RateLimit = field(default_factory=RateLimit)
    runners: list = field(default_factory=list)

    def __post_init__(self):
        self.handoff_breakers = HandoffBreakers(self.redis)
        self.model_breakers = ModelBreakers(self.redis)

    def runner(self, *, warms=True, **options):
        prices = PriceTable.load()
        given = {
            "api_key": SecretStr(self.fake.api_key),
            "base_url": self.fake.base_url,
            "backoff_seconds": 0.01,
            "max_output_tokens": 1_000,
            **options,
        }
        model = given.get("model", HAIKU)
        self.runners.append(
            AnthropicRunner(
                AnthropicOptions(**given),
                prices=prices,
                rate_limits=RateLimits(self.redis, {model: self.limit}),
                model_breakers=self.model_breakers,
                handoff_breakers=self.handoff_breakers,
                warming=Warming(self.redis, prices=prices) if warms else None,
            )
        )
        return self.runners[-1]

    def assignment(self, **given):
        return PaidAssignment(breaker=self.handoff_breakers, **given)

    def answered(self):
        """Calls of `/v1/messages` that generate, without those that only warm."""
        return [call for call in self.calls() if call.body.get("max_tokens")]

    def calls(self):
        return [call for call in self.fake.calls if call.endpoint == "messages"]

    def close(self):
        for runner in self.runners:
            runner.close()
        self.fake.close()
