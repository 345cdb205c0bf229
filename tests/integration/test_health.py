"""Whether a deployment is healthy: what is looked at, what is written, and what it says then."""

from __future__ import annotations

import json
import re
from contextlib import closing
from datetime import datetime

import pytest

from baton import ClientSettings, RedisSwarmCoordinator, health_check
from baton.health import POOLS, check_deployment, probe
from baton.lifecycle.sweep_board import SweepBoard
from baton.redis_client import connect
from baton.swarm.pools import PoolBoard
from baton.swarm.registry import AgentRegistry


@pytest.fixture
def swarm(redis_client, redis_server):
    with RedisSwarmCoordinator(redis_url=redis_server.url) as swarm:
        yield swarm


@pytest.fixture
def running(redis_client):
    """All pools have reported, and the sweeps have run."""
    board, sweeps = PoolBoard(redis_client), SweepBoard(redis_client)
    for pool in POOLS:
        board.report(pool, f"{pool}-1", {"pid": 7})
    sweeps.expect("agents", 30)
    sweeps.run("nodes", 10, lambda _run: 3)


def _age(client, sweep, seconds):
    key = f"sweep:{{{sweep}}}:status"
    for field in ("succeeded_at_ms", "expected_since_ms"):
        if client.hexists(key, field):
            client.hincrby(key, field, -round(seconds * 1000))


def test_healthy_deployment_says_so_in_the_protocols_words(running, swarm):
    """The protocol's five fields, then what else was looked at; all of it is JSON."""
    swarm.register_agent("sonnet_coordinator", 200_000)
    health = health_check(swarm)
    assert list(health)[:5] == [
        "timestamp", "redis_status", "active_sessions", "version_conflicts", "overall_status",
    ]  # fmt: skip
    assert datetime.fromisoformat(health["timestamp"]).utcoffset().total_seconds() == 0
    assert (health["redis_status"], health["overall_status"]) == ("healthy", "healthy")
    assert (health["active_sessions"], health["version_conflicts"]) == (1, 0)
    assert health["problems"] == []
    assert health["pools"] == dict.fromkeys(POOLS, True)
    assert [(sweep["name"], sweep["late"], sweep["result"]) for sweep in health["sweeps"]] == [
        ("agents", False, None), ("nodes", False, 3),
    ]  # fmt: skip
    assert health["redis"]["maxmemory_policy"] == "noeviction"
    assert health["broker"]["reachable"]
    assert health["archive"] is None
    assert "append-only" in health["warnings"][0]
    json.dumps(health)


def test_conflicts_of_all_processes_are_counted(running, swarm, redis_server):
    """What another coordinator's write met counts too, once it has told."""
    agent = swarm.register_agent("sonnet_coordinator", 200_000)
    swarm.update_context("one\n\ntwo\n\nthree\n", agent)
    session = swarm.registry.get(agent).session_id
    with RedisSwarmCoordinator(redis_url=redis_server.url) as other:
        for text in ("one!\n\ntwo\n\nthree\n", "one\n\ntwo\n\nthree!\n", "none\n"):
            other.store.put(session, text, agent_id="another", base_version="1.0.0")
    assert health_check(swarm)["version_conflicts"] == 2


def test_dead_sweep_is_not_healthy(running, swarm, redis_client):
    """Three periods without success: degraded, and which, since when, and why."""
    _age(redis_client, "nodes", 15)
    assert health_check(swarm)["overall_status"] == "healthy"
    _age(redis_client, "nodes", 16)
    _age(redis_client, "agents", 91)
    health = health_check(swarm)
    assert health["overall_status"] == "degraded"
    agents, nodes = health["problems"]
    assert agents == "sweep agents is late (every 30 s; never succeeded)"
    assert re.fullmatch(r"sweep nodes is late \(every 10 s; last 3\d s ago\)", nodes)
    redis_client.delete("sweep:{nodes}")
    with pytest.raises(RuntimeError):
        SweepBoard(redis_client).run("nodes", 10, _fail)
    assert health_check(swarm)["problems"][1].endswith("ago): RuntimeError: the disk is full")


def _fail(_run):
    raise RuntimeError("the disk is full")


def test_probe_is_written_read_and_gone(redis_client):
    """It is timed, and leaves no key."""
    found = probe(redis_client)
    assert (found["problem"], found["denied"]) == (None, False)
    assert found["written_ms"] > 0
    assert found["read_ms"] > 0
    assert redis_client.dbsize() == 0


def test_redis_that_takes_no_writes_is_not_healthy(running, swarm, redis_client):
    """It answers PING, and everything can be read: the probe tells."""
    redis_client.config_set("maxmemory", 1)
    try:
        health = health_check(swarm)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert health["overall_status"] == "degraded"
    assert health["redis_status"].startswith("unhealthy: ")
    assert "takes no writes" in health["problems"][0]
    assert any("of its memory" in warning for warning in health["warnings"])


def test_user_who_may_not_write_is_told_that_this_was_not_tried(
    running, redis_client, redis_server
):
    """A monitor with read rights sees the rest; it is no fault of the server's."""
    redis_client.acl_setuser(
        "reader", enabled=True, nopass=True, keys=["*"], commands=["+@read", "+@connection",
        "+info", "+time"],
    )  # fmt: skip
    url = redis_server.url.replace("unix://", "unix://reader:x@")
    try:
        with closing(connect(url, ClientSettings())) as reader:
            registry = AgentRegistry(reader, dead_after_seconds=120)
            health = check_deployment(reader, url=url, settings=ClientSettings(), registry=registry)
    finally:
        redis_client.acl_deluser("reader")
    assert health["probe"]["denied"]
    assert (health["redis_status"], health["problems"]) == ("healthy", [])
    assert any("may not write the probe" in warning for warning in health["warnings"])


def test_deployment_without_redis_is_told_not_raised(tmp_path):
    """Everything that could not be looked at is empty, and the reason is there."""
    with RedisSwarmCoordinator(redis_url=f"unix://{tmp_path}/no.sock") as swarm:
        health = health_check(swarm)
    assert health["overall_status"] == "degraded"
    assert health["redis_status"].startswith("unhealthy: Redis at ")
    assert (health["active_sessions"], health["pools"], health["sweeps"]) == (0, {}, [])
    assert health["redis"] is None
    assert not health["broker"]["reachable"]


def test_archive_that_has_lost_its_probe_is_not_healthy(running, redis_client, redis_server):
    """Whoever has an archive gives its look at it; its problem is one of all."""
    registry = AgentRegistry(redis_client, dead_after_seconds=120)

    def look(problem):
        return check_deployment(
            redis_client, url=redis_server.url, settings=ClientSettings(), registry=registry,
            archive=lambda: {"passages": 7, "probe_found": problem is None, "problem": problem},
        )  # fmt: skip

    assert look(None)["overall_status"] == "healthy"
    health = look("a probe vector is not found")
    assert health["problems"] == ["archive: a probe vector is not found"]
    assert health["archive"]["passages"] == 7


def test_cluster_is_looked_at_too(cluster):
    """Each of its keys lies in some slot, and INFO is one node's."""
    settings = ClientSettings()
    with closing(connect(cluster.url, settings)) as client:
        registry = AgentRegistry(client, dead_after_seconds=120)
        SweepBoard(client).run("nodes", 10, lambda _run: 1)
        for pool in POOLS:
            PoolBoard(client).report(pool, f"{pool}-1", {"pid": 7})
        health = check_deployment(client, url=cluster.url, settings=settings, registry=registry)
    assert health["redis_status"] == "healthy"
    assert [sweep["name"] for sweep in health["sweeps"]] == ["nodes"]
