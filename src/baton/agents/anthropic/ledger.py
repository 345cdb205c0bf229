"""What one run's calls came to: counts, the prompt cache's part in it, and what that saved."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baton.agents.prices import CacheTtl, PriceTable
    from baton.agents.runner import Usage


class Ledger:
    """Of one run, for one thread.

    Attributes:
        miss_reason: why a call, if it reads nothing from the cache, does not.
    """

    def __init__(self, model: str, prices: PriceTable, ttl: CacheTtl) -> None:
        self.miss_reason = ""
        self._model = model
        self._prices = prices
        self._ttl = ttl
        self._calls: Counter[str] = Counter(answered=0, warming=0, failed=0, lost=0)
        self._cache: Counter[str] = Counter(hits=0, writes=0, misses=0)
        self._reasons: Counter[str] = Counter()
        self._saved_usd = Decimal(0)

    def price(self, usage: Usage) -> Decimal:
        """What a call that used `usage` costs now."""
        return self._prices.price(self._model, usage, datetime.now(UTC), cache_ttl=self._ttl)

    def add_answer(self, usage: Usage, usd: Decimal) -> None:
        """A call was answered for that much."""
        self._calls["answered"] += 1
        self._saved_usd += self.price(_uncached(usage)) - usd
        self._add_writes(usage)
        if usage.cache_read_tokens:
            self._cache["hits"] += 1
        else:
            self._cache["misses"] += 1
            self._reasons[self.miss_reason] += 1

    def add_warming(self, usage: Usage, usd: Decimal) -> None:
        """A call that warmed the cache cost that much; without a cache there would be none."""
        self._calls["warming"] += 1
        self._saved_usd -= usd
        self._add_writes(usage)

    def add_failure(self, *, lost: bool) -> None:
        """A call got no answer; `lost`: it was probably paid all the same."""
        self._calls["lost" if lost else "failed"] += 1

    def details(self) -> dict[str, Any]:
        """Small, and ready for JSON."""
        return {
            "model": self._model,
            "calls": dict(self._calls),
            "cache": {
                **self._cache,
                "reasons": dict(self._reasons),
                "saved_usd": float(self._saved_usd),
            },
        }

    def _add_writes(self, usage: Usage) -> None:
        self._cache["writes"] += bool(usage.cache_write_tokens)


def _uncached(usage: Usage) -> Usage:
    prompt = usage.input_tokens + usage.cache_write_tokens + usage.cache_read_tokens
    return replace(usage, input_tokens=prompt, cache_write_tokens=0, cache_read_tokens=0)
