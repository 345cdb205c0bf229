"""Reports of the cache: each call is counted once, money adds up, and merging has no order."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from baton.agents.cache_report import CacheReport, MissReason, merge, report_call
from baton.agents.prices import PriceTable
from baton.agents.runner import Usage
from baton.agents.warming import Prefix

NOW = datetime(2026, 11, 21, tzinfo=UTC)
PRICES = PriceTable.load()
MODELS = ("claude-haiku-5-5", "claude-sonnet-5-5")
TOKENS = st.one_of(st.just(0), st.integers(0, 200_000))

counts = st.integers(0, 10**12)
reports = st.builds(
    CacheReport,
    calls=counts, hits=counts, writes=counts, read_tokens=counts, written_tokens=counts,
    fresh_tokens=counts, saved_nano=st.integers(-(10**15), 10**15),
    misses=st.dictionaries(st.sampled_from(get_args(MissReason)), st.integers(1, 10**9)),
)  # fmt: skip
calls = st.tuples(
    st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS),
    st.sampled_from(MODELS),
    st.sampled_from(MODELS),
    st.sampled_from(["5m", "1h"]),
    st.sampled_from([None, "written", "ready", "unavailable"]),
)


def reported(call):
    usage, model, warmed, ttl, warm = call
    prefix = Prefix(warmed, "ab" * 32, 90_000, ttl)
    return report_call(usage, model=model, prefix=prefix, warm=warm, prices=PRICES, at=NOW)


@given(reports, reports, reports)
def test_reports_merge_in_any_order_and_grouping(a, b, c):
    """Associative, commutative, and the empty report changes nothing."""
    assert merge([merge([a, b]), c]) == merge([a, merge([b, c])]) == merge([c, a, b])
    assert merge([a, CacheReport()]) == a == merge([a])
    assert merge([]) == CacheReport()


@given(reports)
def test_report_travels_as_json(report):
    """What is stored in a node's details comes back as it was."""
    assert CacheReport.from_dict(json.loads(json.dumps(report.as_dict()))) == report


@given(st.lists(calls, max_size=8))
def test_calls_of_a_report_are_hits_misses_or_warming(made):
    """Each call is one of them; tokens are those that the API counted."""
    report = merge(map(reported, made))
    missed = sum(report.misses.values())
    warming = sum(
        1 for usage, *_, warm in made
        if warm is None and usage.cache_write_tokens and not usage.cache_read_tokens
    )  # fmt: skip
    assert report.calls == len(made) == report.hits + missed + warming
    tokens = report.read_tokens + report.written_tokens + report.fresh_tokens
    prompts = [each for each, *_ in made]
    assert tokens == sum(
        each.input_tokens + each.cache_write_tokens + each.cache_read_tokens for each in prompts
    )


@given(st.lists(calls, max_size=8))
def test_money_saved_and_money_paid_add_up_to_the_uncached_price(made):
    """Exactly, to the nano-dollar, losses included; of warming calls the uncached price is 0."""
    report, paid, uncached = merge(map(reported, made)), 0, 0
    for usage, model, _, ttl, warm in made:
        paid += PRICES.price(model, usage, NOW, cache_ttl=ttl)
        fresh = usage.input_tokens + usage.cache_write_tokens + usage.cache_read_tokens
        if warm is not None:
            uncached += PRICES.price(model, Usage(fresh, usage.output_tokens), NOW)
    assert report.saved_usd == uncached - paid
