"""Whether a Redis keeps what it is given, as seen on real servers."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from baton.durability import require_durable
from baton.errors import AccessDeniedError, StoreUnavailableError, VolatileStoreError
from baton.settings import ClientSettings
from config.settings import AppSettings
from workers.durable_start import check_durable, exit_if_volatile

POLICIES = ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-ttl"]


@pytest.fixture
def durable(redis_server):
    """A private server of the same kind, with an append-only file."""
    folder = Path(tempfile.mkdtemp(prefix="baton-test-"))
    server = type(redis_server)(redis_server.binary, folder, appendonly=True)
    server.start()
    yield server
    server.stop(signal.SIGKILL)  # asked nicely, it first ends a file that it has just begun
    shutil.rmtree(folder)


def test_server_with_a_file_and_no_eviction_is_durable(durable):
    require_durable(durable.url, ClientSettings())


def test_server_without_an_append_only_file_is_refused_until_it_has_one(durable):
    """The command that the error names mends it."""
    with redis.Redis.from_url(durable.url) as client:
        client.config_set("appendonly", "no")
        with pytest.raises(VolatileStoreError, match="no append-only file") as caught:
            require_durable(durable.url, ClientSettings())
        assert "maxmemory" not in str(caught.value)
        _run_named_commands(client, str(caught.value))
    require_durable(durable.url, ClientSettings())


@pytest.mark.parametrize("policy", POLICIES)
def test_server_that_may_evict_is_refused_until_it_may_not(durable, policy):
    """With the policies that take keys with an expiry too: every key of a session has one."""
    with redis.Redis.from_url(durable.url) as client:
        client.config_set("maxmemory-policy", policy)
        with pytest.raises(VolatileStoreError, match=f"{policy}, not noeviction") as caught:
            require_durable(durable.url, ClientSettings())
        _run_named_commands(client, str(caught.value))
    require_durable(durable.url, ClientSettings())


def _run_named_commands(client: redis.Redis, message: str) -> None:
    named = message.partition("redis-cli: ")[2].partition("; and in")[0].split("; ")
    assert named
    for command in named:
        client.execute_command(*command.split())


def test_every_master_of_a_cluster_is_looked_at(cluster):
    require_durable(cluster.url, ClientSettings())
    node = cluster.nodes[-1].client
    node.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(VolatileStoreError, match="allkeys-lru"):
            require_durable(cluster.url, ClientSettings())
    finally:
        node.config_set("maxmemory-policy", "noeviction")


def test_user_without_info_cannot_tell_and_starts_with_a_warning(durable):
    with redis.Redis.from_url(durable.url) as client:
        client.acl_setuser("blind", enabled=True, passwords=["+pass"], categories=["+@all"],
                           commands=["-info"], keys=["*"])  # fmt: skip
    url = durable.url.replace("unix://", "unix://blind:pass@")
    with pytest.raises(AccessDeniedError):
        require_durable(url, ClientSettings())
    said: list[str] = []
    check_durable(_settings(url), said.append)
    assert "could not be seen" in said[0]


def test_server_that_does_not_answer_is_no_volatile_one(tmp_path):
    with pytest.raises(StoreUnavailableError):
        require_durable(f"unix://{tmp_path}/nobody.sock", ClientSettings(redis_timeout_seconds=0.1))


def test_broker_of_its_own_is_looked_at_too(durable, redis_server):
    """A queue that is evicted, or gone with a restart, is work that starts late."""
    settings = _settings(durable.url).model_copy(update={"broker_url": SecretStr(redis_server.url)})
    with pytest.raises(VolatileStoreError, match="append-only"):
        check_durable(settings, print)
    amqp = settings.model_copy(update={"broker_url": SecretStr("amqp://localhost")})
    check_durable(amqp, print)


def test_worker_on_a_volatile_server_exits_and_says_why(redis_server, capsys):
    """As a signal's handler it has to exit: Celery goes on behind whatever else is raised."""
    with pytest.raises(SystemExit) as ended:
        exit_if_volatile(_settings(redis_server.url))
    assert ended.value.code == 4
    assert "no append-only file" in capsys.readouterr().err
    exit_if_volatile(_settings(redis_server.url).model_copy(update={"allow_volatile": True}))


def _settings(url: str) -> AppSettings:
    return AppSettings(redis_url=SecretStr(url))
