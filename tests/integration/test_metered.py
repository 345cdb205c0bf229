"""What wrappers count agrees with what happened: writes, runs, ends, tokens, dollars, the cache."""

from __future__ import annotations

from collections import Counter

import pytest

from baton.agents.cache_report import CacheReport
from baton.agents.metered import MeteredCatalog
from baton.agents.runner import RunnerResult, Usage
from baton.errors import (
    ContextNotFoundError,
    RunnerError,
    RunnerNotFoundError,
    StoreUnavailableError,
)
from baton.handoff.metered import MeteredTree
from baton.metrics import catalog
from baton.store.contexts import ContextStore


class Counts:
    """A meter that keeps what it is told."""

    def __init__(self):
        self.counts = Counter()
        self.values = {}

    def count(self, metric, amount=1, **labels):
        assert labels.keys() == metric.labels.keys()
        if amount:
            self.counts[(metric.name, *labels.values())] += amount

    def observe(self, metric, value, **labels):
        assert labels.keys() == metric.labels.keys()
        self.values.setdefault((metric.name, *labels.values()), []).append(value)

    def close(self):
        pass

    def __getitem__(self, key):
        return self.counts[key]


class Runners:
    """A catalog of one runner."""

    def __init__(self, run):
        self.name = "one"
        self.run = run

    def get(self, name):
        if name != self.name:
            raise RunnerNotFoundError(name)
        return self


@pytest.fixture
def meter():
    return Counts()


@pytest.fixture
def store(redis_client, meter):
    made = ContextStore(redis_client, meter=meter)
    yield made
    made.close()


def test_writes_are_counted_by_status_and_conflict(store, meter):
    """Every outcome of a write; an error is one; an append is a write; a read is none."""
    store.put("s", "a\n\nb\n\nc\n", agent_id="x")
    store.put("s", "a!\n\nb\n\nc\n", agent_id="x", base_version="1.0.0")
    store.put("s", "a\n\nb\n\nc!\n", agent_id="y", base_version="1.0.0")
    store.put("s", "?\n\nb\n\nc\n", agent_id="z", base_version="1.0.0")
    store.put("s", "other\n", agent_id="z", base_version="1.0.0", policy="reject")
    store.put("s", "other\n", agent_id="z", base_version="1.0.0", policy="last_write_wins")
    store.append("s", "more\n", agent_id="x")
    with pytest.raises(ContextNotFoundError):
        store.put("nobody", "x", agent_id="x", base_version="1.0.0")
    store.get("s")
    assert meter.counts == {
        ("context_store_total", "success"): 7,
        ("context_store_total", "error"): 1,
        ("version_conflicts_total", "merged"): 1,
        ("version_conflicts_total", "merge_required"): 1,
        ("version_conflicts_total", "rejected"): 1,
        ("version_conflicts_total", "accepted_with_divergence"): 1,
    }
    assert len(meter.values["context_store_duration_ms",]) == 8
    assert meter.values["context_size_bytes",][0] == 8


@pytest.mark.parametrize(
    ("raised", "result"),
    [(RunnerError("no"), "failed"), (StoreUnavailableError("gone"), "transient"),
     (KeyError("x"), "failed")],
)  # fmt: skip
def test_failing_runs_are_counted_by_kind(meter, raised, result):
    """The error goes on as it is."""

    def run(_assignment):
        raise raised

    with pytest.raises(type(raised)):
        MeteredCatalog(Runners(run), meter).get("one").run(None)
    assert meter.counts == {("baton_node_runs_total", "one", result): 1}
    assert len(meter.values["baton_node_run_duration_seconds", "one"]) == 1


def test_unknown_runner_is_not_counted(meter):
    """Its name is stored data, and could be anything."""
    with pytest.raises(RunnerNotFoundError):
        MeteredCatalog(Runners(None), meter).get("session_77")
    assert not meter.counts


def test_what_a_run_used_is_counted(meter):
    """Tokens by kind, dollars, and what its cache report says."""
    report = CacheReport(
        calls=4, hits=2, writes=1, misses={"not_warmed": 1}, read_tokens=70, written_tokens=30,
        fresh_tokens=5, saved_nano=-250,
    )  # fmt: skip
    answer = RunnerResult(
        "done", usage=Usage(5, 7, 30, 70), cost_usd=0.25, details={"cache": report.as_dict()}
    )
    assert MeteredCatalog(Runners(lambda _assignment: answer), meter).get("one").run(None) is answer
    assert meter.counts == {
        ("baton_node_runs_total", "one", "ok"): 1,
        ("baton_tokens_total", "input"): 5,
        ("baton_tokens_total", "output"): 7,
        ("baton_tokens_total", "cache_write"): 30,
        ("baton_tokens_total", "cache_read"): 70,
        ("baton_cost_usd_total",): 250_000_000,
        ("baton_prompt_cache_hits_total",): 2,
        ("baton_prompt_cache_writes_total",): 1,
        ("baton_prompt_cache_misses_total", "not_warmed"): 1,
        ("baton_prompt_cache_tokens_total", "read"): 70,
        ("baton_prompt_cache_tokens_total", "written"): 30,
        ("baton_prompt_cache_tokens_total", "fresh"): 5,
        ("baton_prompt_cache_saved_usd",): -250,
    }


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "text",
        RunnerResult("x", usage=Usage(-5, 10**30), cost_usd=float("nan"), details={"cache": 1}),
        RunnerResult("x", usage="lots", cost_usd="dear", details=None),
    ],
)
def test_nonsense_of_a_users_runner_is_not_counted(meter, answer):
    """The engine will refuse it; the meter takes nothing of it, and does not fail."""
    MeteredCatalog(Runners(lambda _assignment: answer), meter).get("one").run(None)
    assert meter.counts == {("baton_node_runs_total", "one", "ok"): 1}


def test_every_end_of_a_tree_is_counted_once(bench, meter):
    """However often it is closed, by whomever; what has not ended is not counted."""
    done = bench.submit("a", "b")
    bench.pump()
    open_one = bench.submit("c")
    tree = MeteredTree(bench.client, meter)
    for _ in range(2):
        tree.close(done.handoff_id)
        tree.close("handoff_gone")
    tree._count(open_one.handoff_id)
    assert meter.counts == {("baton_nodes_total", "ok"): 2, ("baton_handoffs_total", "done"): 1}
    assert len(meter.values["baton_handoff_duration_seconds", "done"]) == 1


def test_catalog_lists_what_the_code_says():
    """States and reasons that the catalog repeats are those of the modules that own them."""
    from typing import get_args

    from baton.agents.cache_report import MissReason
    from baton.handoff.outcome import TERMINAL_HANDOFF_STATES, TERMINAL_NODE_STATES
    from baton.store.records import Action
    from baton.swarm.pools import State

    assert set(catalog.NODE_ENDS) == set(TERMINAL_NODE_STATES)
    assert set(catalog.HANDOFF_ENDS) == TERMINAL_HANDOFF_STATES
    assert set(catalog.MISS_REASONS) == set(get_args(MissReason))
    assert set(catalog.WORKER_STATES) == set(get_args(State))
    assert {*catalog.CONFLICT_ENDS, "accepted"} == set(get_args(Action))
    kinds = {name.removesuffix("_tokens") for name in Usage.__dataclass_fields__}
    assert set(catalog.TOKEN_KINDS) == kinds
