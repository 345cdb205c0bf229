"""Rows of the fault list that only real pools can show, over one stack: each named in its test."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from nodes import RedisProcess
from runner_functions import NAMES
from stack import Stack

from baton import ChildTask, ClientSettings, Limits, RedisSwarmCoordinator
from link_proxy import LinkProxy
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton import Handoff

CONTEXT = "One line of context.\n" * 100
THREADS = 4
MEMORY_BYTES = 512 << 20
AHEAD_SECONDS = 7200
# As a process would see it whose machine's clock is wrong; nothing else of it is changed.
WRONG_CLOCK = f"""
import time
_right = time.time
time.time = lambda: _right() + {AHEAD_SECONDS}
"""

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def link() -> Iterator[LinkProxy]:
    """What all pools reach their broker through."""
    server = RedisProcess()
    server.start()
    folder = Path(tempfile.mkdtemp(prefix="baton-link-"))
    proxy = LinkProxy(server.socket, folder)
    proxy.server = server
    yield proxy
    proxy.close()
    server.teardown()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def running(link, tmp_path_factory) -> Iterator[Stack]:
    """Pools and beat whose messages Celery alone would not deliver again within an hour."""
    runners = {name: f"runner_functions:{name}" for name in (*NAMES, "greedy")}
    env = {
        "BATON_RUNNER_FUNCTIONS": json.dumps(runners),
        "BATON_BROKER_URL": f"redis+socket://{link.path}?virtual_host=1",
        "BATON_NODE_SWEEP_SECONDS": "0.5",
        "BATON_AGENTS_THREADS": str(THREADS),
        "BATON_VISIBILITY_TIMEOUT_SECONDS": "3600",
        "BATON_WARM_SHUTDOWN_SECONDS": "3",
    }
    made = Stack(link.server, tmp_path_factory.mktemp("rows"), env)
    try:
        made.start("agents", "context", "lifecycle", beat=True)
        yield made
    finally:
        made.teardown()


@pytest.fixture
def swarm(running) -> Iterator[RedisSwarmCoordinator]:
    settings = ClientSettings(lease_seconds=1.0, node_timeout_seconds=60.0)
    with RedisSwarmCoordinator(redis_url=running.url, settings=settings) as swarm:
        yield swarm


def hand_off(
    swarm: RedisSwarmCoordinator, tasks: list[tuple[str, str]], **options: object
) -> Handoff:
    agent = swarm.register_agent("sonnet_coordinator", 200_000)
    swarm.update_context(CONTEXT, agent)
    return swarm.hand_off(agent, [ChildTask(text, runner) for text, runner in tasks], **options)


def starts(folder: Path) -> dict[str, int]:
    return {p.name: len(p.read_text().splitlines()) for p in folder.glob("starts-*")}


def committed(handoff: Handoff) -> Counter[str]:
    """How often each node ended ok."""
    return Counter(
        event.node_id
        for event in handoff.events(timeout_seconds=5)
        if event.type == "node" and event.state == "ok"
    )


def test_message_that_a_killed_worker_had_just_taken_comes_again(running, swarm):
    """A1: a frozen worker's pending BRPOP swallows it, unrecorded; SIGKILL; the sweep knows it."""
    broker = running.broker_client()
    running.kill("agents", "SIGSTOP")
    handoff = hand_off(swarm, [("a", "shout"), ("b", "shout")])
    until(lambda: handoff.outcome().state == "running" and broker.llen("agents") == 1,
          what="one message in the frozen worker, one in the queue")  # fmt: skip
    until(lambda: not broker.zcard("unacked_index"), what="no message in anybody's hands")
    running.kill("agents")
    running.revive("agents")
    assert handoff.wait(timeout_seconds=60).state == "done"
    assert committed(handoff) == {"0": 1, "1": 1}


def test_answer_that_is_cut_on_its_way_to_a_worker_costs_a_lease(running, swarm, link):
    """C1: the broker has given the message away, and the connection broke before it came."""
    link.cut_at(b"agent.run")
    handoff = hand_off(swarm, [("a", "shout"), ("b", "shout")])
    until(lambda: link.has_cut, what="the cut")
    assert handoff.wait(timeout_seconds=60).state == "done"
    assert committed(handoff) == {"0": 1, "1": 1}


def test_worker_told_to_stop_under_load_ends_what_it_runs_and_loses_nothing(
    running, swarm, tmp_path
):
    """A9: SIGTERM with all threads busy and messages taken beyond them; each node runs once."""
    handoff = hand_off(swarm, [(str(tmp_path), "gated")] * (3 * THREADS))
    until(lambda: len(starts(tmp_path)) == THREADS, what="all threads at work")
    running.kill("agents", "SIGTERM")
    (tmp_path / "gate").touch()
    until(lambda: running.processes["agents"].status == "exited", what="the worker's end")
    assert running.processes["agents"].attrs["State"]["ExitCode"] == 0
    running.revive("agents")
    assert handoff.wait(timeout_seconds=60).state == "done"
    assert set(starts(tmp_path).values()) == {1}
    assert len(starts(tmp_path)) == 3 * THREADS


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds another process's memory")
def test_task_without_memory_fails_its_own_node(running, swarm):
    """A11: `prlimit --as`: what cannot be allocated is that node's error; others go on."""
    worker = psutil.Process(running.processes["agents"].pid)
    worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + MEMORY_BYTES, -1))
    tasks = [("a", "shout"), (str(4 * MEMORY_BYTES), "greedy"), ("b", "shout")]
    handoff = hand_off(swarm, tasks)
    outcome = handoff.wait(timeout_seconds=60)
    worker.rlimit(psutil.RLIMIT_AS, (-1, -1))
    assert (outcome.state, outcome.census["ok"], outcome.census["failed"]) == ("degraded", 2, 1)
    assert handoff.nodes()[1].error_type == "MemoryError"
    assert worker.is_running()


def test_pool_whose_clock_is_hours_ahead_repeats_nothing(running, swarm, tmp_path):
    """D1: to it all messages look abandoned, so it delivers them again; claims refuse them."""
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "sitecustomize.py").write_text(WRONG_CLOCK)
    lifecycle = running.processes["lifecycle"]
    path = lifecycle.env["PYTHONPATH"]
    lifecycle.env["PYTHONPATH"] = os.pathsep.join((str(wrong), path))
    running.kill("lifecycle")
    running.revive("lifecycle")
    broker = running.broker_client()
    handoff = hand_off(swarm, [(str(tmp_path), "gated")] * THREADS)
    until(lambda: len(starts(tmp_path)) == THREADS, what="the start of all nodes")
    until(lambda: broker.llen("agents"), what="a message being delivered again")
    (tmp_path / "gate").touch()
    assert handoff.wait(timeout_seconds=60).state == "done"
    lifecycle.env["PYTHONPATH"] = path
    running.kill("lifecycle")
    running.revive("lifecycle")
    assert set(starts(tmp_path).values()) == {1}
    assert set(committed(handoff).values()) == {1}


def test_cancelled_tree_stays_so_when_all_its_workers_are_killed(running, swarm, tmp_path):
    """F10: the cancel is in the tree, not in a worker's memory; nothing of it starts again."""
    handoff = hand_off(swarm, [(str(tmp_path), "gated")] * (2 * THREADS))
    until(lambda: len(starts(tmp_path)) == THREADS, what="all threads at work")
    handoff.cancel()
    running.kill("agents")
    begun = starts(tmp_path)
    running.revive("agents")
    outcome = handoff.wait(timeout_seconds=60)
    assert (outcome.state, outcome.census["cancelled"]) == ("cancelled", 2 * THREADS)
    assert starts(tmp_path) == begun


def test_worker_that_may_not_wait_hands_its_nodes_back(running, swarm, tmp_path):
    """Whoever stops before its nodes have ended gives them back at once, leases or not."""
    limits = Limits(lease_seconds=600)
    handoff = hand_off(swarm, [(str(tmp_path), "gated")], limits=limits)
    until(lambda: starts(tmp_path), what="the start")
    running.kill("agents", "SIGTERM")
    until(lambda: running.processes["agents"].status == "exited", what="the worker's end")
    running.revive("agents")
    until(lambda: starts(tmp_path) == {"starts-0": 2}, what="the second start")
    (tmp_path / "gate").touch()
    assert handoff.wait(timeout_seconds=60).state == "done"
    assert handoff.nodes()[0].attempt == 1  # stopping was no failure of its own
    assert committed(handoff) == {"0": 1}


def test_worker_on_a_dead_connection_hears_again(running, swarm, link):
    """C2: connections that are open and pass nothing; what was published meanwhile is done."""
    assert link.go_deaf() > 0
    handoff = hand_off(swarm, [("a", "shout")])
    assert handoff.wait(timeout_seconds=60).state == "done"
    assert committed(handoff) == {"0": 1}
