"""A session leaves Redis for the archive, and comes back as it was."""

from __future__ import annotations

import random

import pytest

from baton import ContextStore
from baton.errors import (
    ContextArchivedError,
    ContextNotFoundError,
    InvalidInputError,
    SessionBusyError,
    SessionExistsError,
    SessionHeldError,
    VersionNotFoundError,
)
from baton.ids import new_operation_id
from baton.key_providers.file import FileKeyProvider
from baton.store.keys import SessionKeys
from baton.store.moves import Copy
from leftover_notes import send_leftover_notes

DAY_MS = 86_400_000
COPY = Copy("shelf1", "1")
TEXT = "".join(f"line {number} {random.Random(number).random()}\n" for number in range(20_000))


@pytest.fixture
def store(redis_client):
    """A store without a cache: what it reads, Redis has. No note of an earlier test comes late."""
    send_leftover_notes()
    made = ContextStore(redis_client)
    yield made
    made.close()


def keys_of(session_id="s"):
    return SessionKeys.of(session_id)


def leave(store, redis_client, session_id="s", which="named"):
    """Archive a session as the archive does: what was kept of it, and its chunks."""
    keys = keys_of(session_id)
    dump = store.moves.dump(keys, which)
    chunks = dict(store.moves.chunks(keys, dump.chunk_sizes))
    assert store.moves.let_go(keys, dump, COPY, "archivist", 90 * DAY_MS) is not None
    return dump, chunks


def come_back(store, dump, chunks, session_id="s", **options):
    options = {"operation_id": new_operation_id(), "sealer": None, **options}
    return store.moves.bring_back(
        dump, keys_of(session_id), COPY, "restorer", fetch=chunks.items, **options
    )


def test_what_is_archived_leaves_a_tombstone(store, redis_client):
    """Only the container and the head's version stay; readers and writers are told where it is."""
    store.put("s", TEXT, agent_id="a")
    leave(store, redis_client)
    left = sorted({*redis_client.scan_iter(match="context:claude_max:{s}*")})
    names = [key.decode().removeprefix("context:claude_max:{s}") for key in left]
    assert [name for name in names if not name.startswith(":audit")] == ["", ":version"]
    for work in (
        lambda: store.get("s"),
        lambda: store.put("s", "x", agent_id="a"),
        lambda: store.tag("s", "t", agent_id="a"),
        lambda: store.delete("s", agent_id="a"),
        lambda: store.history("s"),
        lambda: store.show("s"),
        lambda: store.tags("s"),
        lambda: store.checkpoints("s"),
        lambda: store.resolve_version("s"),
        lambda: store.find_version_by("s", "a"),
        lambda: store.export_envelope("s"),
    ):
        with pytest.raises(ContextArchivedError, match="archive"):
            work()
    assert store.exists("s")
    assert 119 * DAY_MS < redis_client.pttl(keys_of().base) <= 120 * DAY_MS


def test_what_comes_back_is_the_same(store, redis_client):
    """Text, history, tags, checkpoints and metadata are as before; the head is a new version."""
    store.put("s", TEXT, agent_id="a")
    store.tag("s", "first", agent_id="a")
    store.put("s", TEXT + "dropped", agent_id="b")
    store.put("s", "b" + TEXT, agent_id="b")
    made = store.checkpoint("s", "half", agent_id="b", byte_position=7)
    before = store.history("s")
    store.put("s", "c" + TEXT, agent_id="c")
    dump, chunks = leave(store, redis_client)
    restored = come_back(store, dump, chunks)

    assert restored.version == "1.0.4"
    assert store.get("s").content == "c" + TEXT
    assert store.get("s", "1.0.0").content == TEXT
    assert store.tags("s") == {"first": "1.0.0"}
    assert store.checkpoints("s") == [made]
    assert store.resume("s", made.checkpoint_id).content == ("b" + TEXT)[7:]
    history = store.history("s")
    assert [each.version for each in history] == ["1.0.4", "1.0.3", "1.0.2", "1.0.1", "1.0.0"]
    assert history[2:] == before
    assert (history[0].operation, history[0].source) == ("restore", "s@1.0.3")
    assert [each.version for each in store.history("s", 4)][-1] == "1.0.1"
    with pytest.raises(VersionNotFoundError):
        store.get("s", "1.0.1")
    assert store.put("s", "d", agent_id="c", base_version="1.0.4").version == "1.0.5"


def test_a_sealed_session_comes_back_sealed(redis_client, tmp_path):
    """Its chunks leave and return as they are; its data key comes with them."""
    store = ContextStore(redis_client, key_provider=FileKeyProvider.create(tmp_path / "keys"))
    store.put("s", TEXT, agent_id="a", sealed=True)
    dump, chunks = leave(store, redis_client)
    sealer = store._parts.reader.kept_sealer("s", dump.container["data_key"])
    come_back(store, dump, chunks, sealer=sealer)
    again = ContextStore(redis_client, key_provider=FileKeyProvider(tmp_path / "keys"))
    assert again.get("s").content == TEXT
    store.close()
    again.close()


@pytest.mark.parametrize("what", ["write", "tag", "note", "read"])
def test_a_session_that_was_touched_stays(store, redis_client, what, notes_wait):
    """What happens between the copy and the deletion keeps the session hot and whole."""
    store.put("s", TEXT, agent_id="a")
    dump = store.moves.dump(keys_of(), "named")
    match what:
        case "write":
            store.put("s", TEXT + "more", agent_id="a")
        case "tag":
            store.tag("s", "t", agent_id="a")
        case "note":
            store.get("s", agent_id="r")
            store.flush_notes()
        case "read":
            redis_client.hset(keys_of().metadata, "last_accessed_at", "1")
    assert store.moves.let_go(keys_of(), dump, COPY, "archivist", DAY_MS) is None
    assert store.get("s").content.startswith(TEXT)


def test_a_letting_go_that_died_is_finished(store, redis_client, monkeypatch):
    """More chunks than one script drops: the next call goes on, and a restore waits for it."""
    store.put("s", TEXT, agent_id="a")
    redis_client.hset(keys_of().base, "next_chunk", "1200")
    keys = keys_of()
    dump = store.moves.dump(keys, "head")
    chunks = dict(store.moves.chunks(keys, dump.chunk_sizes))

    class DiedError(Exception):
        pass

    def die(_name):
        raise DiedError

    with monkeypatch.context() as patch:
        patch.setattr("baton.store.moves.reach", die)
        with pytest.raises(DiedError):
            store.moves.let_go(keys, dump, COPY, "archivist", DAY_MS)
    with pytest.raises(ContextArchivedError):
        store.get("s")
    with pytest.raises(SessionBusyError, match="leaving"):
        come_back(store, dump, chunks)
    assert store.moves.finish_letting_go(keys, COPY, "archivist") is not None
    assert not list(redis_client.scan_iter(match="*:chunks:*"))
    come_back(store, dump, chunks)
    assert store.get("s").content == TEXT


def test_a_restore_asked_twice_is_one(store, redis_client):
    """Under one operation id the second answer is the first; under another the session is here."""
    store.put("s", TEXT, agent_id="a")
    dump, chunks = leave(store, redis_client)
    first = come_back(store, dump, chunks, operation_id="ab")
    second = come_back(store, dump, chunks, operation_id="ab")
    assert (second.version, second.etag, second.was_here) == (first.version, first.etag, True)
    with pytest.raises(SessionExistsError):
        come_back(store, dump, chunks)
    assert len(store.history("s")) == 2


def test_a_restore_after_redis_was_wiped(store, redis_client):
    """The dump and the chunks are enough: no tombstone is needed."""
    store.put("s", TEXT, agent_id="a")
    dump, chunks = leave(store, redis_client)
    redis_client.flushall()
    come_back(store, dump, chunks)
    assert store.get("s").content == TEXT


def test_what_is_needed_is_not_dumped(store, redis_client):
    """A pin, as an open handoff has one, and a pending write keep a session from the archive."""
    store.put("s", "a\nb\n", agent_id="a")
    store.pin("s", "handoff_1", "1.0.0", agent_id="a", seconds=60)
    with pytest.raises(SessionBusyError, match="handoff_1"):
        store.moves.dump(keys_of(), "head")
    store.unpin("s", "handoff_1", agent_id="a")
    store.put("s", "x\nb\n", agent_id="a", base_version="1.0.0")
    waiting = store.put("s", "y\nb\n", agent_id="a", base_version="1.0.0")
    with pytest.raises(SessionBusyError, match=waiting.conflict_id):
        store.moves.dump(keys_of(), "head")


def test_under_hold_nothing_expires_and_nothing_is_deleted(store, redis_client):
    """Every key loses its expiry, those written later too; a release gives all of them one."""
    store.put("s", TEXT, agent_id="a")
    assert store.moves.hold(keys_of(), "case 7", "counsel")
    assert not store.moves.hold(keys_of(), "case 7", "counsel")
    store.put("s", TEXT + "more", agent_id="a")
    store.tag("s", "t", agent_id="a")
    store.refresh_expiry("s")
    own = [key for key in redis_client.scan_iter(match="*{s}*") if b":audit" not in key]
    assert len(own) > 8
    assert {redis_client.pttl(key) for key in own} == {-1}
    with pytest.raises(SessionHeldError):
        store.delete("s", agent_id="a")
    assert store.moves.release(keys_of(), "counsel")
    assert not store.moves.release(keys_of(), "counsel")
    assert all(redis_client.pttl(key) > 0 for key in redis_client.scan_iter(match="*{s}*"))
    store.delete("s", agent_id="a")


def test_a_hold_goes_with_the_session(store, redis_client):
    """A held session's tombstone does not expire, is not buried, and comes back held."""
    store.put("s", TEXT, agent_id="a")
    store.moves.hold(keys_of(), "case 7", "counsel")
    dump, chunks = leave(store, redis_client)
    assert redis_client.pttl(keys_of().base) == -1
    with pytest.raises(SessionHeldError):
        store.moves.bury(keys_of(), COPY.shelf, "archivist", {})
    come_back(store, dump, chunks)
    assert redis_client.hget(keys_of().base, "hold") == b"case 7"
    assert redis_client.pttl(keys_of().base) == -1
    store.moves.release(keys_of(), "counsel")


def test_a_burial_leaves_the_receipt(store, redis_client):
    """The tombstone goes, the audit tells of the erasure once; the name is free again."""
    store.put("s", TEXT, agent_id="a")
    leave(store, redis_client)
    assert store.moves.bury(keys_of(), COPY.shelf, "archivist", {"segments": 3})
    assert not store.moves.bury(keys_of(), COPY.shelf, "archivist", {"segments": 3})
    with pytest.raises(ContextNotFoundError):
        store.get("s")
    operations = [(each.operation, dict(each.details)) for each in store.show_audit("s")]
    assert operations[0] == ("purged", {"segments": 3})
    assert [name for name, _ in operations].count("purged") == 1
    assert store.put("s", "new", agent_id="a").version == "1.0.0"


@pytest.mark.parametrize("reason", ["", " ", "two\nlines", "x" * 201, None])
def test_a_hold_needs_a_reason(store, reason):
    """A reason is a line that can be shown."""
    store.put("s", "text", agent_id="a")
    with pytest.raises(InvalidInputError, match="reason"):
        store.moves.hold(keys_of(), reason, "counsel")
