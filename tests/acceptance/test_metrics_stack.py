"""Real pools under real handoffs: what their endpoints say agrees with the trees."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from runner_functions import NAMES

from anthropic_bench import KEY, PRICES
from baton import ChildTask, ClientSettings, RedisSwarmCoordinator, routes
from baton.archive.report import ArchiveReport, put_report
from baton.handoff.totals import Totals
from baton.metrics.catalog import (
    ARCHIVE_STATES,
    BY_NAME,
    CATALOG,
    HANDOFF_ENDS,
    NODE_ENDS,
    TOKEN_KINDS,
)
from baton.testing.fake_anthropic import FakeAnthropic
from waiting import until
from workers.pools import pools, worker_command

if TYPE_CHECKING:
    from stack import Stack

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-5f1e8c"
RUNNERS = json.dumps({name: f"runner_functions:{name}" for name in NAMES})


def _four_free_ports() -> int:
    # Each of the test processes that run beside each other has a range of its own.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for first in range(10_000 + 2_000 * (worker % 10), 12_000 + 2_000 * (worker % 10), 50):
        try:
            for port in range(first, first + 4):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    pytest.fail("no four free ports in a row")


@pytest.fixture
def first_port():
    return _four_free_ports()


@pytest.fixture
def running(stack, first_port) -> Stack:
    env = {
        "BATON_RUNNER_FUNCTIONS": RUNNERS,
        "BATON_NODE_SWEEP_SECONDS": "0.5",
        "BATON_AGENT_SWEEP_SECONDS": "0.5",
        "BATON_ACCESS_SWEEP_SECONDS": "0.5",
        "BATON_AUDIT_SEAL_SECONDS": "0.5",
        "BATON_AGENTS_THREADS": "4",
        "BATON_WARM_SHUTDOWN_SECONDS": "3",
        "BATON_METRICS_PORT": str(first_port),
    }
    return stack("agents", "context", "lifecycle", "archive", beat=True, env=env)


@pytest.fixture
def swarm(running):
    settings = ClientSettings(lease_seconds=2.0, node_timeout_seconds=30.0)
    with RedisSwarmCoordinator(redis_url=running.url, settings=settings) as swarm:
        yield swarm


def _fetch(first_port, pool, accept="text/plain") -> str:
    url = f"http://127.0.0.1:{first_port + routes.QUEUES.index(pool)}/metrics"
    asked = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
        return answer.read().decode()


def _scrape(first_port, pool) -> dict[tuple[str, ...], float]:
    """(name, label values by the labels' names) -> value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(_fetch(first_port, pool))
        for sample in family.samples
    }


def _all(first_port) -> Counter[tuple[str, ...]]:
    """Counts of all pools together, as `sum without (instance)` has them."""
    total: Counter[tuple[str, ...]] = Counter()
    for pool in routes.QUEUES:
        total.update(_scrape(first_port, pool))
    return total


def _hand_off(swarm, tasks, **options):
    agent = swarm.register_agent("sonnet_coordinator", 200_000)
    swarm.update_context(f"{CANARY}\n", agent)
    return swarm.hand_off(agent, [ChildTask(text, runner) for text, runner in tasks], **options)


def test_endpoints_agree_with_the_census(running, swarm, first_port, tmp_path):
    """Handoffs end well, badly and cancelled, one is retried; every end is counted once."""
    good = _hand_off(swarm, [(f"{CANARY} {n}", "shout") for n in range(5)])
    family = _hand_off(swarm, [("family 2", "family")])
    bad = _hand_off(swarm, [("fine", "shout"), ("x", "fail"), ("x", "nobody")])
    stopped = _hand_off(swarm, [(str(tmp_path), "gated"), (str(tmp_path), "gated")])
    until(lambda: len(list(tmp_path.glob("starts-*"))) == 2)
    stopped.cancel()
    handoffs = [good, family, bad, stopped]
    outcomes = [handoff.wait(timeout_seconds=60) for handoff in handoffs]
    states = Counter(outcome.state for outcome in outcomes)
    assert states == {"done": 2, "degraded": 1, "cancelled": 1}
    ends = Counter[str]()
    for outcome in outcomes:
        ends.update({state: outcome.census[state] for state in NODE_ENDS})

    def counted(total):
        return {state: total["baton_handoffs_total", state] for state in HANDOFF_ENDS}

    def complete():
        swarm.store.close()
        total = _all(first_port)
        ended = sum(counted(total).values()) == len(handoffs)
        sent = total["baton_node_runs_total", "ok", "shout"] == 6
        return total if ended and sent and total["context_size_bytes_count",] == 7 else None

    total = until(complete, what="every end counted")
    assert counted(total) == {state: states[state] for state in HANDOFF_ENDS}
    nodes = {state: total["baton_nodes_total", state] for state in NODE_ENDS}
    assert nodes == {state: ends[state] for state in NODE_ENDS}
    assert total["baton_handoff_duration_seconds_count", "done"] == 2
    assert total["baton_node_runs_total", "failed", "fail"] == 1
    assert total["baton_node_run_duration_seconds_count", "family"] >= 7
    # Four by this client, and one append for each handoff whose results were merged.
    assert total["context_store_total", "success"] == 4 + 3
    assert total["context_store_total", "error"] == 0
    deployment = _scrape(first_port, "lifecycle")
    assert deployment["active_sessions_total",] == 4
    assert deployment["baton_handoffs_open",] == 0


def test_every_metric_is_exposed_and_those_of_the_alerts_too(running, swarm, first_port):
    """After one handoff each name of the table is on some endpoint; alerts name no other.

    Those of the archive are there once it has told how it fares.
    """
    put_report(
        swarm.redis,
        ArchiveReport(
            checked_at_ms=swarm.redis.time()[0] * 1000, period_ms=300_000, archived=3, copied=2,
            held=1, passages=9, rows=8, healthy=True, reason="", rebuild=False, waiting=1,
            purge_paused_until_ms=0, free_bytes=10**9,
        ),
    )  # fmt: skip
    _hand_off(swarm, [("a", "shout")]).wait(timeout_seconds=60)

    def names():
        return {
            family.name
            for pool in routes.QUEUES
            for family in text_string_to_metric_families(_fetch(first_port, pool))
        }

    wanted = {metric.name for metric in CATALOG}

    def missing():
        exposed = names()
        return {
            name
            for name in wanted
            if name not in exposed and name.removesuffix("_total") not in exposed
        }

    until(lambda: not missing(), what="all metrics")
    deployment = _scrape(first_port, "lifecycle")
    assert [deployment["baton_archive_sessions", each] for each in ARCHIVE_STATES] == [3, 2, 1]
    assert deployment["baton_archive_healthy",] == 0  # a row is missing
    assert 0 <= deployment["baton_archive_report_age_seconds",] < 3_600
    text = (ROOT / "config/prometheus/alerts.yml").read_text()
    named = {
        name
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
        for name in re.findall(
            r"\b(?:baton_|context_|version_conflicts|active_sessions)\w+", rule["expr"]
        )
    }
    bases = {re.sub(r"_(?:bucket|sum|count)$", "", name) for name in named}
    assert bases <= wanted
    assert bases <= BY_NAME.keys()


def test_openmetrics_is_spoken_too_and_nothing_of_a_handoff_is_told(running, swarm, first_port):
    """Prometheus asks for OpenMetrics first; ids, contents and names of agents are in neither."""
    handoff = _hand_off(swarm, [(CANARY, "shout"), (CANARY, "fail")])
    outcome = handoff.wait(timeout_seconds=60)
    until(lambda: _all(first_port)["baton_handoffs_total", "degraded"] == 1)
    for pool in routes.QUEUES:
        text = _fetch(first_port, pool, "application/openmetrics-text; version=1.0.0")
        assert text.endswith("# EOF\n")
        assert list(openmetrics(text))
        page = text + _fetch(first_port, pool)
        for secret in (CANARY, handoff.handoff_id, outcome.session_id, outcome.agent_id):
            assert secret not in page


def test_processes_of_a_pool_are_summed_and_one_takes_over(running, swarm, first_port):
    """Both count on one endpoint; where the one with the port is killed, the other has it."""
    pool = next(each for each in pools(running.settings) if each.name == "agents")
    second = running._launch(
        "agents-2", worker_command(pool, "agents2@test", running.settings), "agents2@test ready."
    )
    second.wait_ready()
    handoff = _hand_off(swarm, [(f"task {n}", "pause") for n in range(8)])
    assert handoff.wait(timeout_seconds=60).state == "done"
    assert len({node.worker for node in handoff.nodes()}) == 2

    def runs():
        return _scrape(first_port, "agents").get(("baton_node_runs_total", "ok", "pause"))

    until(lambda: runs() == 8)
    running.kill("agents")

    def answers():
        try:
            return runs()
        except OSError:
            return None

    assert until(answers) == 8
    again = _hand_off(swarm, [("task", "pause")])
    again.wait(timeout_seconds=60)
    until(lambda: answers() == 9)


@pytest.fixture
def fake():
    with FakeAnthropic(prices=PRICES, workspaces={KEY: "ours"}) as server:
        yield server


def test_tokens_dollars_and_the_cache_agree_with_the_trees(stack, fake, first_port):
    """What models were paid for, as `baton handoff show` sums it up, to the last token and cent."""
    running = stack(
        "agents", "context", "lifecycle", beat=True,
        env={
            "BATON_ANTHROPIC_API_KEY": KEY,
            "BATON_ANTHROPIC_BASE_URL": fake.base_url,
            "BATON_NODE_SWEEP_SECONDS": "0.5",
            "BATON_METRICS_PORT": str(first_port),
        },
    )  # fmt: skip
    with RedisSwarmCoordinator(redis_url=running.url) as swarm:
        agent = swarm.register_agent("sonnet_coordinator", 200_000)
        swarm.update_context("A lease lasts thirty seconds, and is renewed.\n" * 500, agent)
        tasks = [ChildTask(f"task {n}", "anthropic") for n in range(4)]
        handoff = swarm.hand_off(agent, tasks)
        assert handoff.wait(timeout_seconds=60).state == "done"
        totals = Totals.of(handoff.nodes())
    assert totals.cost_usd > 0

    def told():
        return _scrape(first_port, "agents")

    until(lambda: told().get(("baton_node_runs_total", "ok", "anthropic")) == 4)
    scraped = told()
    assert scraped["baton_cost_usd_total",] == pytest.approx(float(totals.cost_usd), abs=1e-9)
    for kind in TOKEN_KINDS:
        used = getattr(totals.usage, f"{kind}_tokens")
        assert scraped["baton_tokens_total", kind] == used
    cache = totals.cache
    assert cache.hits > 0
    assert scraped["baton_prompt_cache_hits_total",] == cache.hits
    assert scraped["baton_prompt_cache_writes_total",] == cache.writes
    assert scraped["baton_prompt_cache_tokens_total", "read"] == cache.read_tokens
    assert scraped["baton_prompt_cache_saved_usd",] == pytest.approx(float(cache.saved_usd))
    assert KEY not in _fetch(first_port, "agents")


def test_retried_nodes_are_counted_as_they_end_again(running, swarm, first_port, tmp_path):
    """Their first end and their second; those that stayed as they were only once."""
    handoff = _hand_off(swarm, [("fine", "shout"), ("x", "fail")])
    handoff.wait(timeout_seconds=60)

    def nodes(state):
        return _all(first_port)["baton_nodes_total", state]

    until(lambda: nodes("failed") == 1)
    swarm.handoffs.retry(handoff.handoff_id)
    until(lambda: nodes("failed") == 2)
    assert nodes("ok") == 1
    until(lambda: _all(first_port)["baton_handoffs_total", "degraded"] == 2)


def test_waiting_messages_and_silent_sweeps_are_seen(running, swarm, first_port):
    """With no agents pool its queue grows, and its oldest message ages; a dead beat is late."""
    running.kill("agents")
    _hand_off(swarm, [(f"task {n}", "shout") for n in range(3)])

    def scraped():
        return _scrape(first_port, "lifecycle")

    until(lambda: scraped()["baton_queue_depth", "agents"] == 3)
    began = time.monotonic()
    until(lambda: scraped()["baton_queue_oldest_seconds", "agents"] >= 1.0)
    age_seconds = scraped()["baton_queue_oldest_seconds", "agents"]
    assert age_seconds <= time.monotonic() - began + 30
    assert scraped()["baton_queue_oldest_seconds", "context"] == 0
    assert scraped()["baton_sweep_late", "nodes"] == 0
    assert scraped()["baton_sweep_runs_total", "nodes"] >= 1
    running.kill("beat")
    until(lambda: scraped()["baton_sweep_late", "nodes"] == 1)
    assert scraped()["baton_sweep_seconds_since_success", "nodes"] > 1.5


def test_redis_that_is_gone_is_told(running, first_port):
    """The page still answers, and says that Redis does not."""
    until(lambda: _scrape(first_port, "lifecycle")["baton_redis_up",] == 1)
    running.redis.stop("SIGTERM")
    until(lambda: _scrape(first_port, "lifecycle")["baton_redis_up",] == 0)
    running.redis.start()
    until(lambda: _scrape(first_port, "lifecycle")["baton_redis_up",] == 1)
    assert _scrape(first_port, "lifecycle")["baton_redis_memory_bytes",] > 0
