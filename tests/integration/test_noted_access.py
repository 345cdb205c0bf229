"""Who read what, and who was refused: every way to a text leaves a note, under an agent's id."""

from __future__ import annotations

import json

import pytest
import redis

from baton.errors import AccessDeniedError, InvalidIdError, SealedError
from baton.key_providers.environment import EnvKeyProvider
from baton.store.contexts import ContextStore
from baton.store.drain import AccessDrain
from baton.store.keys import SessionKeys
from reader_rights import NAME as READER
from reader_rights import PASSWORD, reader_user

# No other test's name: notes of stores that another test left open may arrive late.
NAME = "way"
KEYS = SessionKeys.of(NAME)
PROVIDER = EnvKeyProvider(bytes(range(32)).hex())
LINES = "".join(f"line {number}\n" for number in range(20))


def edited(number: int, text: str) -> str:
    return LINES.replace(f"line {number}\n", f"{text}\n")


@pytest.fixture
def store(redis_client):
    """A store with a sealed session of two versions, a conflict `c`, checkpoint `p` and tag `t`."""
    store = ContextStore(redis_client, key_provider=PROVIDER)
    store.put(NAME, LINES, agent_id="w", sealed=True)
    store.put(NAME, edited(3, "ours"), agent_id="w")
    store.put(NAME, edited(3, "mine"), agent_id="w", base_version="1.0.0", operation_id="c")
    store.checkpoint(NAME, "half way", agent_id="w", byte_position=10, checkpoint_id="p")
    store.tag(NAME, "t", agent_id="w")
    store.fork(NAME, f"{NAME}-target", "1.0.0", agent_id="w")
    yield store
    store.close()


READS = {
    "get": (lambda s, who: s.get(NAME, agent_id=who), ["1.0.1"]),
    "get old": (lambda s, who: s.get(NAME, "1.0.0", agent_id=who), ["1.0.0"]),
    "range": (lambda s, who: s.read_range(NAME, 1, 5, agent_id=who), ["1.0.1"]),
    "chunk": (lambda s, who: s.read_chunk(NAME, 0, agent_id=who), ["1.0.1"]),
    "resume": (lambda s, who: s.resume(NAME, "p", agent_id=who), ["1.0.1"]),
    "diff": (lambda s, who: s.diff(NAME, "1.0.0", "1.0.1", agent_id=who), ["1.0.0", "1.0.1"]),
    "explain": (lambda s, who: s.explain_conflict(NAME, "c", agent_id=who), ["c"]),
    "pending": (lambda s, who: s.pending_content(NAME, "c", agent_id=who), ["c"]),
}
# What reads the session for another one, and is a write there.
TRANSFERS = {
    "fork": (lambda s, who: s.fork(NAME, f"{NAME}-new", "1.0.0", agent_id=who), ["1.0.0"]),
    "merge": (
        lambda s, who: s.merge(
            f"{NAME}-target", NAME, agent_id=who, base_version="1.0.0", source_version="1.0.1"
        ),
        ["1.0.1"],
    ),
}
WRITES = {
    "put": lambda s, who: s.put(NAME, "x", agent_id=who),
    "append": lambda s, who: s.append(NAME, "x", agent_id=who),
    "rollback": lambda s, who: s.rollback(NAME, "1.0.0", agent_id=who),
    "resolve": lambda s, who: s.resolve_conflict(NAME, "c", agent_id=who, take="ours"),
    "tag": lambda s, who: s.tag(NAME, "new", agent_id=who),
    "untag": lambda s, who: s.untag(NAME, "t", agent_id=who),
    "checkpoint": lambda s, who: s.checkpoint(NAME, "x", agent_id=who),
    "pin": lambda s, who: s.pin(NAME, "x", "1.0.0", agent_id=who, seconds=60),
    "unpin": lambda s, who: s.unpin(NAME, "x", agent_id=who),
    "flag": lambda s, who: s.set_flag(NAME, "sensitive", agent_id=who),
    "collect": lambda s, who: s.collect(NAME, agent_id=who),
}


def reads_of(store, client, agent: str) -> list[str]:
    """What the agent read, by the trail: versions, and names of pending writes."""
    store.flush_notes()
    AccessDrain(client, store).drain(NAME)
    return sorted(
        each.version or each.details["conflict"]
        for each in store.show_audit(NAME)
        if (each.operation, each.agent) == ("read", agent)
    )


@pytest.mark.parametrize("way", [*READS, *TRANSFERS])
def test_every_way_to_a_text_leaves_a_note_of_who_read_which_version(store, redis_client, way):
    """In the trail of the session that the text is of."""
    act, versions = (READS | TRANSFERS)[way]
    act(store, "reader")
    assert reads_of(store, redis_client, "reader") == versions


@pytest.mark.parametrize("way", READS)
def test_reader_without_a_name_is_noted_as_anonymous(store, redis_client, way):
    """Nobody reads unseen by not saying who it is."""
    act, versions = READS[way]
    act(store, None)
    assert reads_of(store, redis_client, "") == versions


@pytest.mark.parametrize(
    "agent_id",
    ["bad id\nforged", "a" * 100_000, "", 7, None],
    ids=["newline", "long", "empty", "number", "none"],
)
def test_what_is_no_agent_id_is_refused_before_anything_is_noted(store, redis_client, agent_id):
    """By every method, also where the seal would refuse it next."""
    stranger = ContextStore(redis_client)
    ways = {**WRITES, **{name: act for name, (act, _) in TRANSFERS.items()}}
    if agent_id is not None:
        ways |= {name: act for name, (act, _) in READS.items()}
    store.flush_notes()
    before = redis_client.lrange(KEYS.access, 0, -1), redis_client.lrange(KEYS.audit, 0, -1)
    for each in (stranger, store):
        for act in ways.values():
            with pytest.raises(InvalidIdError, match="agent_id"):
                act(each, agent_id)
        each.flush_notes()
    after = redis_client.lrange(KEYS.access, 0, -1), redis_client.lrange(KEYS.audit, 0, -1)
    assert after == before


@pytest.mark.parametrize("way", ["get", "resume", "diff", "pending", "fork", "tag", "checkpoint"])
def test_whom_the_seal_refuses_is_in_the_trail_by_name(store, redis_client, way):
    """As `denied`, with the reason."""
    act = ({name: act for name, (act, _) in (READS | TRANSFERS).items()} | WRITES)[way]
    stranger = ContextStore(redis_client)
    with pytest.raises(SealedError):
        act(stranger, "stranger")
    stranger.flush_notes()
    AccessDrain(redis_client, store).drain(NAME)
    (denied,) = [each for each in store.show_audit(NAME) if each.operation == "denied"]
    assert (denied.agent, denied.details["reason"]) == ("stranger", "SealedError")


# --- the rights that docs/security.md gives a reader -------------------------------------------

LOOKS = {
    "export": lambda s: b"".join(s.export_envelope(NAME)),
    "history": lambda s: s.history(NAME),
    "show": lambda s: s.show(NAME),
    "tags": lambda s: s.tags(NAME),
    "checkpoints": lambda s: s.checkpoints(NAME),
    "conflicts": lambda s: s.conflicts(NAME),
    "exists": lambda s: s.exists(NAME),
    "resolve_version": lambda s: s.resolve_version(NAME, "1.0.0"),
    "find_version_by": lambda s: s.find_version_by(NAME, "w"),
}


@pytest.fixture
def reader(store, redis_client, redis_server):
    """A store of a user that has the documented rights."""
    with (
        reader_user(redis_client),
        redis.Redis(
            unix_socket_path=str(redis_server.socket), username=READER, password=PASSWORD
        ) as client,
    ):
        reader = ContextStore(client, key_provider=PROVIDER)
        redis_client.acl_log_reset()
        yield reader
        reader.close()


@pytest.mark.parametrize("way", [*READS, *LOOKS])
def test_documented_rights_of_a_reader_suffice_for_every_read(reader, redis_client, way):
    """Redis refuses no command of it, and its note arrives."""
    expected = {"exported"} if way == "export" else set()
    if way in READS:
        expected = {"read"}
        READS[way][0](reader, "reader")
    else:
        LOOKS[way](reader)
    reader.flush_notes()
    noted = {json.loads(raw)["operation"] for raw in redis_client.lrange(KEYS.access, 1, -1)}
    assert expected <= noted
    assert refused_by_redis(redis_client) == set()


def test_writer_that_redis_refuses_is_in_the_log_of_redis(reader, store, redis_client):
    """Not in the trail, which tells what Baton refuses: whom Redis stops can append to nothing."""
    with pytest.raises(AccessDeniedError):
        reader.put(NAME, "x", agent_id="reader", base_version="1.0.1")
    assert refused_by_redis(redis_client) == {READER}
    reader.flush_notes()
    AccessDrain(redis_client, store).drain(NAME)
    assert "denied" not in {each.operation for each in store.show_audit(NAME)}


def refused_by_redis(client: redis.Redis) -> set[str]:
    """Users that lacked a right; clients say their name at first, which no reader needs to."""
    return {each["username"] for each in client.acl_log() if "client" not in each["object"]}
