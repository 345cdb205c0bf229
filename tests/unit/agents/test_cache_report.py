"""The cache's report: figures of a fan-out, why calls missed, what is refused when read back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from baton.agents.cache_report import CacheReport, merge, report_call
from baton.agents.prices import PriceTable
from baton.agents.runner import Usage
from baton.agents.warming import Prefix
from baton.errors import InvalidInputError

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
NOW = datetime(2026, 11, 21, tzinfo=UTC)
PREFIX = Prefix(HAIKU, "ab" * 32, 90_000)
READ, WROTE = Usage(cache_read_tokens=90_000), Usage(cache_write_tokens=90_000)


@pytest.fixture(scope="module")
def prices():
    return PriceTable.load()


@pytest.fixture
def report(prices):
    def report(usage, warm, *, model=HAIKU, prefix=PREFIX):
        return report_call(usage, model=model, prefix=prefix, warm=warm, prices=prices, at=NOW)

    return report


@pytest.mark.parametrize(
    ("model", "uncached", "warmed"), [(HAIKU, "0.45", "0.05625"), (SONNET, "9", "0.675")]
)
def test_fan_out_that_was_warmed_is_one_write_and_fifty_reads(report, model, uncached, warmed):
    """The warming call, which no cache would have needed, is no saving."""
    prefix = replace(PREFIX, model=model)
    warming = report(WROTE, None, model=model, prefix=prefix)
    reads = [report(READ, "ready", model=model, prefix=prefix)] * 50
    found = merge([warming, *reads])
    assert (found.calls, found.writes, found.hits, found.misses) == (51, 1, 50, {})
    assert found.saved_usd == Decimal(uncached) - Decimal(warmed)


def test_fan_out_that_all_wrote_shows_what_it_lost(report):
    """Fifty at once without warming cost a quarter more than no cache at all."""
    found = merge([report(WROTE, "unavailable")] * 50)
    assert (found.writes, found.hits, found.misses) == (50, 0, {"not_warmed": 50})
    assert found.saved_usd == Decimal("-0.1125")


@pytest.mark.parametrize(
    ("usage", "warm", "model", "misses"),
    [
        (READ, "unavailable", HAIKU, {}),
        (replace(READ, cache_write_tokens=500), "ready", HAIKU, {}),
        (WROTE, None, HAIKU, {}),
        (Usage(400), None, HAIKU, {"below_minimum": 1}),
        (Usage(400), "unavailable", HAIKU, {"below_minimum": 1}),
        (Usage(400), "ready", SONNET, {"below_minimum": 1}),
        (WROTE, "unavailable", HAIKU, {"not_warmed": 1}),
        (WROTE, "ready", HAIKU, {"expired_or_evicted": 1}),
        (WROTE, "written", HAIKU, {"expired_or_evicted": 1}),
        (WROTE, "ready", SONNET, {"another_model": 1}),
    ],
    ids=[
        "read though nobody warmed", "read and wrote on", "warming", "warming below",
        "below", "another model's minimum", "nobody warmed", "gone", "gone at once", "fallback",
    ],
)  # fmt: skip
def test_call_that_read_nothing_says_why(report, usage, warm, model, misses):
    """Each miss has one reason, and a hit none."""
    found = report(usage, warm, model=model)
    assert found.misses == misses
    assert found.hits == int(usage.cache_read_tokens > 0)
    assert found.writes == int(usage == WROTE)


def test_call_without_a_breakpoint_is_a_miss_that_saves_nothing(report):
    """It is too short for the cache."""
    found = report(Usage(100, 20), "unavailable", prefix=None)
    assert (found.misses, found.writes, found.saved_nano) == ({"below_minimum": 1}, 0, 0)


def test_cache_of_an_hour_is_counted_at_its_own_price(report):
    """Its write costs twice the fresh tokens."""
    found = report(WROTE, "unavailable", prefix=replace(PREFIX, ttl="1h"))
    assert found.saved_usd == Decimal("-0.009")


@pytest.mark.parametrize(
    "stored",
    [
        None, [], "report", {"hits": -1}, {"hits": 1.0}, {"hits": True}, {"format": 2},
        {"misses": {"bad luck": 1}}, {"misses": {"not_warmed": 0}}, {"saved": 1},
        {"saved_nano": "5"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_report_is_refused(stored):
    """A runner of the user's may have put anything there."""
    with pytest.raises(InvalidInputError):
        CacheReport.from_dict(stored)
