"""Locks of a session: one holder, for the time of a lease, under a token that only rises."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis as redis_py

from baton.errors import (
    InvalidIdError,
    InvalidInputError,
    LockHeldError,
    LockLostError,
    StoreUnavailableError,
)
from baton.swarm.keys import locks_key
from baton.swarm.locks import MAX_LOCKS, Locks
from waiting import until

SESSION = "session_1"


@pytest.fixture
def locks(redis_client):
    return Locks(redis_client)


def end_lease(client, name="build"):
    """As time would, for a lock of `SESSION`."""
    stored = json.loads(client.hget(locks_key(SESSION), name))
    client.hset(locks_key(SESSION), name, json.dumps({**stored, "ends_at": 1}))


def take(locks, agent="worker_1", name="build", **options):
    return locks.acquire(SESSION, name, agent_id=agent, **options)


def test_lock_has_one_holder_until_it_is_released(locks):
    """The second claimant is told who holds it; after the release it is its turn."""
    held = take(locks)
    with pytest.raises(LockHeldError, match=r"build is held by worker_1, for at most 1[12]\d"):
        take(locks, "worker_2")
    assert locks.find(SESSION, "build") == held
    assert locks.release(held) is True
    assert locks.find(SESSION, "build") is None
    assert take(locks, "worker_2").agent_id == "worker_2"


def test_lock_is_refused_to_its_own_holder_too(locks):
    """Two threads of an agent are two claimants."""
    take(locks)
    with pytest.raises(LockHeldError):
        take(locks)


def test_locks_of_other_names_and_sessions_are_apart(locks):
    """Each name is a lock of its own, in each session."""
    take(locks)
    take(locks, "worker_2", "test")
    locks.acquire("session_2", "build", agent_id="worker_3")
    assert [lock.name for lock in locks.list(SESSION)] == ["build", "test"]
    assert [lock.agent_id for lock in locks.list("session_2")] == ["worker_3"]


def test_lease_ends_by_the_servers_clock(locks):
    """Nobody has to free what a lost worker held."""
    take(locks, lease_seconds=0.05)
    taken = until(lambda: _try(locks, "worker_2"), what="the lease ending")
    assert taken.agent_id == "worker_2"


def _try(locks, agent):
    try:
        return take(locks, agent)
    except LockHeldError:
        return None


def test_renewal_prolongs_the_lease_under_the_same_token(locks):
    """From now, not from the old end."""
    held = take(locks, lease_seconds=5)
    renewed = locks.renew(held, lease_seconds=500)
    assert (renewed.fence, renewed.taken_at) == (held.fence, held.taken_at)
    assert (renewed.ends_at - held.ends_at).total_seconds() > 490


def test_lapsed_lock_is_neither_renewed_nor_released(locks, redis_client):
    """Even where nobody has taken it since: others may have seen it free."""
    held = take(locks)
    end_lease(redis_client)
    with pytest.raises(LockLostError, match="no longer held by worker_1"):
        locks.renew(held)
    assert locks.release(held) is False


def test_late_holder_does_not_touch_the_next_ones_lock(locks, redis_client):
    """A worker that was frozen past its lease is refused by its token."""
    late = take(locks)
    end_lease(redis_client)
    new = take(locks)  # the same agent, started again
    with pytest.raises(LockLostError):
        locks.renew(late)
    assert locks.release(late) is False
    assert locks.find(SESSION, "build") == new


@pytest.mark.parametrize("change", [{"agent_id": "worker_2"}, {"fence": 1}, {"name": "test"}])
def test_only_the_claim_itself_renews_and_releases(locks, change):
    """Another agent, another token and another name are not it."""
    import dataclasses

    held = take(locks)
    forged = dataclasses.replace(held, **change)
    with pytest.raises(LockLostError):
        locks.renew(forged)
    assert locks.release(forged) is False
    assert locks.find(SESSION, "build") == held


def test_tokens_only_rise_through_release_lapse_and_loss(locks, redis_client):
    """Also where the server has forgotten all it knew of the name."""
    fences = []
    for end in (
        locks.release,
        lambda _: end_lease(redis_client),
        lambda _: redis_client.delete(locks_key(SESSION)),
        lambda _: None,
    ):
        lock = take(locks)
        fences.append(lock.fence)
        end(lock)
    assert fences == sorted(set(fences))


def test_token_rises_though_the_servers_clock_goes_back(locks, redis_client):
    """The last one counts where the clock is behind it."""
    ahead = 2**52
    stored = {"agent": "a", "fence": str(ahead), "taken_at": 1, "ends_at": 1, "operation": "o"}
    redis_client.hset(locks_key(SESSION), "build", json.dumps(stored))
    assert take(locks).fence == ahead + 1


def test_repeat_of_a_claim_whose_answer_was_lost_is_the_same_claim(locks, monkeypatch):
    """As redis-py repeats it, under its operation id."""
    monkeypatch.setattr("baton.swarm.locks.new_operation_id", lambda: "operation_1")
    assert take(locks) == take(locks)


def test_racing_claimants_get_one_holder_each_time(redis_client, redis_server):
    """Twenty rounds, eight threads with clients of their own: one wins, tokens rise."""
    barrier = threading.Barrier(8)
    fences = []

    def claim(number):
        with redis_py.Redis.from_url(redis_server.url) as client:
            mine = Locks(client)
            for _ in range(20):
                barrier.wait()
                lock = _try(mine, f"worker_{number}")
                barrier.wait()
                if lock is not None:
                    fences.append(lock.fence)
                    assert mine.release(lock)
                barrier.wait()

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(claim, number) for number in range(8)]:
            done.result()
    assert len(fences) == 20
    assert fences == sorted(set(fences))


def test_no_two_hold_a_lock_at_once(redis_client, redis_server):
    """Claims and releases that cross freely: what is written under the lock is never torn."""
    inside, most = [], []

    def work(number):
        with redis_py.Redis.from_url(redis_server.url) as client:
            mine = Locks(client)
            for _ in range(40):
                lock = until(lambda: _try(mine, f"worker_{number}"), what="my turn")
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)
                assert mine.release(lock)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, number) for number in range(4)]:
            done.result()
    assert max(most) == 1


def test_session_holds_a_thousand_locks_and_no_more(locks, redis_client):
    """What is free makes room; names do not pile up for ever."""
    now_ms = int(redis_client.time()[0]) * 1000
    held = {"agent": "a", "fence": "1", "taken_at": 1, "ends_at": now_ms + 90_000, "operation": "o"}
    names = {f"lock_{number}": json.dumps(held) for number in range(MAX_LOCKS)}
    redis_client.hset(locks_key(SESSION), mapping=names)
    with pytest.raises(InvalidInputError, match="at most 1000 locks"):
        take(locks)
    end_lease(redis_client, "lock_7")
    take(locks)
    assert redis_client.hlen(locks_key(SESSION)) == MAX_LOCKS
    assert len(locks.list(SESSION)) == MAX_LOCKS


def test_hash_lives_longer_than_any_of_its_locks(locks, redis_client):
    """A short lease, or a renewal, does not shorten the life of the others."""
    long = take(locks, lease_seconds=86_400)
    take(locks, name="short", lease_seconds=1)
    locks.renew(long, lease_seconds=1)
    assert redis_client.pttl(locks_key(SESSION)) >= 86_000_000


@pytest.mark.parametrize("seconds", [0, -1, 86_401, float("nan"), float("inf"), True, "9"])
def test_wrong_lease_is_refused(locks, seconds):
    """Above 0, up to a day."""
    with pytest.raises(InvalidInputError, match="lease_seconds"):
        take(locks, lease_seconds=seconds)
    held = take(locks)
    with pytest.raises(InvalidInputError, match="lease_seconds"):
        locks.renew(held, lease_seconds=seconds)


@pytest.mark.parametrize("field", ["session_id", "name", "agent_id"])
def test_wrong_ids_are_refused(locks, field):
    """None of them gets near a key."""
    given = {"session_id": SESSION, "name": "build", "agent_id": "worker_1", field: "a}b"}
    with pytest.raises(InvalidIdError, match=field):
        locks.acquire(given["session_id"], given["name"], agent_id=given["agent_id"])


def test_redis_that_is_gone_is_one_typed_error(tmp_path):
    """As everywhere."""
    with (
        redis_py.Redis(unix_socket_path=str(tmp_path / "none.sock")) as client,
        pytest.raises(StoreUnavailableError),
    ):
        take(Locks(client))
