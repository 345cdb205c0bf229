"""Sessions go to the archive, are found there by meaning, and come back byte for byte."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from archive_bench import FACTS, QUESTIONS, ArchiveBench, essay
from baton.archive import searching
from baton.archive.opening import open_archive
from baton.archive.requests import WAITING, Request, RequestDesk, perform_waiting
from baton.archive.searching import Filters
from baton.errors import (
    ArchiveBusyError,
    ColdStoreCorruptError,
    ContextArchivedError,
    ContextNotFoundError,
    EmbedderUnavailableError,
    IndexUnavailableError,
    InvalidInputError,
    SessionBusyError,
    SessionExistsError,
    SessionHeldError,
)
from baton.key_providers.file import FileKeyProvider
from baton.store.keys import SessionKeys

# What differs between servers is tested where sessions move (test_session_moves.py).
pytestmark = pytest.mark.parametrize("redis_server", ["system"], indirect=True)

SECRET = "AKIAIOSFODNN7EXAMPLE"  # noqa: S105  # of no account
TEXT = f"{essay(600)}\n{FACTS[0]}\n{essay(600)}\naws_access_key_id = {SECRET}\n{essay(60)}"


@pytest.fixture
def make_bench(redis_client, tmp_path, embedder):
    """Makes archives over the test's Redis."""
    benches = []

    def make(*, model=embedder, **settings):
        benches.append(ArchiveBench(redis_client, tmp_path, model, **settings))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(make_bench):
    return make_bench()


def test_archive_search_restore(bench, notes_wait):
    """The whole way: archived, found in other words, restored to the byte, archived again."""
    bench.store.put("s", TEXT, agent_id="a")
    bench.store.put("t", f"{essay(300)} {FACTS[1]} {essay(300)}", agent_id="b")
    first = bench.archive.archive("s")
    assert (first.outcome, first.version, first.index_state) == ("archived", "1.0.0", "indexed")
    assert first.embedded == first.passages > 3
    bench.archive.archive("t")
    with pytest.raises(ContextArchivedError, match="baton archive restore s"):
        bench.store.get("s")

    for question, fact, session in zip(QUESTIONS, FACTS, ("s", "t"), strict=False):
        hit = bench.archive.search(question, limit=1)[0]
        assert fact in hit.snippet
        assert (hit.session_id, hit.version) == (session, "1.0.0")
        if session == "s":
            stored = TEXT.encode()[hit.start_byte : hit.end_byte].decode()
            assert stored.strip() == hit.snippet

    restored = bench.archive.restore("s")
    assert restored.version == "1.0.1"
    assert bench.store.get("s").content == TEXT
    assert [each.version for each in bench.store.history("s")] == ["1.0.1", "1.0.0"]
    assert {hit.session_id for hit in bench.archive.search(QUESTIONS[0])} == {"t"}

    again = bench.archive.archive("s")
    assert (again.outcome, again.stored_bytes, again.embedded) == ("archived", 0, 0)
    assert bench.archive.verify() == {}


def test_an_edit_costs_what_it_changed(bench, notes_wait):
    """Archived again after a small edit, only new chunks are stored and few passages embedded."""
    text = essay(6_000)
    bench.store.put("s", text, agent_id="a")
    first = bench.archive.archive("s")
    bench.archive.restore("s")
    middle = text.index("\n\n", len(text) // 2)
    bench.store.put("s", f"{text[:middle]} {FACTS[2]}{text[middle:]}", agent_id="a")
    second = bench.archive.archive("s")
    assert 0 < second.embedded <= max(3, first.passages // 8)
    assert 0 < second.stored_bytes < first.stored_bytes
    assert FACTS[2] in bench.archive.search(QUESTIONS[2], limit=1)[0].snippet


def test_what_redis_lost_comes_back(bench, redis_client):
    """With Redis wiped, every archived session still restores, tags and checkpoints included."""
    bench.store.put("s", TEXT, agent_id="a", metadata={"team": "blue"})
    bench.store.tag("s", "first", agent_id="a")
    bench.store.put("s", TEXT + "more", agent_id="a")
    bench.archive.archive("s")
    redis_client.flushall()
    assert bench.archive.search(QUESTIONS[0], limit=1)[0].session_id == "s"
    bench.archive.restore("s")
    found = bench.store.get("s")
    assert (found.content, found.metadata) == (TEXT + "more", {"team": "blue"})
    assert bench.store.get("s", "1.0.0").content == TEXT
    assert bench.store.tags("s") == {"first": "1.0.0"}


def test_nothing_secret_is_searchable(bench):
    """What is redacted is in no snippet and in no file; the original comes back."""
    bench.store.put("s", TEXT, agent_id="a")
    bench.archive.archive("s")
    hits = bench.archive.search("the access key of the cloud account", limit=20)
    assert any("[REDACTED" in hit.snippet for hit in hits)
    assert not any(SECRET in hit.snippet for hit in hits)
    files = bench.files()
    assert SECRET.encode() not in files
    assert FACTS[0].encode() not in files
    bench.archive.restore("s")
    assert bench.store.get("s").content == TEXT


def test_a_purge_leaves_nothing(bench, redis_client):
    """No text, no data key, no row, no tombstone; the receipt is in the audit, and asked again."""
    bench.store.put("s", TEXT, agent_id="a")
    bench.archive.archive("s")
    (record,) = bench.archive.ledger.of_session("s")
    wrapped = record.wrapped_key.encode()
    assert wrapped in bench.files()
    (receipt,) = bench.archive.purge("s", agent_id="admin")
    assert bench.archive.purge("s", agent_id="admin") == [receipt]
    files = bench.files()
    assert wrapped not in files
    assert FACTS[0].encode() not in files
    assert bench.archive.totals().states == {}
    assert bench.archive.check_index().healthy
    assert bench.archive.check_index().rows == 0
    assert bench.archive.search(QUESTIONS[0]) == []
    with pytest.raises(ContextNotFoundError):
        bench.archive.restore("s")
    with pytest.raises(ContextNotFoundError):
        bench.store.get("s")
    (purged, *_) = bench.store.show_audit("s")
    assert (purged.operation, purged.details["shelf"]) == ("purged", record.shelf)
    assert redis_client.exists(SessionKeys.of("s").base) == 0


def test_a_sealed_session_is_archived_unread(redis_client, make_bench, tmp_path, notes_wait):
    """It is not searchable unless a setting says so, and comes back sealed."""
    keys = FileKeyProvider.create(tmp_path / "keys")
    bench = make_bench(key_file=keys.path)
    bench.store.put("s", TEXT, agent_id="a", sealed=True, metadata={"client": "acme"})
    assert bench.archive.archive("s").index_state == "withheld"
    assert bench.archive.search(QUESTIONS[0]) == []
    assert b"acme" not in bench.files()
    keys.add_key()
    assert bench.archive.rewrap_keys().rewrapped == 1
    redis_client.flushall()
    bench.archive.restore("s")
    assert bench.store.get("s").content == TEXT
    bench.reopen(archive_index_sensitive=True)
    assert bench.archive.archive("s").index_state == "indexed"
    assert bench.archive.search(QUESTIONS[0], limit=1)[0].session_id == "s"


def test_a_sensitive_session_is_not_searchable(bench):
    """The flag is enough."""
    bench.store.put("s", TEXT, agent_id="a")
    bench.store.set_flag("s", "sensitive", agent_id="a")
    assert bench.archive.archive("s").index_state == "withheld"
    assert bench.archive.search(QUESTIONS[0]) == []


def test_a_session_that_becomes_sensitive_leaves_the_index(bench, notes_wait):
    """Archived searchable before, withheld now: no row of it is left."""
    bench.store.put("s", TEXT, agent_id="a")
    assert bench.archive.archive("s").index_state == "indexed"
    bench.archive.restore("s")
    bench.store.set_flag("s", "sensitive", agent_id="a")
    assert bench.archive.archive("s").index_state == "withheld"
    assert bench.archive.check_index().rows == 0


def test_search_is_narrowed(bench):
    """By session, agent, time and metadata; what does not fit is not found."""
    bench.store.put("s", f"{FACTS[0]} {essay(60)}", agent_id="a", metadata={"team": "blue", "n": 3})
    bench.store.put("t", f"{FACTS[0]} {essay(60, 'b')}", agent_id="b", metadata={"team": "red"})
    for session in ("s", "t"):
        bench.archive.archive(session)
    now = datetime.now(UTC)

    def found(**given):
        hits = bench.archive.search(QUESTIONS[0], filters=Filters(**given))
        return {hit.session_id for hit in hits}

    assert found() == {"s", "t"}
    assert found(session_id="t") == {"t"}
    assert found(agent="a") == {"s"}
    assert found(metadata={"team": "red"}) == {"t"}
    assert found(metadata={"team": "blue", "n": 3}) == {"s"}
    assert found(metadata={"n": "4"}) == set()
    assert found(since=now - timedelta(hours=1)) == {"s", "t"}
    assert found(until=now - timedelta(hours=1)) == set()
    assert found(agent="nobody") == set()
    with pytest.raises(InvalidInputError, match="time zone"):
        found(since=now.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("question", "limit"), [("", 1), (" ", 1), ("x" * 10_001, 1), ("x", 0), ("x", 101), (3, 1)]
)
def test_a_search_that_is_none(bench, question, limit):
    """A question is text of some length, a limit a small number."""
    with pytest.raises(InvalidInputError):
        bench.archive.search(question, limit=limit)


def test_a_session_in_use_stays(bench, monkeypatch, notes_wait):
    """Written while it is being archived: it stays hot and whole, and goes the next time."""
    bench.store.put("s", TEXT, agent_id="a")
    monkeypatch.setattr(
        "baton.archive.archivist.reach",
        lambda name: (
            bench.store.put("s", TEXT + "new", agent_id="b") if name == "archive.recorded" else None
        ),
    )
    kept = bench.archive.archive("s")
    assert (kept.outcome, kept.purge_at) == ("kept", None)
    assert bench.store.get("s").content == TEXT + "new"
    bench.store.flush_notes()
    monkeypatch.undo()
    assert bench.archive.archive("s").outcome == "archived"
    bench.archive.restore("s")
    assert bench.store.get("s").content == TEXT + "new"


def test_a_session_that_is_needed_is_not_archived(bench):
    """An open handoff's pin keeps it."""
    bench.store.put("s", TEXT, agent_id="a")
    bench.store.pin("s", "handoff_1", "1.0.0", agent_id="a", seconds=60)
    with pytest.raises(SessionBusyError):
        bench.archive.archive("s")
    assert bench.store.get("s").content == TEXT


def test_under_hold_nothing_is_purged(bench, redis_client, notes_wait):
    """Placed in Redis or on an archived session, with Redis wiped too; a release ends it."""
    bench.store.put("s", TEXT, agent_id="a")
    bench.archive.archive("s")
    assert bench.archive.hold("s", "case 7", agent_id="counsel")
    with pytest.raises(SessionHeldError, match="case 7"):
        bench.archive.purge("s")
    redis_client.flushall()
    with pytest.raises(SessionHeldError, match="case 7"):
        bench.archive.purge("s")
    bench.archive.restore("s")
    with pytest.raises(SessionHeldError):
        bench.store.delete("s", agent_id="a")
    assert bench.archive.release("s", agent_id="counsel")
    assert not bench.archive.release("s", agent_id="counsel")
    bench.archive.archive("s")
    bench.archive.purge("s")


def test_what_is_due_is_purged(make_bench):
    """After its time, and not before; never what is held; none while a clock may have jumped."""
    bench = make_bench(lifecycle_keep_seconds=0.001)
    for session in ("s", "held"):
        bench.store.put(session, essay(30), agent_id="a")
        bench.archive.archive(session)
    bench.archive.hold("held", "case 7", agent_id="counsel")
    assert bench.archive.purge_due(10) == 1
    assert [each.session for each in bench.archive.archived()] == ["held"]
    bench.archive.release("held", agent_id="counsel")
    bench.archive.ledger.set_fact("purge_seen_at_ms", "1")
    assert bench.archive.purge_due(10) == 0
    assert bench.archive.purge_paused_until_ms() > 0
    bench.archive.ledger.set_fact("purge_paused_until_ms", "0")
    assert bench.archive.purge_due(10) == 1


def test_the_archive_is_one_processs(bench):
    """A second one is refused, and told who has it."""
    bench.store.put("s", essay(30), agent_id="a")
    bench.archive.archive("s")
    with pytest.raises(ArchiveBusyError, match="process"):
        open_archive(bench.settings, bench.client, bench.store)


def test_a_damaged_segment_is_not_served(bench):
    """One bit of a sealed segment: restore and verify say so, and restore nothing."""
    bench.store.put("s", TEXT, agent_id="a")
    bench.archive.archive("s")
    bench.close_archive()
    with sqlite3.connect(bench.folder / "archive" / "segments.sqlite") as file:
        for name, sealed in file.execute("SELECT name, sealed FROM segments").fetchall():
            changed = bytes([*sealed[:-1], sealed[-1] ^ 1])
            file.execute("UPDATE segments SET sealed = ? WHERE name = ?", (changed, name))
    file.close()
    with pytest.raises(ColdStoreCorruptError):
        bench.archive.restore("s")
    assert "s" in bench.archive.verify()
    assert bench.state("s") == "archived"


def test_a_damaged_ledger_is_an_error(bench):
    """A file that is no database is named; what is in Redis stays there."""
    bench.store.put("s", TEXT, agent_id="a")
    (bench.folder / "archive").mkdir(mode=0o700)
    (bench.folder / "archive" / "ledger.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(ColdStoreCorruptError, match=r"ledger\.sqlite"):
        bench.archive.archive("s")
    assert bench.store.get("s").content == TEXT


def test_words_find_what_vectors_do_not(bench, monkeypatch):
    """A name among words of another meaning: its passage is no neighbour of the question."""
    fact = FACTS[0].replace("the pump house", "Szczepanski and Ferrante")
    bench.store.put("s", TEXT.replace(FACTS[0], fact), agent_id="a")
    bench.archive.archive("s")
    question = (
        "Which letters did our reviewer and the orchestra postpone for Szczepanski and Ferrante?"
    )
    monkeypatch.setattr(searching, "MIN_CANDIDATES", 3)
    monkeypatch.setattr(searching, "CANDIDATES_PER_HIT", 1)
    assert fact in bench.archive.search(question, limit=1)[0].snippet
    monkeypatch.setattr(searching, "WORDED_CANDIDATES", 0)
    assert not any(fact in hit.snippet for hit in bench.archive.search(question, limit=3))


def test_a_new_rule_is_applied_to_what_did_not_change(bench, notes_wait):
    """Archived again with the same contents, the session is redacted by the rules of now."""
    bench.store.put("s", TEXT, agent_id="a")
    bench.archive.archive("s")
    assert "third barrel" in bench.archive.search(QUESTIONS[0], limit=1)[0].snippet
    bench.archive.restore("s")
    bench.reopen(redaction_rules={"hiding_place": "third barrel"})
    assert bench.archive.archive("s").embedded > 0
    hits = bench.archive.search(QUESTIONS[0], limit=20)
    assert "[REDACTED_HIDING_PLACE]" in hits[0].snippet
    assert not any("third barrel" in hit.snippet for hit in hits)


def test_lost_words_are_told_and_made_anew(bench):
    """Verifying finds that they are gone, a search says so, reindexing brings them back."""
    bench.store.put("s", TEXT, agent_id="a")
    bench.archive.archive("s")
    (record,) = bench.archive.ledger.of_session("s")
    words = bench.archive._shelves.passages(record).words
    bench.archive._shelves.segments.delete(record.shelf, [words])
    assert words.hex() in bench.archive.verify()["s"]
    with pytest.raises(ColdStoreCorruptError, match=words.hex()):
        bench.archive.search(QUESTIONS[0])
    bench.archive.index_session("s")
    assert bench.archive.verify() == {}
    assert FACTS[0] in bench.archive.search(QUESTIONS[0], limit=1)[0].snippet


def test_an_empty_archive_needs_no_model(make_bench, tmp_path):
    """There is nothing to find; what is asked is checked all the same."""
    bench = make_bench(model=None, embedding_model=str(tmp_path / "no-model"))
    assert bench.archive.search("anything") == []
    with pytest.raises(InvalidInputError):
        bench.archive.search(" ")


def test_others_are_answered_while_a_session_is_embedded(bench, redis_client):
    """Searches and restores between batches; not a restore of the session itself, nor a purge."""
    bench.store.put("t", f"{essay(300)} {FACTS[1]} {essay(300)}", agent_id="b")
    bench.archive.archive("t")
    bench.store.put("s", essay(6_000), agent_id="a")
    desk = RequestDesk(redis_client)
    asked = {
        kind: desk.leave(Request(kind, "a", fields))
        for kind, fields in (
            ("purge", {"session_id": "t"}),
            ("search", {"question": QUESTIONS[1]}),
            ("restore", {"session_id": "t"}),
        )
    }
    own = desk.leave(Request("restore", "a", {"session_id": "s"}))
    bench.archive.serve_meanwhile(lambda: perform_waiting(bench.archive, desk))

    assert bench.archive.archive("s").outcome == "archived"
    assert FACTS[1] in desk.wait(asked["search"], 5)[0]["snippet"]
    assert desk.wait(asked["restore"], 5)["session_id"] == "t"
    assert FACTS[1] in bench.store.get("t").content
    assert desk.take(asked["search"]) is None
    assert desk.take(asked["purge"]) is not None
    assert desk.take(own) is not None
    assert not redis_client.exists(WAITING)
    assert bench.archive.busy_with is None


@pytest.mark.parametrize("fields", [{"question": "anything"}, {}])
def test_who_cannot_be_answered_meanwhile_does_not_stop_it(
    bench, redis_client, monkeypatch, fields
):
    """A request that fails amid another's archiving, or is none, is left to its message."""
    bench.store.put("t", essay(60), agent_id="b")
    bench.archive.archive("t")
    bench.store.put("s", essay(6_000), agent_id="a")
    desk = RequestDesk(redis_client)
    asked = desk.leave(Request("search", "a", fields))

    def fail(*_, **__):
        raise IndexUnavailableError("no answer")

    monkeypatch.setattr(bench.archive._search, "search", fail)
    bench.archive.serve_meanwhile(lambda: perform_waiting(bench.archive, desk))
    assert bench.archive.archive("s").outcome == "archived"
    assert desk.take(asked) is not None


def test_the_index_is_made_anew(bench):
    """Gone as a whole, it is rebuilt from the cold store."""
    bench.store.put("s", TEXT, agent_id="a")
    bench.archive.archive("s")
    (record,) = bench.archive.ledger.of_session("s")
    bench.archive._index.delete_shelf(record.shelf)
    assert "s" in bench.archive.verify()
    assert bench.archive.rebuild_index() == 1
    assert bench.archive.verify() == {}
    assert FACTS[0] in bench.archive.search(QUESTIONS[0], limit=1)[0].snippet


def test_without_a_model_nothing_is_archived(make_bench, tmp_path, notes_wait):
    """Unless a setting lets content go first; it becomes searchable when the model is there."""
    missing = str(tmp_path / "no-model")
    bench = make_bench(model=None, embedding_model=missing)
    bench.store.put("s", TEXT, agent_id="a")
    with pytest.raises(EmbedderUnavailableError):
        bench.archive.archive("s")
    assert bench.store.get("s").content == TEXT
    bench.store.flush_notes()
    bench.reopen(archive_index_later=True)
    assert bench.archive.archive("s").index_state == "waiting"
    bench.reopen(embedding_model=None)
    assert bench.archive.index_waiting(10) == 1
    assert FACTS[0] in bench.archive.search(QUESTIONS[0], limit=1)[0].snippet


def test_a_restore_needs_an_archived_session(bench, notes_wait):
    """One that is here, or nowhere, is an error that says so."""
    with pytest.raises(ContextNotFoundError):
        bench.archive.restore("s")
    bench.store.put("s", essay(30), agent_id="a")
    bench.archive.archive("s")
    bench.archive.restore("s")
    bench.store.put("s", essay(40), agent_id="a")
    with pytest.raises(ContextNotFoundError):
        bench.archive.restore("t")
    bench.archive.archive("s")
    bench.archive.restore("s")
    bench.store.delete("s", agent_id="a")
    bench.store.put("s", "begun anew", agent_id="a")
    with pytest.raises((SessionExistsError, ContextNotFoundError)):
        bench.archive.restore("s")
    assert bench.store.get("s").content == "begun anew"


def test_settling_erases_what_was_deleted(bench, redis_client):
    """A session deleted on purpose leaves no copy; one that Redis lost is archived from then on."""
    for session in ("deleted", "lost"):
        bench.store.put(session, essay(30), agent_id="a")
        bench.archive.archive(session)
        bench.archive.restore(session)
    bench.store.delete("deleted", agent_id="a")
    redis_client.delete(*redis_client.keys("context:claude_max:{lost}*"))
    assert bench.archive.settle() == 2
    assert [each.session for each in bench.archive.archived()] == ["lost"]
    assert bench.archive.settle() == 0
    bench.archive.restore("lost")
    assert bench.store.get("lost").content == essay(30)
