"""What each model takes and gives at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """A model's limits, all in tokens.

    Attributes:
        context_tokens: prompt and answer together.
        output_tokens: the greatest `max_tokens` it takes.
        cache_minimum_tokens: a shorter prefix is silently not cached.
    """

    context_tokens: int = 1_000_000
    output_tokens: int = 128_000
    cache_minimum_tokens: int = 512


# As of 2026-11. Only the minimum of `claude-haiku-5-5` is known; the others are taken to be equal.
MODELS: Final[Mapping[str, ModelLimits]] = {
    "claude-sonnet-5-5": ModelLimits(),
    "claude-haiku-5-5": ModelLimits(),
    "claude-haiku-4-5": ModelLimits(context_tokens=200_000, output_tokens=64_000),
}
