"""Baton's own pools as the workers of pytest-celery's `celery_setup`, over its broker."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from nodes import RedisProcess
from pytest_celery import CeleryTestWorker, CeleryWorkerCluster
from runner_functions import NAMES
from stack import Stack

from baton import ChildTask, ClientSettings, RedisSwarmCoordinator
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery import Celery
    from pytest_celery import CeleryBrokerCluster, CeleryTestBroker, CeleryTestSetup

pytestmark = pytest.mark.acceptance


def urls_of(broker: CeleryTestBroker) -> dict[str, str]:
    """Where the broker is, and beside it, in another database of its server, the store."""
    server = broker.container
    broker_url = server.celeryconfig["host_url"]
    if isinstance(server, RedisProcess):
        return {"redis_url": server.url, "broker_url": broker_url}
    return {"redis_url": f"{broker_url.rpartition('/')[0]}/1", "broker_url": broker_url}


@pytest.fixture
def celery_worker_cluster(
    celery_broker_cluster: CeleryBrokerCluster, celery_setup_app: Celery, tmp_path: Path
) -> Iterator[CeleryWorkerCluster]:
    """Agents, context and lifecycle, with beat beside them; processes, whatever the broker is."""
    urls = urls_of(celery_broker_cluster[0])
    env = {
        "BATON_BROKER_URL": urls["broker_url"],
        "BATON_RUNNER_FUNCTIONS": json.dumps({n: f"runner_functions:{n}" for n in NAMES}),
        "BATON_NODE_SWEEP_SECONDS": "0.5",
        "BATON_AGENTS_THREADS": "4",
        "BATON_VISIBILITY_TIMEOUT_SECONDS": "3600",
    }
    pools = Stack(SimpleNamespace(url=urls["redis_url"]), tmp_path, env)
    try:
        names = ("agents", "context", "lifecycle")
        pools.start(*names, beat=True)
        workers = [CeleryTestWorker(pools.processes[name], celery_setup_app) for name in names]
        yield CeleryWorkerCluster(*workers)
    finally:
        pools.teardown()


def test_pools_of_a_celery_setup_run_every_node_again_after_a_kill(
    celery_setup: CeleryTestSetup, tmp_path: Path
) -> None:
    """Its nodes kill and start the agents pool amid four tasks; each result is stored once."""
    settings = ClientSettings(**urls_of(celery_setup.broker), lease_seconds=2.0)
    [agents] = [worker for worker in celery_setup.worker_cluster if worker.name() == "agents"]
    url = settings.redis_url.get_secret_value()
    with RedisSwarmCoordinator(redis_url=url, settings=settings) as swarm:
        agent = swarm.register_agent("sonnet_coordinator", 200_000)
        swarm.update_context("One line.\n", agent)
        handoff = swarm.hand_off(agent, [ChildTask(str(tmp_path), "gated")] * 4)
        until(lambda: len(list(tmp_path.glob("starts-*"))) == 4, what="the start of all nodes")
        agents.kill()
        (tmp_path / "gate").touch()
        agents.container.start()
        outcome = handoff.wait(timeout_seconds=90)
        assert (outcome.state, outcome.census["ok"]) == ("done", 4)
        assert [node.attempt for node in handoff.nodes()] == [2] * 4
        ended = [e.node_id for e in handoff.events(timeout_seconds=5) if e.state == "ok"]
        assert sorted(ended) == ["0", "1", "2", "3"]
