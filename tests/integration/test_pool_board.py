"""The pool board."""

from __future__ import annotations

import time

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from baton.errors import InvalidIdError, StoreUnavailableError
from baton.swarm import pools
from baton.swarm.pools import PoolBoard


def only_worker(board: PoolBoard):
    (pool,) = board.list()
    (worker,) = pool.workers
    return worker


def running(pid: int, restarts: int = 0) -> dict:
    return {"pid": pid, "restarts": restarts, "retry_in_seconds": None, "last_exit": None}


def test_board_lists_pools_and_workers_by_name(redis_client):
    """What was reported is listed, with what each worker said of itself."""
    board = PoolBoard(redis_client)
    board.report("context", "c-1@host", {"pid": 3})
    board.report("agents", "a-2@host", {"pid": 2})
    board.report("agents", "a-1@host", {"pid": 1, "active": 7})
    listed = board.list()
    assert [pool.pool for pool in listed] == ["agents", "context"]
    assert [worker.worker for worker in listed[0].workers] == ["a-1@host", "a-2@host"]
    assert listed[0].workers[0].info == {"pid": 1, "active": 7}
    assert listed[0].up


def test_board_shows_a_silent_worker_as_down(redis_client, monkeypatch):
    """No report for longer than allowed means down, by the server's clock."""
    board = PoolBoard(redis_client)
    board.report("agents", "a", {"pid": 1})
    assert only_worker(board).state == "up"
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(pools, "STALE_SECONDS", -1.0)
    assert only_worker(board).state == "down"


def test_board_believes_the_supervisor_about_a_death(redis_client):
    """A fresh report of a process that the supervisor knows to be dead counts for nothing."""
    board = PoolBoard(redis_client)
    board.report("agents", "a", {"pid": 1})
    board.supervise("agents", "a", running(1))
    assert only_worker(board).state == "up"
    died = {"pid": None, "restarts": 0, "retry_in_seconds": 1.5, "last_exit": "killed by SIGKILL"}
    board.supervise("agents", "a", died)
    worker = only_worker(board)
    assert (worker.state, worker.retry_in_seconds) == ("backing_off", 1.5)
    assert worker.last_exit == "killed by SIGKILL"
    board.supervise("agents", "a", running(2, restarts=1))
    assert (only_worker(board).state, only_worker(board).restarts) == ("starting", 1)
    board.report("agents", "a", {"pid": 2})
    assert only_worker(board).state == "up"


def test_board_forgets_a_withdrawn_worker(redis_client):
    """A worker stopped on purpose leaves no trace; nor does its empty pool."""
    board = PoolBoard(redis_client)
    board.report("agents", "a", {"pid": 1})
    board.supervise("agents", "a", running(1))
    board.withdraw("agents", "a")
    board.withdraw("agents", "a")
    assert board.list() == []


def test_board_forgets_workers_long_gone_though_others_report(redis_client, monkeypatch):
    """A pool that goes on does not keep the names of all its dead."""
    board = PoolBoard(redis_client)
    board.report("agents", "old", {"pid": 1})
    now = redis_client.time()[0] * 1000
    redis_client.hset("pools:{agents}", "ancient", f'{now - 301_000} {{"pid":0}}')
    board.report("agents", "new", {"pid": 2})
    (pool,) = board.list()
    assert [worker.worker for worker in pool.workers] == ["new", "old"]


def test_board_refuses_a_name_that_could_leave_its_key(redis_client):
    """A pool's name is an id."""
    with pytest.raises(InvalidIdError):
        PoolBoard(redis_client).report("agents}:x", "a", {})


def test_board_says_that_redis_is_away(tmp_path):
    """Without Redis every call is a StoreUnavailableError."""
    path = str(tmp_path / "none")
    with redis.Redis(unix_socket_path=path, retry=Retry(NoBackoff(), 0)) as client:
        board = PoolBoard(client)
        with pytest.raises(StoreUnavailableError):
            board.list()
        with pytest.raises(StoreUnavailableError):
            board.report("agents", "a", {})
        with pytest.raises(StoreUnavailableError):
            board.withdraw("agents", "a")
