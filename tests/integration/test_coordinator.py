"""What a coordinator remembers: whose write rests on which version, by decision 0005."""

from __future__ import annotations

import pytest

from baton import ClientSettings, RedisSwarmCoordinator
from baton.errors import AgentNotFoundError, InvalidInputError
from baton.store.contexts import ContextStore


@pytest.fixture
def swarm(redis_server, redis_client):
    with RedisSwarmCoordinator(redis_url=redis_server.url) as swarm:
        yield swarm


@pytest.fixture
def elsewhere(redis_server, swarm):
    """A coordinator of another process, as it were."""
    with RedisSwarmCoordinator(redis_url=redis_server.url) as other:
        yield other


@pytest.fixture
def sonnet(swarm):
    """An agent whose session has a context."""
    sonnet = swarm.register_agent("sonnet_coordinator", 1000)
    swarm.update_context("v1", sonnet)
    return sonnet


@pytest.fixture
def haikus(swarm, sonnet):
    """Two agents of Sonnet's session that have read and written nothing."""
    return [swarm.register_agent("haiku_worker", 1000, parent_id=sonnet) for _ in range(2)]


def actions(swarm, *writes):
    return [swarm.update_context(text, agent_id).action for agent_id, text in writes]


@pytest.mark.parametrize("by_own_id", [True, False])
def test_two_agents_that_read_one_version_do_not_both_write_on_it(swarm, sonnet, haikus, by_own_id):
    """The second has to be merged, however often it tries and whatever others read meanwhile."""
    a, b = haikus
    for reader in haikus:
        swarm.get_context(reader if by_own_id else sonnet)
    assert actions(swarm, (a, "a on v1"), (b, "b on v1"), (b, "b on v1")) == [
        "accepted", "merge_required", "merge_required",
    ]  # fmt: skip
    swarm.get_context(a)
    assert actions(swarm, (b, "b on v1")) == ["merge_required"]
    assert swarm.get_head(sonnet) == "a on v1"


def test_a_look_at_another_agents_result_does_not_move_a_base(swarm, sonnet, haikus):
    """Sonnet looks at what A wrote, and at B, which wrote nothing yet: B's base stays v1."""
    a, b = haikus
    for reader in haikus:
        swarm.get_context(reader)
    assert actions(swarm, (a, "a on v1")) == ["accepted"]
    assert [swarm.get_context(a), swarm.get_context(b)] == ["a on v1", "a on v1"]
    assert actions(swarm, (b, "b on v1")) == ["merge_required"]


def test_of_two_reads_that_name_no_reader_the_older_counts(swarm, elsewhere, sonnet, haikus):
    """Either may be the one that the text rests on."""
    _, b = haikus
    swarm.get_context(sonnet)
    elsewhere.get_context(sonnet)
    assert actions(elsewhere, (sonnet, "v2")) == ["accepted"]
    assert swarm.get_context(sonnet) == "v2"
    assert actions(swarm, (b, "b on v1")) == ["merge_required"]


def test_a_named_reader_writes_on_what_it_was_given(swarm, sonnet, haikus):
    """Agents hand one context to and fro, each reading the other's by name; none conflicts."""
    a, b = haikus
    swarm.get_context(sonnet, reader_id=a)
    swarm.update_context("1", a)
    for number in range(2, 6):
        reader, other = (b, a) if number % 2 == 0 else (a, b)
        text = swarm.get_context(other, reader_id=reader)
        assert actions(swarm, (reader, f"{text} {number}")) == ["accepted"]
    assert swarm.get_head(sonnet) == "1 2 3 4 5"


def test_a_named_read_moves_no_other_base(swarm, sonnet, haikus):
    """Sonnet may follow A's work as closely as it likes."""
    a, b = haikus
    swarm.get_head(b)
    swarm.get_head(a)
    swarm.update_context("a on v1", a)
    assert swarm.get_context(b, reader_id=sonnet) == "a on v1"
    assert actions(swarm, (b, "b on v1"), (sonnet, "sonnet on a")) == ["merge_required", "accepted"]


def test_writer_whose_own_version_is_old_gets_on_by_the_head(swarm, elsewhere, sonnet, haikus):
    """`get_context` gives Sonnet its own version, which is no base any more; `get_head` is."""
    elsewhere.get_head(haikus[0])
    elsewhere.update_context("v2", haikus[0])
    assert actions(swarm, (sonnet, "v1+")) == ["merge_required"]
    assert swarm.get_context(sonnet) == "v1"
    assert actions(swarm, (sonnet, "v1+")) == ["merge_required"]
    assert swarm.get_head(sonnet) == "v2"
    assert actions(swarm, (sonnet, "v2+")) == ["accepted"]


@pytest.mark.parametrize("named", [True, False])
def test_reading_an_older_version_moves_the_base_back(swarm, elsewhere, sonnet, haikus, named):
    """A text written on v1 after the head was seen would overwrite what lies between."""
    elsewhere.get_head(haikus[0])
    elsewhere.update_context("v2", haikus[0])
    assert swarm.get_head(sonnet) == "v2"
    assert swarm.get_context(sonnet, reader_id=sonnet if named else None) == "v1"
    assert actions(swarm, (sonnet, "v1+")) == ["merge_required"]


def test_second_agent_that_reads_its_context_again_gets_on(swarm, elsewhere, sonnet, haikus):
    """An agent that wrote nothing is given the head, and its older read is settled."""
    a, b = haikus
    swarm.get_context(b)
    elsewhere.get_context(a)
    elsewhere.update_context("v2", a)
    assert actions(swarm, (b, "v1 b")) == ["merge_required"]
    assert swarm.get_context(b) == "v2"
    assert actions(swarm, (b, "v2 b")) == ["accepted"]


def test_reader_of_another_session_takes_no_base_from_it(swarm, sonnet):
    """Versions of two sessions have nothing to do with each other."""
    stranger = swarm.register_agent("monitor", 1000)
    assert swarm.get_context(sonnet, reader_id=stranger) == "v1"
    assert actions(swarm, (stranger, "mine"), (stranger, "mine 2")) == ["accepted", "accepted"]
    assert [record.version for record in swarm.history(stranger)] == ["1.0.1", "1.0.0"]


def test_unknown_reader_is_refused(swarm, sonnet):
    """Before anything is read."""
    with pytest.raises(AgentNotFoundError, match="haiku_worker_00000000"):
        swarm.get_context(sonnet, reader_id="haiku_worker_00000000")


def test_agent_cleaned_up_during_its_write_is_told_what_became_of_it(swarm, sonnet, monkeypatch):
    """The write is committed, so it is not an error; the heartbeat came first."""
    session_id = swarm.session_of(sonnet)
    put = ContextStore.put

    def put_while_cleaned_up(self, *args, **options):
        swarm.redis.delete("agents:index")
        return put(self, *args, **options)

    monkeypatch.setattr(ContextStore, "put", put_while_cleaned_up)
    assert swarm.update_context("v2", sonnet).version == "1.0.1"
    with pytest.raises(AgentNotFoundError):
        swarm.update_context("v3", sonnet)
    assert swarm.store.get(session_id).content == "v2"


@pytest.mark.parametrize("host", ["::1", "[::1]", "localhost", "127.0.0.1"])
def test_host_may_be_an_ipv6_address(host):
    """It stands in brackets in a URL, and is an address without them."""
    with RedisSwarmCoordinator(redis_host=host, redis_port=6390) as swarm:
        where = swarm.redis.get_connection_kwargs()
    assert (where["host"], where["port"]) == (host.strip("[]"), 6390)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"redis_host": "::one"}, "redis_host"), ({"redis_url": "http://localhost"}, "redis_url")],
)
def test_wrong_address_is_named_by_its_argument(arguments, field):
    """Not by an environment variable that nobody set."""
    with pytest.raises(InvalidInputError) as caught:
        RedisSwarmCoordinator(**arguments)
    assert caught.value.field == field


def test_wrong_address_of_the_environment_is_named_by_its_variable(monkeypatch):
    """BATON_REDIS_URL."""
    monkeypatch.setenv("BATON_REDIS_URL", "http://localhost")
    with pytest.raises(InvalidInputError, match=r"^BATON_REDIS_URL: "):
        RedisSwarmCoordinator.from_environment()
    settings = ClientSettings(redis_url="http://localhost")
    with pytest.raises(InvalidInputError, match=r"^BATON_REDIS_URL: "):
        RedisSwarmCoordinator(redis_url="http://localhost", settings=settings)
