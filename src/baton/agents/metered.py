"""Runners whose runs are counted and timed, with what they used and what the prompt cache did."""

from __future__ import annotations

import time
from dataclasses import fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from baton.agents.budget import MOST_TOKENS, MOST_USD, to_nano
from baton.agents.cache_report import CACHE, CacheReport
from baton.agents.runner import RunnerResult, Usage
from baton.errors import BatonError, FencedError, InvalidInputError, OverBudgetError, TransientError
from baton.metrics import catalog

if TYPE_CHECKING:
    from baton.agents.catalog import RunnerCatalog
    from baton.agents.runner import Assignment, Runner
    from baton.metrics.meter import Meter

_RESULTS: Final[tuple[tuple[type[BatonError], str], ...]] = (
    (FencedError, "fenced"),
    (OverBudgetError, "over_budget"),
    (TransientError, "transient"),
)


class MeteredCatalog:
    """A `RunnerCatalog` whose runners are told to a meter."""

    def __init__(self, runners: RunnerCatalog, meter: Meter) -> None:
        self._runners = runners
        self._meter = meter

    def get(self, name: str) -> Runner:
        """See `RunnerCatalog.get`. Names that it does not know are not counted."""
        return MeteredRunner(name, self._runners.get(name), self._meter)


class MeteredRunner:
    """A runner, with each of its runs told to a meter."""

    def __init__(self, name: str, runner: Runner, meter: Meter) -> None:
        self.name = name
        self._runner = runner
        self._meter = meter

    def run(self, assignment: Assignment) -> RunnerResult:
        """See `Runner.run`."""
        began = time.monotonic()
        result = "failed"
        try:
            answer = self._runner.run(assignment)
            result = "ok"
        except BatonError as error:
            result = next((told for kind, told in _RESULTS if isinstance(error, kind)), "failed")
            raise
        finally:
            self._meter.count(catalog.NODE_RUNS, runner=self.name, result=result)
            took_seconds = time.monotonic() - began
            self._meter.observe(catalog.NODE_RUN_DURATION, took_seconds, runner=self.name)
        self._count_answer(answer)
        return answer

    def _count_answer(self, answer: object) -> None:
        """What it says of itself, as far as the engine will take it: it may be a user's."""
        if not isinstance(answer, RunnerResult):
            return
        if isinstance(answer.usage, Usage):
            count_tokens(self._meter, answer.usage)
        cost: Any = answer.cost_usd
        if isinstance(cost, int | float) and 0 <= cost <= MOST_USD:
            self._meter.count(catalog.COST, to_nano(Decimal(str(cost))))
        try:
            report = CacheReport.from_dict(answer.details[CACHE])
        except (InvalidInputError, KeyError, TypeError):
            return
        _count_cache(self._meter, report)


def count_tokens(meter: Meter, usage: Usage) -> None:
    """Count `usage` by kind, where it can be what a model used."""
    for field in fields(Usage):
        count = getattr(usage, field.name)
        if isinstance(count, int) and 0 <= count <= MOST_TOKENS:
            meter.count(catalog.TOKENS, count, kind=field.name.removesuffix("_tokens"))


def _count_cache(meter: Meter, report: CacheReport) -> None:
    meter.count(catalog.CACHE_HITS, report.hits)
    meter.count(catalog.CACHE_WRITES, report.writes)
    for reason, calls in report.misses.items():
        meter.count(catalog.CACHE_MISSES, calls, reason=reason)
    meter.count(catalog.CACHE_TOKENS, report.read_tokens, kind="read")
    meter.count(catalog.CACHE_TOKENS, report.written_tokens, kind="written")
    meter.count(catalog.CACHE_TOKENS, report.fresh_tokens, kind="fresh")
    meter.count(catalog.CACHE_SAVED, report.saved_nano)
