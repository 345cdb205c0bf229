"""Whether a deployment is healthy: what is looked at, what is written, and what it says then."""

from __future__ import annotations

import json
import re
from contextlib import closing
from datetime import datetime

import pytest

from baton import ClientSettings, RedisSwarmCoordinator, health_check
from baton.archive.report import ArchiveReport, put_report
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


def _report(redis_client, **changed):
    told = {
        "checked_at_ms": round(redis_client.time()[0] * 1000), "period_ms": 300_000, "archived": 3,
        "copied": 1, "held": 1, "passages": 7, "rows": 7, "healthy": True, "reason": "",
        "rebuild": False, "waiting": 2, "purge_paused_until_ms": 0, "free_bytes": 2**40,
    }  # fmt: skip
    return ArchiveReport(**(told | changed))


def test_what_the_archive_told_is_shown(running, swarm, redis_client):
    """All of its report; a healthy one is no problem, and none at all is no fault either."""
    assert health_check(swarm)["archive"] is None
    put_report(redis_client, _report(redis_client))
    health = health_check(swarm)
    assert health["overall_status"] == "healthy"
    archive = health["archive"]
    assert datetime.fromisoformat(archive.pop("checked_at")).utcoffset().total_seconds() == 0
    assert archive == {
        "late": False, "archived": 3, "copied": 1, "held": 1, "passages": 7, "index_rows": 7,
        "probe_found": True, "waiting_for_index": 2, "purge_paused_until": None,
        "free_disk_bytes": 2**40, "problem": None,
    }  # fmt: skip
    assert 0 < redis_client.pttl("archive:health") <= 90 * 86_400_000


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"healthy": False, "reason": "the probe was not found"}, "the probe was not found"),
        ({"healthy": False, "reason": "x", "rebuild": True}, "`baton archive reindex`"),
        ({"rows": None, "healthy": False, "reason": "no answer in 30 s"}, "no answer in 30 s"),
        ({"rows": 5}, "the index has 5 of 7 passages"),
        ({"checked_at_ms": 1_000}, "nobody has looked after it since 1970-01-01T00:00:01.000Z"),
    ],
)
def test_archive_that_is_not_fit_is_a_problem(running, swarm, redis_client, changed, problem):
    """A probe that is not found, rows that are missing, and a report that is late."""
    put_report(redis_client, _report(redis_client, **changed))
    health = health_check(swarm)
    assert health["overall_status"] == "degraded"
    (told,) = health["problems"]
    assert told.startswith("archive: ")
    assert problem in told


def test_what_the_archive_needs_looked_at_is_warned_of(running, swarm, redis_client):
    """A paused purge, a full disk, and rows of nobody are no problems yet."""
    soon_ms = (redis_client.time()[0] + 60) * 1000
    put_report(
        redis_client,
        _report(redis_client, purge_paused_until_ms=soon_ms, free_bytes=2**20, rows=9),
    )
    health = health_check(swarm)
    assert health["problems"] == []
    warned = " ".join(health["warnings"])
    for part in ("purges nothing until", "has 1 MiB left", "2 rows too many"):
        assert part in warned


def test_report_that_is_none_is_told_of(running, swarm, redis_client):
    """Something else under the report's name hides nothing else of health."""
    redis_client.set("archive:health", "{}", ex=60)
    health = health_check(swarm)
    assert health["archive"] is None
    assert any("the archive" in warning for warning in health["warnings"])


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
