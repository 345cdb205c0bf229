"""What nodes used together."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

from baton.agents.cache_report import CacheReport
from baton.agents.runner import Usage
from baton.handoff.outcome import NodeRecord
from baton.handoff.totals import Totals

NODE = NodeRecord("0", "do", "work", "ok")


def test_totals_add_up_tokens_dollars_and_reports():
    """To the nano-dollar, however floats would have it; failed nodes have paid as well."""
    report = CacheReport(calls=2, hits=1, misses={"not_warmed": 1}, saved_nano=-5)
    spent = {"input_tokens": 3, "output_tokens": 4}
    nodes = [
        replace(NODE, usage=spent, cost_usd=0.1, details={"cache": report.as_dict()}),
        replace(NODE, usage={"cache_read_tokens": 2}, cost_usd=0.2, state="failed"),
        replace(NODE, cost_usd=1e-9, details={"cache": report.as_dict(), "else": 1}),
    ]
    totals = Totals.of(nodes)
    assert totals.usage == Usage(3, 4, 0, 2)
    assert totals.cost_usd == Decimal("0.300000001")
    assert (totals.cache.calls, totals.cache.hits) == (4, 2)
    assert totals.cache.misses == {"not_warmed": 2}
    assert totals.cache.saved_nano == -10


def test_totals_of_no_model_are_zeros():
    """As JSON they have all their fields."""
    assert json.loads(json.dumps(Totals.of([NODE]).as_dict())) == {
        "usage": {
            "input_tokens": 0, "output_tokens": 0, "cache_write_tokens": 0, "cache_read_tokens": 0,
        },
        "cost_usd": 0.0,
        "cache": {
            "calls": 0, "hits": 0, "writes": 0, "misses": {}, "read_tokens": 0,
            "written_tokens": 0, "fresh_tokens": 0, "saved_usd": 0.0,
        },
    }  # fmt: skip


def test_what_a_runner_calls_a_cache_is_its_own_affair():
    """Details are free: a word that means something else is no error, and no report."""
    nodes = [replace(NODE, details={"cache": own}) for own in ("warm", {"hits": 3.5}, None, [1])]
    assert Totals.of(nodes).cache == CacheReport()
