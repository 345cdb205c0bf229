"""Rotation beside writers: what it has left behind is under no key but the current one."""

from __future__ import annotations

import json
import threading
from contextlib import closing

import pytest

from baton.key_providers.environment import EnvKeyProvider
from baton.key_providers.file import FileKeyProvider
from baton.redis_client import connect
from baton.settings import ClientSettings
from baton.store.audit_entries import Caller
from baton.store.contexts import ContextStore
from baton.store.data_keys import KeyRotation
from baton.store.keys import SessionKeys
from faulty_redis import Died, Faults, faulty_client

ONE, TWO, THREE = (
    f"{name}:{bytes(range(n, n + 32)).hex()}" for n, name in enumerate(("k1", "k2", "k3"))
)


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


@pytest.fixture
def writer(faulty, faults, provider, redis_client):
    """A store that can be held, or die, before any of its round trips; its script is known."""
    store = ContextStore(faulty, key_provider=provider)
    store.put("warm", "text", agent_id="a", sealed=True)
    redis_client.flushall()
    yield store
    faults.disarm()
    store.close()


def wrapped_under(client, session_id="s") -> str:
    return json.loads(client.get(SessionKeys.of(session_id).data_key))["key_id"]


def rotate(client, provider):
    return KeyRotation(client, provider, Caller("host", "client")).rewrap_all("operator")


def trips_of(faults, act) -> int:
    """How many round trips it takes."""
    faults.arm("hold", 1_000)
    act()
    faults.disarm()
    return faults.trips


@pytest.mark.parametrize("act", ["put", "fork"])
def test_session_begun_beside_a_rotation_is_under_the_new_key(
    writer, redis_client, provider, faults, act
):
    """Whenever its writer is held: before it wraps, or between that and its commit."""
    writer.put("source", "text", agent_id="a", sealed=True)
    reports = []

    def begin(session_id):
        if act == "put":
            writer.put(session_id, "text", agent_id="a", sealed=True)
        else:
            writer.fork("source", session_id, agent_id="a")

    def rotation():
        provider.add_key()
        reports.append(rotate(redis_client, provider))

    for trip in range(1, trips_of(faults, lambda: begin("counted")) + 1):
        faults.arm("hold", trip, rotation)
        begin(f"s{trip}")
        assert reports[-1].failed == {}
        assert wrapped_under(redis_client, f"s{trip}") == provider.current_key_id()
        assert writer.get(f"s{trip}").content == "text"
    assert len(reports) == trip >= 3
    assert redis_client.keys("*:staging:*") == []
    assert rotate(redis_client, provider).rewrapped == 0


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


def test_rotation_that_an_older_one_overtakes_goes_on_to_its_own_key(redis_client, faulty, faults):
    """The older one wraps under a key that was current once, between the newer one's two steps."""
    oldest = ContextStore(redis_client, key_provider=EnvKeyProvider(ONE))
    oldest.put("s", "text", agent_id="a", sealed=True)
    older, newer = EnvKeyProvider(f"{TWO},{ONE}"), EnvKeyProvider(f"{THREE},{TWO},{ONE}")
    # Two scans, a look at the key, and then the script.
    faults.arm("hold", 4, lambda: rotate(redis_client, older))
    report = rotate(faulty, newer)
    assert (faults.fired, report.rewrapped, report.failed) == (True, 1, {})
    assert wrapped_under(redis_client) == "k3"
    entries = [each for each in oldest.show_audit("s") if each.operation == "rewrapped"]
    assert [each.details["to"] for each in entries] == ["k3", "k2"]
    oldest.close()


def test_process_that_kept_the_old_key_first_shows_in_the_check(redis_client):
    """What it began meanwhile is wrapped again, and counted: till none is, the old key stays."""
    late = ContextStore(redis_client, key_provider=EnvKeyProvider(f"{ONE},{TWO}"))
    rotated = EnvKeyProvider(f"{TWO},{ONE}")
    assert rotate(redis_client, rotated).rewrapped == 0
    late.put("s", "text", agent_id="a", sealed=True)
    assert rotate(redis_client, rotated).rewrapped == 1
    assert rotate(redis_client, rotated).rewrapped == 0
    assert wrapped_under(redis_client) == "k2"
    late.close()


def test_key_wrapped_before_a_rotation_is_found_whenever_it_is_stored(
    redis_client, faulty, faults, tmp_path
):
    """Its commit comes before any of the rotation's round trips: it is found, or it is refused."""
    provider = Interrupted.create(tmp_path / "master.keys")
    store = ContextStore(redis_client, key_provider=provider)
    trip = 0
    while trip == 0 or faults.fired:
        trip += 1
        redis_client.flushall()
        wrapped, let_go = threading.Event(), threading.Event()
        provider.then = lambda wrapped=wrapped, let_go=let_go: (wrapped.set(), let_go.wait(30))
        writing = threading.Thread(
            target=store.put, args=("s", "text"), kwargs={"agent_id": "a", "sealed": True}
        )
        writing.start()
        assert wrapped.wait(30)

        def commit(let_go=let_go, writing=writing):
            let_go.set()
            writing.join(30)

        faults.arm("hold", trip, commit)
        provider.add_key()
        assert rotate(faulty, FileKeyProvider(provider.path)).failed == {}
        commit()
        assert wrapped_under(redis_client) == provider.current_key_id()
    assert trip > 3
    store.close()


def test_rotation_finds_the_writers_of_every_node_of_a_cluster(cluster, tmp_path):
    """No key is shared by sessions of two nodes; their claims are where they are."""
    with closing(connect(cluster.url, ClientSettings())) as client:
        provider = Interrupted.create(tmp_path / "master.keys")
        store = ContextStore(client, key_provider=provider)
        names = [f"s{number}" for number in range(8)]

        def rotation():
            provider.add_key()
            rotate(client, provider)

        for name in names:
            provider.then = rotation
            store.put(name, "text", agent_id="a", sealed=True)
            assert provider.then is None
        assert {wrapped_under(client, name) for name in names} == {provider.current_key_id()}
        store.close()


class Interrupted(FileKeyProvider):
    """Does `then`, once, when it has wrapped a key and its caller does not have that yet."""

    then = None

    def wrap(self, data_key, *, context):
        wrapped = super().wrap(data_key, context=context)
        then, self.then = self.then, None
        if then is not None:
            then()
        return wrapped
