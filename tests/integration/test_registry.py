"""The agent registry on real servers: registering, heartbeats, death, removal, races, outage."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC

import pytest
import redis
from redis.crc import key_slot

from baton.errors import (
    AgentNotFoundError,
    InvalidIdError,
    InvalidInputError,
    StoreUnavailableError,
    UnexpectedAnswerError,
    UnsupportedFormatError,
)
from baton.swarm.keys import INDEX, agent_key
from baton.swarm.registry import (
    MAX_METADATA_BYTES,
    MAX_METADATA_DEPTH,
    RETENTION_SECONDS,
    AgentRegistry,
)


@pytest.fixture
def registry(redis_client):
    return AgentRegistry(redis_client)


def age(redis_client, agent_id, seconds):
    """Make the agent's last heartbeat older, as waiting would."""
    score = redis_client.zscore(INDEX, agent_id)
    moved = abs(score) - seconds * 1000
    redis_client.zadd(INDEX, {agent_id: moved if score > 0 else -moved})


def ids(agents):
    return [agent.agent_id for agent in agents]


def test_register_returns_what_get_reads(registry):
    """A registered agent is read back as it was returned, with Redis' instants."""
    agent = registry.register(
        "sonnet_coordinator", context_capacity=200_000, metadata={"имя": ["один", 2, None]}
    )
    assert registry.get(agent.agent_id) == agent
    assert agent.agent_id.startswith("sonnet_coordinator_")
    assert agent.session_id.startswith("session_")
    assert (agent.role, agent.parent_id, agent.state) == ("sonnet_coordinator", None, "active")
    assert agent.context_capacity == 200_000
    assert agent.metadata == {"имя": ["один", 2, None]}
    assert agent.registered_at.tzinfo is UTC
    assert agent.registered_at <= agent.last_heartbeat_at


def test_register_stamps_by_redis_clock(registry, redis_client):
    """Both instants lie between two readings of the server's own clock."""
    before = redis_client.time()[0]
    agent = registry.register("monitor", context_capacity=1)
    after = redis_client.time()[0] + 1
    assert before <= agent.registered_at.timestamp() <= after
    assert before <= agent.last_heartbeat_at.timestamp() <= after


def test_register_child_joins_its_parents_session(registry):
    """A child shares its parent's session and is listed among its children."""
    parent = registry.register("sonnet_coordinator", context_capacity=10, session_id="shared-1")
    child = registry.register("haiku_worker", context_capacity=5, parent_id=parent.agent_id)
    registry.register("haiku_worker", context_capacity=5)
    assert child.session_id == parent.session_id == "shared-1"
    assert registry.children(parent.agent_id) == [child]
    assert registry.children(child.agent_id) == []


def test_register_refuses_a_session_that_is_not_the_parents(registry, redis_client):
    """A child cannot be put into another session, and nothing is written for it."""
    parent = registry.register("sonnet_coordinator", context_capacity=10)
    keys = redis_client.dbsize()
    with pytest.raises(InvalidInputError, match="session_id: expected the parent's"):
        registry.register(
            "haiku_worker", context_capacity=5, parent_id=parent.agent_id, session_id="other"
        )
    assert redis_client.dbsize() == keys


def test_register_under_an_unknown_parent_is_refused(registry, redis_client):
    """A parent that is not registered raises AgentNotFoundError and leaves Redis empty."""
    with pytest.raises(AgentNotFoundError, match="nobody_00000000"):
        registry.register("haiku_worker", context_capacity=5, parent_id="nobody_00000000")
    assert redis_client.dbsize() == 0


CYCLE: dict = {}
CYCLE["self"] = CYCLE


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"role": "a{b}"}, "role"),
        ({"role": ""}, "role"),
        ({"role": "x" * 120}, "role"),
        ({"context_capacity": 0}, "context_capacity"),
        ({"context_capacity": True}, "context_capacity"),
        ({"context_capacity": 1.5}, "context_capacity"),
        ({"context_capacity": 10**400}, "context_capacity"),
        ({"session_id": "no/slash"}, "session_id"),
        ({"parent_id": "*"}, "agent_id"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"when": object()}}, "metadata"),
        ({"metadata": {"n": float("nan")}}, "metadata"),
        ({"metadata": {"s": "\ud800"}}, "metadata"),
        ({"metadata": {"s": "x" * MAX_METADATA_BYTES}}, "metadata"),
        ({"metadata": CYCLE}, "metadata"),
    ],
)
def test_register_refuses_malformed_arguments(registry, redis_client, changed, field):
    """Each malformed argument raises an InvalidInputError with its name, and Redis is unchanged."""
    arguments = {"role": "haiku_worker", "context_capacity": 1, **changed}
    with pytest.raises(InvalidInputError) as caught:
        registry.register(**arguments)
    assert caught.value.field == field
    assert redis_client.dbsize() == 0


def test_registry_refuses_impossible_times(redis_client):
    """Times must be positive and bounded, or a script would fail later."""
    for name in ("dead_after_seconds", "retention_seconds"):
        for value in (0, -1, float("nan"), float("inf"), True, "60"):
            with pytest.raises(InvalidInputError, match=name):
                AgentRegistry(redis_client, **{name: value})


def test_get_and_find_differ_on_an_unknown_agent(registry):
    """`get` raises, `find` gives None, and neither lets a bad id near a key."""
    assert registry.find("haiku_worker_00000000") is None
    with pytest.raises(AgentNotFoundError, match="haiku_worker_00000000"):
        registry.get("haiku_worker_00000000")
    with pytest.raises(InvalidIdError):
        registry.find("index}")


def test_get_refuses_a_record_of_an_unknown_format(registry, redis_client):
    """A record written by a later Baton is refused, not guessed at."""
    agent = registry.register("monitor", context_capacity=1)
    redis_client.hset(agent_key(agent.agent_id), "format", "2")
    with pytest.raises(UnsupportedFormatError, match=agent.agent_id):
        registry.get(agent.agent_id)


def test_heartbeat_of_an_unknown_agent_writes_nothing(registry, redis_client):
    """A heartbeat cannot bring an agent into being."""
    with pytest.raises(AgentNotFoundError):
        registry.heartbeat("haiku_worker_00000000")
    assert redis_client.dbsize() == 0


def test_heartbeat_refreshes_instant_and_expiry(registry, redis_client):
    """A heartbeat moves the last instant and prolongs record and index."""
    agent = registry.register("monitor", context_capacity=1)
    age(redis_client, agent.agent_id, 50)
    for key in (INDEX, agent_key(agent.agent_id)):
        redis_client.pexpire(key, 60_000)
    registry.heartbeat(agent.agent_id)
    assert registry.get(agent.agent_id).last_heartbeat_at >= agent.last_heartbeat_at
    for key in (INDEX, agent_key(agent.agent_id)):
        assert redis_client.ttl(key) > RETENTION_SECONDS - 60


def test_list_active_gives_the_newest_heartbeat_first(registry, redis_client):
    """Silent agents are left out of the active, not out of all; the newest comes first."""
    first, second, silent = (registry.register("worker", context_capacity=1) for _ in range(3))
    age(redis_client, first.agent_id, 10)
    age(redis_client, second.agent_id, 20)
    age(redis_client, silent.agent_id, 121)
    assert ids(registry.list_active()) == [first.agent_id, second.agent_id]
    assert ids(registry.list_all()) == [first.agent_id, second.agent_id, silent.agent_id]
    registry.heartbeat(second.agent_id)
    assert ids(registry.list_active()) == [second.agent_id, first.agent_id]


def test_list_active_of_an_empty_registry_is_empty(registry):
    """Before anyone registers, every list is empty."""
    assert registry.list_active() == registry.list_all() == []
    assert registry.sweep_dead() == registry.remove_stale(0) == []


def test_sweep_dead_marks_the_silent_once_and_keeps_them(registry, redis_client):
    """A swept agent is dead but readable, is not swept again, and stays in order."""
    silent, older, alive = (registry.register("worker", context_capacity=1) for _ in range(3))
    age(redis_client, silent.agent_id, 130)
    age(redis_client, older.agent_id, 140)
    heard_at = registry.get(silent.agent_id).last_heartbeat_at
    assert registry.sweep_dead() == [older.agent_id, silent.agent_id]
    assert registry.sweep_dead() == []
    dead = registry.get(silent.agent_id)
    assert (dead.state, dead.last_heartbeat_at) == ("dead", heard_at)
    assert ids(registry.list_active()) == [alive.agent_id]
    assert ids(registry.list_all()) == [alive.agent_id, silent.agent_id, older.agent_id]


def test_sweep_dead_takes_at_most_its_limit_and_starves_nobody(registry, redis_client):
    """Each call takes the longest silent of those not yet marked, until all are."""
    agents = [registry.register("worker", context_capacity=1) for _ in range(5)]
    for seconds, agent in enumerate(agents):
        age(redis_client, agent.agent_id, 200 + seconds)
    expected = ids(reversed(agents))
    assert registry.sweep_dead(limit=2) == expected[:2]
    assert registry.sweep_dead(limit=2) == expected[2:4]
    assert registry.sweep_dead(limit=2) == expected[4:]
    with pytest.raises(InvalidInputError, match="limit"):
        registry.sweep_dead(limit=0)


def test_heartbeat_revives_a_dead_agent(registry, redis_client):
    """The next heartbeat of an agent that was marked dead makes it active again."""
    agent = registry.register("worker", context_capacity=1)
    age(redis_client, agent.agent_id, 500)
    registry.sweep_dead()
    registry.heartbeat(agent.agent_id)
    assert registry.get(agent.agent_id).state == "active"
    assert ids(registry.list_active()) == [agent.agent_id]


def test_remove_stale_removes_entry_and_record_of_old_agents(registry, redis_client):
    """Old agents go, marked dead or not; young ones stay; a second call finds nothing."""
    dead, silent, young = (registry.register("worker", context_capacity=1) for _ in range(3))
    age(redis_client, dead.agent_id, 400)
    registry.sweep_dead()
    age(redis_client, silent.agent_id, 400)
    assert set(registry.remove_stale(300)) == {dead.agent_id, silent.agent_id}
    assert registry.remove_stale(300) == []
    assert registry.find(dead.agent_id) is None
    assert sorted(redis_client.keys()) == sorted(
        [INDEX.encode(), agent_key(young.agent_id).encode()]
    )
    with pytest.raises(AgentNotFoundError):
        registry.heartbeat(silent.agent_id)


def test_remove_stale_pages_through_many(registry, redis_client):
    """More agents than one page holds are all removed by one call."""
    agents = [registry.register("worker", context_capacity=1) for _ in range(3)]
    others = {f"ghost_{n:08x}": 1000 + n for n in range(1_200)}
    redis_client.zadd(INDEX, others)
    assert set(registry.remove_stale(60)) == set(others)
    assert set(ids(registry.list_all())) == set(ids(agents))


def test_remove_stale_refuses_impossible_ages(registry):
    """A negative, endless or astronomical age is refused before Redis is asked."""
    for value in (-1, float("nan"), float("inf"), 1e12):
        with pytest.raises(InvalidInputError, match="max_age_seconds"):
            registry.remove_stale(value)


def test_remove_stale_and_heartbeat_agree_on_who_won(registry, redis_client):
    """Of a heartbeat and a removal at once, either the agent stays whole or both say it is gone."""
    with ThreadPoolExecutor(2) as pool:
        for _ in range(200):
            agent_id = registry.register("worker", context_capacity=1).agent_id
            age(redis_client, agent_id, 1_000)
            together = threading.Barrier(2)

            def beat(agent_id=agent_id, together=together):
                together.wait()
                try:
                    registry.heartbeat(agent_id)
                except AgentNotFoundError:
                    return False
                return True

            def remove(together=together):
                together.wait()
                return registry.remove_stale(500)

            beaten, removed = pool.submit(beat), pool.submit(remove)
            survived = beaten.result()
            assert removed.result() == ([] if survived else [agent_id])
            assert (registry.find(agent_id) is not None) == survived
            assert bool(redis_client.exists(agent_key(agent_id))) == survived


def test_mark_dead_spares_an_agent_heard_of_since_it_was_found_silent(registry, redis_client):
    """The marking script checks the score again; the sweep's earlier reading does not count."""
    from baton.swarm import registry as module

    agent = registry.register("worker", context_capacity=1)
    age(redis_client, agent.agent_id, 500)
    found = module._SILENT(redis_client, [INDEX], [120_000, "0", 10])
    assert found == [agent.agent_id.encode()]
    registry.heartbeat(agent.agent_id)
    assert module._MARK_DEAD(redis_client, [INDEX], [120_000, *found]) == []
    assert module._FORGET(redis_client, [INDEX], [120_000, *found]) == []
    assert registry.get(agent.agent_id).state == "active"


def test_scripts_answer_a_repeat_with_the_first_answer(registry, redis_client):
    """A client that lost a reply and asks again gets the same answer, and changes nothing."""
    from baton.swarm import registry as module

    agent = registry.register("worker", context_capacity=1)
    age(redis_client, agent.agent_id, 500)
    found = agent.agent_id.encode()
    for script in (module._MARK_DEAD, module._FORGET):
        assert [script(redis_client, [INDEX], [120_000, found]) for _ in range(2)] == [[found]] * 2
    key = agent_key(agent.agent_id)
    operation_id = redis_client.hget(key, "operation_id")
    first = redis_client.hgetall(key)
    repeat = module._RECORD(redis_client, [key], [operation_id, 60_000, "role", "other"])
    assert repeat == first[b"registered_at"]
    assert redis_client.hgetall(key) == first


def test_record_refuses_an_id_that_is_taken(registry, redis_client):
    """Two registrations that drew the same id do not share a record."""
    from baton.swarm import registry as module

    agent = registry.register("worker", context_capacity=1)
    key = agent_key(agent.agent_id)
    before = redis_client.hgetall(key)
    assert module._RECORD(redis_client, [key], ["another", 60_000, "role", "thief"]) is None
    assert redis_client.hgetall(key) == before


def test_enter_drops_entries_whose_records_have_expired(registry, redis_client):
    """The index does not grow for ever, even where nobody calls `remove_stale`."""
    redis_client.zadd(INDEX, {"ghost_00000000": 1_000, "ghost_00000001": -1_000})
    agent = registry.register("worker", context_capacity=1)
    assert redis_client.zrange(INDEX, 0, -1) == [agent.agent_id.encode()]


def test_a_crash_between_the_two_writes_leaves_nothing_visible(registry, redis_client):
    """A record without an index entry, or an entry without a record, is no agent."""
    no_entry = registry.register("worker", context_capacity=1).agent_id
    redis_client.zrem(INDEX, no_entry)
    no_record = registry.register("worker", context_capacity=1).agent_id
    redis_client.delete(agent_key(no_record))
    for agent_id in (no_entry, no_record):
        assert registry.find(agent_id) is None
    assert registry.list_all() == registry.list_active() == []
    with pytest.raises(AgentNotFoundError):
        registry.heartbeat(no_entry)
    age(redis_client, no_record, 100)
    assert registry.remove_stale(60) == [no_record]


def test_retention_expires_what_is_never_heard_of_again(redis_client):
    """Record and index carry the retention as their expiry from the first write on."""
    registry = AgentRegistry(redis_client, retention_seconds=100)
    agent = registry.register("worker", context_capacity=1)
    for key in (INDEX, agent_key(agent.agent_id)):
        assert 90 < redis_client.ttl(key) <= 100


def test_a_hundred_agents_register_and_beat_at_once(registry):
    """Concurrent registrations and heartbeats lose no agent."""
    with ThreadPoolExecutor(20) as pool:
        agents = list(
            pool.map(lambda n: registry.register(f"worker{n}", context_capacity=1), range(100))
        )
        list(pool.map(registry.heartbeat, ids(agents)))
    assert set(ids(registry.list_active())) == set(ids(agents))


def test_scripts_survive_a_server_that_forgot_them(registry, redis_client):
    """After SCRIPT FLUSH, as after a restart, everything still answers."""
    agent = registry.register("worker", context_capacity=1)
    redis_client.script_flush()
    registry.heartbeat(agent.agent_id)
    assert ids(registry.list_active()) == [agent.agent_id]


def test_agent_key_hashes_to_the_slot_of_its_id():
    """On a Cluster an agent's key lies where its id says; no script may reach the index from it."""
    key = agent_key("worker_00000001")
    assert key == "agents:{worker_00000001}"
    assert key_slot(key.encode()) == key_slot(b"worker_00000001")


def test_an_unreachable_server_is_a_transient_error(tmp_path):
    """Every call says which address did not answer, as StoreUnavailableError."""
    client = redis.Redis.from_url(f"unix://{tmp_path}/nobody.sock")
    registry = AgentRegistry(client)
    calls = [
        lambda: registry.register("worker", context_capacity=1),
        lambda: registry.get("worker_00000000"),
        lambda: registry.heartbeat("worker_00000000"),
        registry.list_active,
        registry.list_all,
        registry.sweep_dead,
        lambda: registry.remove_stale(1),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailableError, match=r"nobody\.sock did not answer"):
            call()
    client.close()


def test_a_decoding_client_is_refused(redis_server):
    """The registry reads bytes; a client that decodes them is refused at once."""
    client = redis.Redis.from_url(redis_server.url, decode_responses=True)
    with pytest.raises(InvalidInputError, match="decode_responses"):
        AgentRegistry(client)
    client.close()


def damage(redis_client, agent_id, how):
    key = agent_key(agent_id)
    match how:
        case "newer format":
            redis_client.hset(key, "format", "2")
        case "no role":
            redis_client.hdel(key, "role")
        case "deep metadata":
            redis_client.hset(key, "metadata", '{"a":' * 100_000 + "1" + "}" * 100_000)
        case "no number":
            redis_client.hset(key, "context_capacity", "many")
        case "no hash":
            redis_client.delete(key)
            redis_client.set(key, "text", ex=60)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("newer format", UnsupportedFormatError),
        ("no role", UnexpectedAnswerError),
        ("deep metadata", UnexpectedAnswerError),
        ("no number", UnexpectedAnswerError),
        ("no hash", UnexpectedAnswerError),
    ],
)
def test_a_record_that_cannot_be_read_hides_no_other(registry, redis_client, caplog, how, error):
    """Lists leave it out and log it; asked for by its id it is a typed error."""
    good, bad = (registry.register("worker", context_capacity=1).agent_id for _ in range(2))
    damage(redis_client, bad, how)
    for listed in (registry.list_active, registry.list_all):
        caplog.clear()
        assert ids(listed()) == [good]
        assert [record.args[0] for record in caplog.records] == [bad]
    for call in (registry.get, registry.find):
        with pytest.raises(error):
            call(bad)


def test_metadata_nests_up_to_its_limit(registry):
    """32 levels are read back; one more is refused before anything is written."""
    deep = {"in": []}
    for _ in range(MAX_METADATA_DEPTH - 2):
        deep = {"in": deep}
    assert registry.register("worker", context_capacity=1, metadata=deep).metadata == deep
    for deeper in ({"in": deep}, {"in": [[deep]]}):
        with pytest.raises(InvalidInputError, match=r"metadata: .* 32 levels"):
            registry.register("worker", context_capacity=1, metadata=deeper)


def test_heartbeat_gives_the_agent_as_it_is_then(registry, redis_client):
    """What `get` would read after it."""
    agent_id = registry.register("worker", context_capacity=1).agent_id
    age(redis_client, agent_id, 500)
    registry.sweep_dead()
    beaten = registry.heartbeat(agent_id)
    assert beaten.state == "active"
    assert beaten == registry.get(agent_id)
