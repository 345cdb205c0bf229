"""Rotation beside writers: what it has left behind is under no key but the current one."""

from __future__ import annotations

import json

import pytest

from baton.key_providers.environment import EnvKeyProvider
from baton.key_providers.file import FileKeyProvider
from baton.store.audit_entries import Caller
from baton.store.contexts import ContextStore
from baton.store.data_keys import KeyRotation
from baton.store.keys import SessionKeys
from faulty_redis import Died, Faults, faulty_client
from key_material import KEY_HEX

KEYS = SessionKeys.of("s")
# More round trips than the beginning of a sealed session takes: see the test of that.
TRIPS = 4


@pytest.fixture
def provider(tmp_path):
    return FileKeyProvider.create(tmp_path / "master.keys")


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
def faulty(redis_server, redis_client, faults):
    with faulty_client(str(redis_server.socket), faults) as client:
        yield client
        faults.disarm()


@pytest.fixture
def writer(faulty, provider):
    """A store that can be held, or die, between any two of its round trips."""
    store = ContextStore(faulty, key_provider=provider)
    yield store
    faults_free_close(store, faulty)


def faults_free_close(store, client):
    client.connection_pool.connection_kwargs["faults"].disarm()
    store.close()


def wrapped_under(client, keys=KEYS) -> str:
    return json.loads(client.get(keys.data_key))["key_id"]


def rotate(client, provider):
    return KeyRotation(client, provider, Caller("host", "client")).rewrap_all("operator")


def test_beginning_a_sealed_session_takes_fewer_round_trips_than_the_tests_hold(writer, faults):
    faults.arm("hold", 1_000, lambda: None)
    writer.put("s", "text", agent_id="a", sealed=True)
    assert faults.trips == TRIPS - 1


@pytest.mark.parametrize("trip", range(1, TRIPS))
@pytest.mark.parametrize("act", ["put", "fork"])
def test_session_begun_beside_a_rotation_is_under_the_new_key(
    writer, redis_client, provider, faults, trip, act
):
    """Whenever its writer is held: before it wraps, or between that and its commit."""
    other = ContextStore(redis_client, key_provider=provider)
    other.put("source", "text", agent_id="a", sealed=True)
    writer.get("source")
    reports = []

    def rotation():
        provider.add_key()
        reports.append(rotate(redis_client, provider))

    # A fork looks at the new session's name, at its source, and then begins as a put does.
    faults.arm("hold", trip + (1 if act == "fork" else 0), rotation)
    if act == "put":
        writer.put("s", "text", agent_id="a", sealed=True)
    else:
        writer.fork("source", "s", agent_id="a")
    assert [(each.rewrapped, each.failed) for each in reports] == [(1, {})]
    assert wrapped_under(redis_client) == provider.current_key_id()
    assert ContextStore(redis_client, key_provider=provider).get("s").content == "text"
    assert redis_client.keys("*:staging:*") == []
    assert rotate(redis_client, provider).rewrapped == 0
    other.close()


def test_every_rotation_beside_one_writer_is_survived(writer, redis_client, provider, faults):
    """Three rotations in a row take back its key three times."""
    left = [3]

    def rotation():
        provider.add_key()
        rotate(redis_client, provider)
        left[0] -= 1
        if left[0]:
            faults.arm("hold", 2, rotation)

    faults.arm("hold", 3, rotation)
    assert writer.put("s", "text", agent_id="a", sealed=True).version == "1.0.0"
    assert left == [0]
    assert wrapped_under(redis_client) == provider.current_key_id()


def test_writer_that_dies_before_its_commit_leaves_nothing_that_stays(
    writer, redis_client, provider, faults
):
    """The claim of its key expires, or goes with the next rotation."""
    faults.arm("die before", 3)
    with pytest.raises(Died):
        writer.put("s", "text", agent_id="a", sealed=True)
    (claim,) = redis_client.keys("*")
    assert 0 < redis_client.pttl(claim) <= 60_000
    assert rotate(redis_client, provider).failed == {}
    assert redis_client.keys("*") == []


def test_rotation_that_an_older_one_overtakes_goes_on_to_its_own_key(
    redis_client, faulty, faults
):
    """The older one wraps under a key that was current once, between the newer one's two steps."""
    first, second, third = (f"{name}:{KEY_HEX[name]}" for name in ("first", "second", "third"))
    oldest = EnvKeyProvider(first)
    ContextStore(redis_client, key_provider=oldest).put("s", "text", agent_id="a", sealed=True)
    older, newer = EnvKeyProvider(f"{second},{first}"), EnvKeyProvider(f"{third},{second},{first}")
    scans = 2
    faults.arm("hold", scans + 2, lambda: rotate(redis_client, older))
    report = rotate(faulty, newer)
    assert faults.fired
    assert (report.rewrapped, report.failed) == (1, {})
    assert wrapped_under(redis_client) == "third"


def test_process_that_kept_the_old_key_first_shows_in_the_check(redis_client):
    """What it began meanwhile is wrapped again, and counted: the old key must stay until none is."""
    old_line, new_line = f"old:{KEY_HEX['first']}", f"new:{KEY_HEX['second']}"
    late = ContextStore(redis_client, key_provider=EnvKeyProvider(f"{old_line},{new_line}"))
    rotated = EnvKeyProvider(f"{new_line},{old_line}")
    assert rotate(redis_client, rotated).rewrapped == 0
    late.put("s", "text", agent_id="a", sealed=True)
    assert rotate(redis_client, rotated).rewrapped == 1
    assert rotate(redis_client, rotated).rewrapped == 0
    assert wrapped_under(redis_client) == "new"
    late.close()
