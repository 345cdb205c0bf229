"""Sweeps run once a period and one at a time, and how they went is on record."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from baton.errors import InvalidIdError, StoreUnavailableError
from baton.lifecycle.sweep_board import INDEX, SweepBoard
from waiting import until


@pytest.fixture
def board(redis_client):
    return SweepBoard(redis_client)


def _two(_run):
    return 2


def _fail(_run):
    raise ValueError("no room; password=hunter2")


def _only(board):
    (status,) = board.list()
    return status


def _move_back(client, name, seconds, *fields):
    """As if these instants had been `seconds` earlier."""
    key = f"sweep:{{{name}}}:status"
    for field in fields:
        client.hincrby(key, field, -round(seconds * 1000))


def test_period_is_run_by_one_of_many_racers(redis_client):
    """However many beats fire, one sweep runs."""
    barrier = threading.Barrier(8)

    def race(_number):
        barrier.wait()
        return SweepBoard(redis_client).run("nodes", 60, _two)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(race, range(8)))
    assert sorted(answers, key=str) == [2] + [None] * 7


def test_period_ends_a_little_before_the_next_tick(redis_client, board):
    """A tick that comes on time finds its period free, and no claim stays for ever."""
    assert board.run("nodes", 10, _two) == 2
    assert 8_000 < redis_client.pttl("sweep:{nodes}") <= 9_000
    assert board.run("quick", 0.05, _two) == 2
    until(lambda: board.run("quick", 60, _two))
    with pytest.raises(InvalidIdError):
        board.run("a:b", 1, _two)


def test_sweep_that_still_runs_is_not_started_again(redis_client, board):
    """It outlives period and lease, is renewed, and shows how far it is; then the next may run."""
    begun, go_on = threading.Event(), threading.Event()

    def work(run):
        run.progress(3, 10)
        begun.set()
        assert go_on.wait(30)
        assert not run.lost
        return 10

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(board.run, "archive", 0.5, work)
        assert begun.wait(30)
        until(lambda: not redis_client.exists("sweep:{archive}"), what="the period's end")
        until(lambda: _only(board).done == 3, what="a renewal")
        assert board.run("archive", 0.5, _two) is None
        status = _only(board)
        assert (status.running, status.total, status.runs) == (True, 10, 1)
        go_on.set()
        assert running.result(30) == 10
    assert not _only(board).running
    assert until(lambda: board.run("archive", 0.5, _two)) == 2


def test_sweep_whose_process_died_is_taken_over_after_its_lease(redis_client, board):
    """Nobody renews it; when the lease has ended, the next tick runs."""
    dead = "0" * 32
    redis_client.set("sweep:{archive}:running", dead, px=300)
    assert board.run("archive", 0.1, _two) is None
    assert until(lambda: board.run("archive", 0.1, _two)) == 2


def test_run_that_lost_its_lease_is_told_and_records_nothing(redis_client, board):
    """Another may be at it: what the loser did is not its result, and its end frees nothing."""
    seen = []

    def work(run):
        redis_client.set("sweep:{archive}:running", "another", px=60_000)
        until(lambda: run.lost, what="the loss")
        seen.append(run.lost)
        return 5

    assert board.run("archive", 0.5, work) == 5
    assert seen == [True]
    status = _only(board)
    assert (status.succeeded_at, status.items, status.running) == (None, 0, True)


def test_how_runs_went_is_kept(redis_client, board):
    """Counts rise; the last result stays beside the last failure's reason, without its secrets."""
    assert board.run("nodes", 0.02, _two) == 2
    with pytest.raises(ValueError, match="no room"):
        until(lambda: board.run("nodes", 0.02, _fail))
    status = _only(board)
    assert (status.runs, status.failures, status.items, status.result) == (2, 1, 2, 2)
    assert status.error.startswith("ValueError: no room; password=")
    assert "hunter2" not in status.error
    assert status.succeeded_at <= status.started_at <= status.ended_at
    assert until(lambda: board.run("nodes", 0.02, _two)) == 2
    assert _only(board).error == ""
    assert 0 < redis_client.pttl("sweep:{nodes}:status") <= 90 * 86_400_000


def test_sweep_is_late_after_three_periods_without_success(redis_client, board):
    """Failures do not count, nor does a run that is on its way; a success mends it."""
    assert board.run("nodes", 10, _two) == 2
    assert not _only(board).late
    _move_back(redis_client, "nodes", 31, "succeeded_at_ms", "expected_since_ms")
    assert _only(board).late
    assert 31 <= _only(board).seconds_since_success < 60
    redis_client.delete("sweep:{nodes}")
    with pytest.raises(ValueError, match="no room"):
        board.run("nodes", 10, _fail)
    assert _only(board).late
    redis_client.delete("sweep:{nodes}")
    assert board.run("nodes", 10, _two) == 2
    assert not _only(board).late


def test_sweep_that_never_ran_is_late_from_when_it_was_expected(redis_client, board):
    """A beat that just began is given three periods; one that begins again and again is not."""
    board.expect("agents", 10)
    status = _only(board)
    assert (status.late, status.runs, status.seconds_since_success) == (False, 0, None)
    _move_back(redis_client, "agents", 31, "expected_since_ms")
    board.expect("agents", 10)
    assert _only(board).late
    _move_back(redis_client, "agents", 30, "expected_since_ms")
    board.expect("agents", 10)
    assert not _only(board).late


def test_forgotten_sweeps_leave_the_index(redis_client, board):
    """A name whose status is gone is not listed, and goes at the next claim after 90 days."""
    redis_client.zadd(INDEX, {"old": 1_000})
    assert board.list() == []
    assert board.run("nodes", 10, _two) == 2
    assert redis_client.zrange(INDEX, 0, -1) == [b"nodes"]


def test_board_without_redis_says_so(tmp_path):
    """Each method raises the transient error, and the work is not begun."""
    nobody = redis.Redis(unix_socket_path=str(tmp_path / "no.sock"))
    board = SweepBoard(nobody)
    for call in (lambda: board.run("nodes", 1, _two), board.list, lambda: board.expect("nodes", 1)):
        with pytest.raises(StoreUnavailableError):
            call()
    nobody.close()
