"""Handoffs over real pools: fan-out, children, bad workers, killed workers, Redis restarts."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import psutil
import pytest
from runner_functions import NAMES
from stack import Stack

from baton import ChildTask, ClientSettings, Limits, RedisSwarmCoordinator
from waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from baton import Handoff

RUNNERS = json.dumps({name: f"runner_functions:{name}" for name in NAMES})
FAST = {
    "BATON_RUNNER_FUNCTIONS": RUNNERS,
    "BATON_NODE_SWEEP_SECONDS": "0.5",
    "BATON_AGENTS_THREADS": "12",
    # An hour, so that what is recovered was recovered by the tree.
    "BATON_VISIBILITY_TIMEOUT_SECONDS": "3600",
    "BATON_WARM_SHUTDOWN_SECONDS": "3",
}
CONTEXT = "One line of context.\n" * 5_000

pytestmark = pytest.mark.acceptance


@pytest.fixture
def running(stack) -> Stack:
    """Pools and beat, with our runner functions and a sweep twice a second."""
    return stack(beat=True, env=FAST)


@pytest.fixture
def swarm(running):
    settings = ClientSettings(lease_seconds=2.0, node_timeout_seconds=60.0)
    with RedisSwarmCoordinator(redis_url=running.url, settings=settings) as swarm:
        yield swarm


def hand_off(swarm, tasks, **options) -> Handoff:
    agent = swarm.register_agent("sonnet_coordinator", 200_000)
    swarm.update_context(CONTEXT, agent)
    return swarm.hand_off(agent, [ChildTask(text, runner) for text, runner in tasks], **options)


def committed_states(handoff: Handoff) -> Counter[tuple[str, str]]:
    """How often each node reached each final state, by the events."""
    return Counter(
        (event.node_id, event.state)
        for event in handoff.events(timeout_seconds=5)
        if event.type == "node" and event.state in ("ok", "failed", "lost", "cancelled")
    )


def starts(folder: Path) -> dict[str, int]:
    return {p.name: len(p.read_text().splitlines()) for p in folder.glob("starts-*")}


def test_fan_out_runs_every_task_and_merges_in_order(swarm):
    """Tasks over one context by reference; their results become one new version."""
    tasks = [(f"task {n}", "shout") for n in range(20)] + [("measure", "length")]
    handoff = hand_off(swarm, tasks)
    outcome = handoff.wait(timeout_seconds=60)
    assert (outcome.state, outcome.census["ok"], outcome.census.total) == ("done", 21, 21)
    assert (outcome.base_version, outcome.version) == ("1.0.0", "1.0.1")
    result = handoff.result()
    places = [result.index(f"TASK {n}\n") for n in range(20)]
    assert places == sorted(places)
    assert str(len(CONTEXT)) in result
    merged = swarm.store.get(outcome.session_id)
    assert merged.content == CONTEXT + "\n" + result
    assert merged.author == outcome.agent_id
    assert [e.text for e in handoff.events(timeout_seconds=5) if e.type == "progress"]


def test_children_two_levels_deep_come_back_in_order(swarm):
    """A node becomes its children's chord; the continuation gets their results."""
    handoff = hand_off(swarm, [("family 2", "family"), ("plain", "shout")])
    outcome = handoff.wait(timeout_seconds=60)
    assert (outcome.state, outcome.census["ok"], outcome.census.total) == ("done", 8, 8)
    leaf = len(CONTEXT)
    branches = [f"0.{b}(0.{b}.0:{leaf} 0.{b}.1:{leaf})" for b in (0, 1)]
    assert handoff.node_result("0") == f"0({' '.join(branches)})"
    assert set(committed_states(handoff).values()) == {1}


def test_bad_workers_fail_their_own_nodes_only(swarm):
    """One raises, one returns garbage, one never returns; the rest is merged, and said so."""
    handoff = hand_off(
        swarm,
        [("fine", "shout"), ("x", "fail"), ("x", "garbage"), ("x", "hang"), ("x", "nobody")],
        limits=Limits(lease_seconds=1.0, node_timeout_seconds=2.0),
    )
    outcome = handoff.wait(timeout_seconds=60)
    assert (outcome.state, outcome.census["ok"], outcome.census["failed"]) == ("degraded", 1, 4)
    nodes = {node.node_id: node for node in handoff.nodes()}
    assert (nodes["1"].error_type, "no such thing" in nodes["1"].error) == ("KeyError", True)
    assert nodes["2"].error_type == "RunnerError"
    assert nodes["3"].error_type == "TimeoutError"
    assert nodes["4"].error_type == "RunnerNotFoundError"
    assert "FINE" in handoff.result()
    assert handoff.result().count("_No result: this task was failed") == 4


def test_process_full_of_hung_runners_is_replaced_and_work_goes_on(stack):
    """Half of the threads hang: the worker exits, and a new one does what is left."""
    running = stack(beat=True, env={**FAST, "BATON_AGENTS_THREADS": "4"})
    with RedisSwarmCoordinator(redis_url=running.url) as swarm:
        limits = Limits(lease_seconds=1.0, node_timeout_seconds=1.0)
        handoff = hand_off(swarm, [("x", "hang")] * 3, limits=limits)
        assert handoff.wait(timeout_seconds=30).state == "failed"
        agents = running.processes["agents"]
        until(lambda: agents.status != "running", what="the exit of the hung worker")
        running.revive("agents")
        assert hand_off(swarm, [("go on", "shout")]).wait(timeout_seconds=60).state == "done"


def test_killed_worker_every_node_runs_again_and_is_committed_once(running, swarm, tmp_path):
    """SIGKILL of the agents pool in the middle of eight nodes."""
    handoff = hand_off(swarm, [(str(tmp_path), "gated")] * 8)
    until(lambda: len(starts(tmp_path)) == 8, what="the start of all nodes")
    running.kill("agents")
    (tmp_path / "gate").touch()
    running.revive("agents")
    outcome = handoff.wait(timeout_seconds=90)
    assert (outcome.state, outcome.census["ok"]) == ("done", 8)
    assert set(starts(tmp_path).values()) == {2}
    assert committed_states(handoff) == {(str(n), "ok"): 1 for n in range(8)}
    assert [node.attempt for node in handoff.nodes()] == [2] * 8


def test_task_that_kills_its_worker_ends_as_lost_and_work_goes_on(running, swarm):
    """A poison task stops after its attempts, with the reason; the next handoff is done."""
    limits = Limits(lease_seconds=0.5, max_attempts=2)
    poison = hand_off(swarm, [("x", "suicide")], limits=limits)
    agents = running.processes["agents"]

    def ended() -> bool:
        if agents.status != "running":
            running.revive("agents")
        return poison.outcome().ended

    until(ended, deadline_seconds=90, what="the end of the handoff")
    assert (poison.outcome().state, poison.outcome().census["lost"]) == ("failed", 1)
    assert (poison.nodes()[0].attempt, poison.nodes()[0].error_type) == (2, "LostError")
    if agents.status != "running":
        running.revive("agents")
    assert hand_off(swarm, [("go on", "shout")]).wait(timeout_seconds=60).state == "done"


def revived_until(running, ended, what) -> int:
    """Start the agents pool again whenever it is gone, as its supervisor would; how often."""
    agents = running.processes["agents"]
    deaths = 0

    def look() -> bool:
        nonlocal deaths
        if agents.status != "running":
            deaths += 1
            running.revive("agents")
        return ended()

    until(look, deadline_seconds=120, what=what)
    return deaths


def test_task_that_kills_its_workers_kills_two_and_no_neighbour_is_lost(running, swarm):
    """From its third attempt on it has a process of its own; so have those who ran beside it."""
    limits = Limits(lease_seconds=1.0, max_attempts=5)
    handoff = hand_off(swarm, [("x", "suicide"), *[(f"n {n}", "pause") for n in range(8)]],
                       limits=limits)  # fmt: skip
    deaths = revived_until(running, lambda: handoff.outcome().ended, "the end of the handoff")
    outcome = handoff.outcome()
    assert (outcome.state, outcome.census["lost"], outcome.census["ok"]) == ("degraded", 1, 8)
    assert deaths == 2
    assert (handoff.nodes()[0].attempt, handoff.nodes()[0].error_type) == (5, "LostError")
    assert set(committed_states(handoff).values()) == {1}


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_process_of_a_node_that_hangs_ends_with_its_pool(running, swarm, tmp_path, how):
    limits = Limits(lease_seconds=1.0)
    handoff = hand_off(swarm, [(str(tmp_path), "stay_apart")], limits=limits)
    started = tmp_path / "apart"
    deaths = revived_until(running, started.exists, "the node's own process")
    assert deaths == 2
    apart = psutil.Process(int(until(started.read_text)))
    running.kill("agents", how)
    until(lambda: gone(apart), deadline_seconds=30, what="the end of the node's process")
    handoff.cancel()


def test_hung_node_that_runs_apart_times_out_and_its_process_ends(running, swarm, tmp_path):
    limits = Limits(lease_seconds=1.0, node_timeout_seconds=6.0)
    handoff = hand_off(swarm, [(str(tmp_path), "stay_apart")], limits=limits)
    revived_until(running, (tmp_path / "apart").exists, "the node's own process")
    apart = psutil.Process(int(until((tmp_path / "apart").read_text)))
    assert handoff.wait(timeout_seconds=30).state == "failed"
    assert handoff.nodes()[0].error_type == "TimeoutError"
    until(lambda: gone(apart), deadline_seconds=30, what="the end of the node's process")
    assert running.processes["agents"].status == "running"


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_redis_restarted_in_the_middle_every_node_is_committed_once(running, swarm, tmp_path):
    """Redis goes and comes back over its AOF while six nodes run; no worker needs a restart."""
    handoff = hand_off(swarm, [(str(tmp_path), "gated")] * 6)
    until(lambda: len(starts(tmp_path)) == 6, what="the start of all nodes")
    running.restart_redis()
    (tmp_path / "gate").touch()
    outcome = handoff.wait(timeout_seconds=90)
    assert (outcome.state, outcome.census["ok"]) == ("done", 6)
    assert committed_states(handoff) == {(str(n), "ok"): 1 for n in range(6)}
    assert all(process.status == "running" for process in running.processes.values())
    assert hand_off(swarm, [("after", "shout")]).wait(timeout_seconds=60).state == "done"


def test_pools_started_before_redis_wait_for_it(redis_process, tmp_path):
    """Redis is unreachable at start: workers retry, and serve once it is there."""
    running = Stack(redis_process, tmp_path, FAST)
    redis_process.stop()
    try:
        for name in ("agents", "context"):
            running.start_without_waiting(name)
        until(lambda: "Trying again" in running.logs("agents"), what="a try without Redis")
        redis_process.start()
        for name in ("agents", "context"):
            running.processes[name].wait_ready()
        with RedisSwarmCoordinator(redis_url=running.url) as swarm:
            assert hand_off(swarm, [("late", "shout")]).wait(timeout_seconds=60).state == "done"
    finally:
        running.teardown()


def test_cancel_ends_waiting_nodes_at_once_and_running_ones_soon(running, swarm, tmp_path):
    """Thirty nodes, twelve threads: the rest never starts."""
    handoff = hand_off(swarm, [(str(tmp_path), "gated")] * 30)
    until(lambda: len(starts(tmp_path)) >= 10, what="the start of some nodes")
    handoff.cancel()
    begun = len(starts(tmp_path))
    outcome = handoff.wait(timeout_seconds=30)
    assert (outcome.state, outcome.census["cancelled"], outcome.version) == ("cancelled", 30, None)
    assert len(starts(tmp_path)) <= begun + 2
    assert swarm.store.get(outcome.session_id).version == "1.0.0"


def test_lost_message_is_published_again(running, swarm, tmp_path):
    """The broker's queue vanishes; the tree still knows what is to be done."""
    running.kill("agents")
    handoff = hand_off(swarm, [("a", "shout"), ("b", "shout")])
    broker = running.broker_client()
    until(lambda: broker.llen("agents") == 2, what="the arrival of the messages")
    assert broker.delete("agents")
    running.revive("agents")
    outcome = handoff.wait(timeout_seconds=60)
    assert (outcome.state, outcome.census["ok"]) == ("done", 2)
