"""Pools on a Redis at its memory limit: they hold on, or are started again, and lose nothing."""

from __future__ import annotations

import json
import threading

import pytest
from runner_functions import NAMES

from baton import ChildTask, ClientSettings, RedisSwarmCoordinator
from baton.errors import StoreFullError, StoreRefusedError
from handoff_invariants import check_ended
from waiting import until

pytestmark = pytest.mark.acceptance

ENV = {
    "BATON_RUNNER_FUNCTIONS": json.dumps({name: f"runner_functions:{name}" for name in NAMES}),
    "BATON_NODE_SWEEP_SECONDS": "0.5",
    "BATON_AGENTS_THREADS": "4",
    "BATON_VISIBILITY_TIMEOUT_SECONDS": "5",
    "BATON_WARM_SHUTDOWN_SECONDS": "3",
}
HANDOFFS, NODES = 3, 8


def test_accepted_handoffs_outlive_a_full_redis(stack, tmp_path):
    """B7: every write is refused for a while, under load; nothing accepted is lost or doubled.

    Stock Celery loses the message that an idle worker takes, and the worker ends.
    """
    running = stack(beat=True, env=ENV)
    admin = running.client()
    settings = ClientSettings(lease_seconds=2.0, node_timeout_seconds=60.0)
    with RedisSwarmCoordinator(redis_url=running.url, settings=settings) as swarm, Reviver(running):
        agent = swarm.register_agent("sonnet_coordinator", 200_000)
        swarm.update_context("One line of context.\n" * 1_000, agent)
        tasks = [ChildTask(str(tmp_path), "gated")] * NODES
        handoffs = [swarm.hand_off(agent, tasks) for _ in range(HANDOFFS)]
        until(lambda: list(tmp_path.glob("starts-*")), what="nodes at work")
        fill(admin)
        (tmp_path / "gate").touch()
        with pytest.raises(StoreFullError):
            swarm.handoffs.submit(handoffs[0].outcome().session_id, ["more"], agent_id=agent)
        with pytest.raises(StoreRefusedError):
            swarm.update_context("A write that is not taken.\n", agent)
        # Results, leases, messages: of each kind some meet the limit.
        until(lambda: refusals(admin) > 100, what="writes that were refused", deadline_seconds=60)
        admin.config_set("maxmemory", 0)
        for handoff in handoffs:
            outcome = handoff.wait(timeout_seconds=120)
            assert (outcome.state, outcome.census["ok"]) == ("done", NODES)
            states = dict.fromkeys(map(str, range(NODES)), "ok")
            check_ended(admin, handoff.handoff_id, states)
        after = swarm.hand_off(agent, [ChildTask("after", "shout")])
        assert after.wait(timeout_seconds=60).state == "done"


def fill(admin) -> None:
    """Let the server have no memory left from now on; refusals are counted from here."""
    admin.config_resetstat()
    admin.config_set("maxmemory", admin.info("memory")["used_memory"] // 2)


def refusals(admin) -> int:
    found = admin.info("errorstats").get("errorstat_OOM", {"count": 0})
    return int(found["count"])


class Reviver(threading.Thread):
    """Starts pools that end again, as their supervisor does."""

    def __init__(self, running) -> None:
        super().__init__(daemon=True)
        self._running = running
        self._done = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self.join()

    def run(self) -> None:
        while not self._done.wait(0.2):
            for process in list(self._running.processes.values()):
                if process.status == "exited":
                    process.launch()
