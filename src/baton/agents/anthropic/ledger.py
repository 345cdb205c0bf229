"""What one run's calls came to: counts, and the prompt cache's part in them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from baton.agents.cache_report import CACHE, CacheReport, merge, report_call

if TYPE_CHECKING:
    from decimal import Decimal

    from baton.agents.prices import CacheTtl, PriceTable
    from baton.agents.runner import Usage
    from baton.agents.warming import Prefix, WarmState


class Ledger:
    """Of one run, for one thread.

    Attributes:
        prefix: what the run's calls have before their breakpoint; None: they have none.
        warm: whether it was found in the cache before the first call, or written to it.
    """

    def __init__(self, model: str, prices: PriceTable, ttl: CacheTtl) -> None:
        self.prefix: Prefix | None = None
        self.warm: WarmState = "unavailable"
        self._model = model
        self._prices = prices
        self._ttl = ttl
        self._calls: Counter[str] = Counter(answered=0, warming=0, failed=0, lost=0)
        self._cache = CacheReport()

    def price(self, usage: Usage) -> Decimal:
        """What a call that used `usage` costs now."""
        return self._prices.price(self._model, usage, datetime.now(UTC), cache_ttl=self._ttl)

    def add_answer(self, usage: Usage) -> None:
        """A call was answered."""
        self._calls["answered"] += 1
        self._report(usage, self.warm)

    def add_warming(self, usage: Usage) -> None:
        """A call warmed the cache."""
        self._calls["warming"] += 1
        self._report(usage, None)

    def add_failure(self, *, lost: bool) -> None:
        """A call got no answer; `lost`: it was probably paid all the same."""
        self._calls["lost" if lost else "failed"] += 1

    def details(self) -> dict[str, Any]:
        """Small, and ready for JSON; `CACHE` is a `CacheReport` of the calls that were answered."""
        return {
            "model": self._model,
            "calls": dict(self._calls),
            CACHE: self._cache.as_dict(),
        }

    def _report(self, usage: Usage, warm: WarmState | None) -> None:
        one = report_call(
            usage,
            model=self._model,
            prefix=self.prefix,
            warm=warm,
            prices=self._prices,
            at=datetime.now(UTC),
        )
        self._cache = merge([self._cache, one])
