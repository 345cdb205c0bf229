"""Usage and what it costs, by a table of prices that the test gives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from baton.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one call, each counted under one name only."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0

    @property
    def cache_write_tokens(self) -> int:
        """Written to the cache, for either time."""
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def prompt_tokens(self) -> int:
        """The whole prompt, cached or not."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    def with_output(self, output_tokens: int) -> Usage:
        """The same prompt with that much of an answer."""
        return replace(self, output_tokens=output_tokens)

    def as_json(self) -> dict[str, Any]:
        """The API's form."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_read_input_tokens": self.cache_read_tokens,
            "cache_creation_input_tokens": self.cache_write_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_write_5m_tokens,
                "ephemeral_1h_input_tokens": self.cache_write_1h_tokens,
            },
            "service_tier": "standard",
        }


@dataclass(frozen=True, slots=True)
class PriceBand:
    """USD per million tokens, as decimal text, for prompts of at most `up_to_tokens` (None: all).

    A prompt beyond a band pays the next band's price for all of it.
    """

    input_usd: str
    output_usd: str
    cache_write_5m_usd: str
    cache_write_1h_usd: str
    cache_read_usd: str
    up_to_tokens: int | None = None

    def covers(self, usage: Usage) -> bool:
        """Whether this band is for a prompt of that length."""
        return self.up_to_tokens is None or usage.prompt_tokens <= self.up_to_tokens

    def cost_usd(self, usage: Usage) -> Decimal:
        """What a call with that usage costs, exactly."""
        parts = (
            (self.input_usd, usage.input_tokens),
            (self.output_usd, usage.output_tokens),
            (self.cache_write_5m_usd, usage.cache_write_5m_tokens),
            (self.cache_write_1h_usd, usage.cache_write_1h_tokens),
            (self.cache_read_usd, usage.cache_read_tokens),
        )
        return sum((Decimal(usd) * tokens for usd, tokens in parts), Decimal(0)) / _MILLION


class PriceList:
    """The bands of each model, the cheapest prompt first. An empty list: all is free.

    Args:
        bands: by model; the last band of each is without a limit.
        models: those that need a price.

    Raises:
        InvalidInputError: a model has no price, or none for long prompts.
    """

    def __init__(self, bands: Mapping[str, Sequence[PriceBand]], models: Collection[str]) -> None:
        self._bands = {model: tuple(bands[model]) for model in bands}
        for model in models if bands else ():
            if not any(band.up_to_tokens is None for band in self._bands.get(model, ())):
                raise InvalidInputError(
                    "prices", f"a band of {model} for prompts of any length", bands.get(model)
                )

    def cost_usd(self, model: str, usage: Usage) -> Decimal:
        """What a call of `model` with that usage costs."""
        for band in self._bands.get(model, ()):
            if band.covers(usage):
                return band.cost_usd(usage)
        return Decimal(0)
