"""A bench of workers, or a cluster, for each test that asks for one; closed afterwards."""

from __future__ import annotations

import os
import shutil

import pytest

from anthropic_bench import KEY, PRICES, AnthropicBench
from baton.testing.fake_anthropic import FakeAnthropic
from baton_command import BatonCommand
from handoff_bench import Bench, check_expiries
from redis_cluster import Cluster


@pytest.fixture
def make_bench(redis_client):
    """Makes benches over the test's server; what they leave behind has its expiries."""
    benches = []

    def make(*args, client=None, **options):
        benches.append(Bench(client or redis_client, *args, **options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()
    check_expiries(redis_client)


@pytest.fixture
def bench(make_bench):
    """A bench with the `work` runner, which echoes its instruction."""
    return make_bench()


@pytest.fixture
def anthropic_bench(redis_client):
    """The fake endpoint, and runners over it and the test's Redis."""
    fake = FakeAnthropic(prices=PRICES, workspaces={KEY: "ours"}).start()
    made = AnthropicBench(redis_client, fake)
    yield made
    made.close()


@pytest.fixture
def context(tmp_path, redis_server, redis_client):
    """Runs `baton context …` against the test's server."""
    return BatonCommand(tmp_path, "context", BATON_REDIS_URL=redis_server.url)


@pytest.fixture(scope="session")
def cluster_servers():
    """Three masters of the system's redis-server, for all tests of the session."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("a redis-server on PATH is missing")
    cluster = Cluster(binary)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(cluster_servers):
    """The cluster, empty, healthy and with no scripts."""
    cluster_servers.settle()
    for node in cluster_servers.nodes:
        node.client.flushall()
        node.client.script_flush()
    return cluster_servers
