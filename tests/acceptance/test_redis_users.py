"""The whole stack where each process has its own Redis user and the default user is off."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import redis
from nodes import RedisProcess
from runner_functions import NAMES
from stack import Stack

from baton import ChildTask, ClientSettings, Limits, RedisSwarmCoordinator
from baton.access.scripts import load_missing, script_sources
from baton.settings import load_settings
from baton_command import BatonCommand
from redis_users import password_of, write_users
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.acceptance

RUNNERS = json.dumps({name: f"runner_functions:{name}" for name in NAMES})
CONTEXT = "One line of context.\n" * 5_000
POOLS = ("agents", "context", "lifecycle", "archive")


class GuardedRedis(RedisProcess):
    """A Redis with Baton's aclfile."""

    def __init__(self) -> None:
        super().__init__()
        self.command = [*self.command, "--aclfile", str(write_users(self.folder))]

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self.socket),
            username="admin",
            password=password_of("admin"),
            decode_responses=True,
        )


@pytest.fixture
def guarded() -> Iterator[GuardedRedis]:
    server = GuardedRedis()
    server.start()
    with server.client as admin:
        load_missing(admin)
    yield server
    server.teardown()


@pytest.fixture
def running(guarded, tmp_path) -> Iterator[Stack]:
    made = Stack(guarded, tmp_path, {
        "BATON_ACL_DIR": str(guarded.folder / "passwords"),
        "BATON_RUNNER_FUNCTIONS": RUNNERS,
        "BATON_NODE_SWEEP_SECONDS": "0.5",
        "BATON_AGENT_SWEEP_SECONDS": "0.5",
        "BATON_ACCESS_SWEEP_SECONDS": "0.5",
        "BATON_AUDIT_SEAL_SECONDS": "0.5",
        "BATON_WARM_SHUTDOWN_SECONDS": "3",
    })  # fmt: skip
    made.start(*POOLS, beat=True)
    yield made
    made.teardown()


@pytest.fixture
def swarm(running) -> Iterator[RedisSwarmCoordinator]:
    """An orchestrator, as the user that such have."""
    settings = load_settings(
        ClientSettings,
        redis_url=running.url,
        acl_dir=running.env["BATON_ACL_DIR"],
        redis_user="sonnet_coordinator",
        lease_seconds=2.0,
        node_timeout_seconds=60.0,
    )
    url = settings.redis_url.get_secret_value()
    with RedisSwarmCoordinator(redis_url=url, settings=settings) as swarm:
        yield swarm


def hand_off(swarm, tasks, **options):
    agent = swarm.register_agent("sonnet_coordinator", 200_000)
    swarm.update_context(CONTEXT, agent)
    return swarm.hand_off(agent, [ChildTask(text, runner) for text, runner in tasks], **options)


def refusals(server: GuardedRedis) -> list[dict[str, object]]:
    """What the server refused, to whom."""
    with server.client as admin:
        return [
            {key: entry[key] for key in ("username", "reason", "context", "object")}
            for entry in admin.acl_log()
        ]


def test_handoffs_with_children_cancel_retry_and_sweeps_are_refused_nothing(
    guarded, running, swarm, tmp_path
):
    """Everything that Baton does, it may do: the server's log of refusals stays empty."""
    handoff = hand_off(swarm, [("family 2", "family"), ("plain", "shout"), ("list", "offline")])
    outcome = handoff.wait(timeout_seconds=60)
    assert refusals(guarded) == []
    assert (outcome.state, outcome.census["ok"]) == ("done", 9)
    gated = hand_off(swarm, [(str(tmp_path), "gated")] * 4)
    until(lambda: len(list(tmp_path.glob("starts-*"))) == 4, what="the start")
    gated.cancel()
    assert gated.wait(timeout_seconds=30).state == "cancelled"
    (tmp_path / "gate").touch()
    swarm.handoffs.retry(gated.handoff_id)
    assert gated.wait(timeout_seconds=60).state == "done"
    failed = hand_off(swarm, [("x", "fail"), ("y", "shout")], limits=Limits(max_attempts=1))
    assert failed.wait(timeout_seconds=60).state == "degraded"
    assert refusals(guarded) == []
    assert "NOPERM" not in running.logs()


def test_redis_that_lost_its_scripts_gets_them_from_beat(guarded, running, swarm):
    """After a restart nobody but beat can load scripts; whoever misses one waits for it."""
    running.restart_redis()
    outcome = hand_off(swarm, [("after", "shout")]).wait(timeout_seconds=60)
    assert outcome.state == "done"
    with guarded.client as admin:
        assert all(admin.script_exists(*script_sources()))


def test_sessions_are_archived_found_restored_and_purged_as_their_own_users(
    guarded, running, swarm, embedder, tmp_path
):
    """By the archive's pool, asked by an orchestrator; and by an archive agent without the pool."""
    agent = swarm.register_agent("sonnet_coordinator", 200_000)
    session = swarm.update_context(CONTEXT, agent).session_id
    users = {
        "BATON_REDIS_URL": running.url,
        "BATON_ACL_DIR": running.env["BATON_ACL_DIR"],
        "BATON_STATE_DIR": str(running.state_dir),
    }
    ours = BatonCommand(tmp_path, BATON_REDIS_USER="sonnet_coordinator", **users)
    assert ours.json("archive", "run", session)["outcome"] == "archived"
    assert ours.json("archive", "search", "a line", "--limit", "1")
    assert ours.json("archive", "restore", session)
    doctor = BatonCommand(tmp_path, "doctor", BATON_REDIS_USER="admin", **users)
    assert doctor.json("--fix")["ok"]  # it asks the pool
    for pool in ("archive", "lifecycle"):
        running.kill(pool, "SIGTERM")
        until(lambda pool=pool: running.processes[pool].status == "exited", what="its end")
    agents = BatonCommand(tmp_path, BATON_REDIS_USER="archive_agent", **users)
    assert agents.json("archive", "run", session)["outcome"] == "archived"
    assert agents.json("archive", "restore", session)
    assert agents.json("archive", "purge", session, "--yes")
    assert doctor.json("--fix")["ok"]  # it opens the archive itself
    monitor = BatonCommand(tmp_path, BATON_REDIS_USER="monitor", **users)
    monitor("status", "--json", code=1)  # two pools are down
    assert refusals(guarded) == []
