"""`baton status --pool`: what a container's health check asks."""

from __future__ import annotations

import socket

import pytest

from baton.swarm.pools import PoolBoard
from baton_command import BatonCommand


@pytest.fixture
def ask(redis_server, redis_client, tmp_path):
    return BatonCommand(tmp_path, "status", BATON_REDIS_URL=redis_server.url)


def test_pool_check_tells_by_its_exit_code(ask, redis_client):
    """0 while a worker of the pool reports, 1 if none ever did; other pools change nothing."""
    PoolBoard(redis_client).report("agents", "agents@elsewhere", {"pid": 1})
    assert ask("--pool", "agents").stdout == b"agents: up (agents@elsewhere up)\n"
    assert ask("--pool", "context", code=1).stdout == b"context: not up (no worker)\n"
    answer = ask.json("--pool", "agents")
    assert answer == {
        "pool": "agents",
        "up": True,
        "workers": [{"worker": "agents@elsewhere", "state": "up"}],
    }


def test_pool_check_here_asks_for_this_hosts_worker(ask, redis_client):
    """One of several containers is not healthy because its neighbours are."""
    board = PoolBoard(redis_client)
    board.report("agents", "agents@elsewhere", {"pid": 1})
    ask("--pool", "agents", "--here", code=1)
    board.report("agents", f"agents@{socket.gethostname()}", {"pid": 1})
    ask("--pool", "agents", "--here")


def test_pool_check_is_silent_about_nothing(ask, tmp_path):
    """--here alone is wrong usage; a Redis that does not answer is no pool that is up."""
    assert "--pool" in ask.error("--here", code=2)
    gone = f"unix://{tmp_path}/none.sock?db=0"
    assert ask.error("--pool", "agents", code=4, BATON_REDIS_URL=gone)
