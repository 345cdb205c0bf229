"""The audit trail on real servers: complete, sealed, anchored, verified, shown."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from baton.errors import (
    AnchorUnavailableError,
    AuditBrokenError,
    ContextNotFoundError,
    InvalidInputError,
)
from baton.store.access import AccessNotes
from baton.store.audit import AuditTrail
from baton.store.audit_anchors import FileAnchor
from baton.store.audit_entries import Caller
from baton.store.audit_export import verify_export
from baton.store.audit_seals import decode_seal, make_seal
from baton.store.contexts import ContextStore
from baton.store.drain import AccessDrain
from baton.store.keys import SessionKeys
from reader_rights import reader_user
from waiting import until

# No other test's name: notes of stores that another test left open may arrive late.
NAME = "audited"
KEYS = SessionKeys.of(NAME)
CALLER = Caller("host1", "client1")


@pytest.fixture
def store(redis_client):
    store = ContextStore(redis_client)
    yield store
    store.close()


@pytest.fixture
def anchor(tmp_path):
    return FileAnchor(tmp_path / "audit")


@pytest.fixture
def trail(redis_client, anchor):
    return AuditTrail(redis_client, anchor)


@pytest.fixture
def write(store):
    """Writes versions to the session; each is one entry."""

    def write(count: int, session_id: str = NAME) -> None:
        for _ in range(count):
            store.put(session_id, os.urandom(8).hex(), agent_id="writer")

    return write


def entries(client, session_id=NAME):
    return [json.loads(e) for e in client.lrange(SessionKeys.of(session_id).audit, 0, -1)]


# --- entries -----------------------------------------------------------------------------------


def test_every_entry_is_one_numbered_line_of_its_session(store, redis_client, write):
    write(3)
    store.delete(NAME, agent_id="writer")
    found = entries(redis_client)
    assert [e["operation"] for e in found] == ["created", "updated", "updated", "deleted"]
    assert [e["seq"] for e in found] == [1, 2, 3, 4]
    assert {e["session"] for e in found} == {NAME}
    assert all(type(e["at"]) is int for e in found)
    assert all(b"\n" not in raw for raw in redis_client.lrange(KEYS.audit, 0, -1))


def test_numbers_go_on_when_a_session_of_the_same_name_begins_anew(store, redis_client, write):
    """The audit outlives what it is about, and its keys expire together."""
    write(1)
    store.delete(NAME, agent_id="writer")
    write(1)
    assert [e["seq"] for e in entries(redis_client)] == [1, 2, 3]
    AuditTrail(redis_client).seal(NAME)
    ends = {
        redis_client.pttl(key) // 1000 for key in (KEYS.audit, KEYS.audit_state, KEYS.audit_seals)
    }
    assert max(ends) - min(ends) <= 1
    assert min(ends) >= 30 * 86_400 - 60


def test_as_many_entries_as_operations_whatever_is_tried(store, redis_client):
    """An operation and its entry are one script: neither is there without the other."""
    rng = random.Random(20250)
    done = 0
    for number in range(400):
        choice = rng.random()
        exists = store.exists(NAME)
        if choice < 0.1 and exists:
            store.delete(NAME, agent_id="a")
            done += 1
        elif choice < 0.3 and exists:
            head = store.show(NAME).version
            store.put(NAME, f"text {number}", agent_id="b", base_version=head)
            done += 1
        else:
            store.put(NAME, f"text {number}", agent_id="c")
            done += 1
        if rng.random() < 0.1:
            store.put(NAME, f"once {number}", agent_id="d", operation_id=f"op{number}")
            store.put(NAME, f"once {number}", agent_id="d", operation_id=f"op{number}")
            done += 1
    assert len(entries(redis_client)) == done
    assert [e["seq"] for e in entries(redis_client)] == list(range(1, done + 1))


def test_a_killed_writer_leaves_an_entry_for_every_version(redis_server, redis_client, trail):
    """What was appended stays, and is sealed by whoever comes next."""
    script = """
import sys, redis
from baton.store.contexts import ContextStore
store = ContextStore(redis.Redis(unix_socket_path=sys.argv[1]))
for n in range(10**6): store.put("audited", f"text {n}", agent_id="w")
"""
    writer = subprocess.Popen([sys.executable, "-c", script, str(redis_server.socket)])
    until(lambda: redis_client.llen(KEYS.audit) > 50)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    made = [e for e in entries(redis_client) if e["operation"] in {"created", "updated"}]
    assert len(made) == redis_client.zcard(KEYS.history)
    assert trail.seal(NAME) == len(entries(redis_client))
    assert trail.verify(NAME).ok


# --- notes -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("notes_wait")
def test_notes_of_keys_and_refusals_become_entries_with_their_caller(
    store, redis_client, write, trail
):
    """What one agent did alike with one version is one entry with a count."""
    write(1)
    notes = AccessNotes(redis_client, CALLER)
    for _ in range(3):
        notes.add(KEYS, "1.0.0", "r", "key_used", {"key": "2026"})
        notes.add(KEYS, "1.0.0", "r", "denied", {"reason": "sealed\n\x1b[31m"})
        notes.add(KEYS, "1.0.0", "r")
    notes.flush()
    assert AccessDrain(redis_client, store).drain(NAME) == 3
    noted = {e["operation"]: e for e in entries(redis_client)[1:]}
    assert noted["key_used"]["details"] == {"key": "2026", "count": 3}
    assert noted["denied"]["details"] == {"reason": "sealed\\n\\x1b[31m", "count": 3}
    assert noted["read"]["details"] == {"reads": 3}
    assert [e["caller"] for e in noted.values()] == [{"host": "host1", "client": "client1"}] * 3
    newest = next(trail.show(NAME))
    assert (newest.seq, newest.host, newest.client) == (4, "host1", "client1")


@pytest.mark.usefixtures("notes_wait")
def test_thousands_of_reads_become_one_entry_an_interval(store, redis_client, write):
    write(1)
    notes = AccessNotes(redis_client, CALLER)
    for _ in range(5_000):
        notes.add(KEYS, "1.0.0", "r")
    notes.flush()
    AccessDrain(redis_client, store).drain(NAME)
    assert [e["details"] for e in entries(redis_client)[1:]] == [{"reads": 5_000}]


@pytest.mark.parametrize(
    "forged",
    [
        {"operation": "deleted"},
        {"operation": "purged"},
        {"operation": None},
        {"operation": ["read"]},
        {"details": {"n": 1e300}},
        {"details": {"deep": {"er": "x"}}},
        {"details": ["a"]},
        {"details": {f"d{n}": "x" for n in range(9)}},
        {"caller": {"host": 1}},
        {"caller": "me"},
        {"seq": 7, "session": "other", "at": 1},
    ],
    ids=str,
)
def test_a_forged_note_claims_no_more_than_a_read(store, redis_client, write, forged):
    """Any reader may append to the list of notes; none can make a write appear, or stop a drain."""
    write(1)
    note = {"agent": "r", "version": "1.0.0", "sender": "s", "number": 1, "reads": 1, **forged}
    redis_client.rpush(KEYS.access, json.dumps(note))
    assert AccessDrain(redis_client, store).drain(NAME) == 1
    entry = entries(redis_client)[-1]
    assert entry["operation"] == "read"
    assert (entry["seq"], entry["session"]) == (2, NAME)
    assert entry["at"] > 10**12
    if "seq" not in forged:
        assert entry["version"] == "malformed"


def test_a_reader_can_do_nothing_to_the_audit_but_leave_notes(redis_client):
    """With the rights a reader needs, nothing can be erased, rewritten or put into the audit."""
    with reader_user(redis_client):
        assert _may(redis_client, "RPUSHX", KEYS.access, "note")
        for key in (KEYS.audit, KEYS.audit_state, KEYS.audit_seals, KEYS.access):
            for command in (
                ("RPUSH", key, "x"), ("LPUSH", key, "x"), ("LSET", key, "0", "x"),
                ("LTRIM", key, "1", "0"), ("LREM", key, "0", "x"), ("LPOP", key), ("DEL", key),
                ("UNLINK", key), ("EXPIRE", key, "1"), ("RENAME", key, "x"), ("SET", key, "x"),
                ("HSET", key, "next", "1"), ("LRANGE", key, "0", "-1"), ("COPY", key, "x"),
                ("EVAL", "return 1", "1", key), ("RESTORE", key, "0", "x"),
            ):  # fmt: skip
                assert not _may(redis_client, *command), command
        for key in (KEYS.audit, KEYS.audit_state, KEYS.audit_seals):
            assert not _may(redis_client, "RPUSHX", key, "x")


def _may(client, *command):
    return client.acl_dryrun("reader", *command) in (b"OK", "OK", True)


# --- sealing -----------------------------------------------------------------------------------


def test_sealing_twice_seals_once(write, trail, redis_client):
    write(3)
    assert trail.seal(NAME) == 3
    assert trail.seal(NAME) == 0
    write(2)
    assert trail.seal(NAME) == 2
    found = trail.verify(NAME)
    assert (found.ok, found.entries, found.sealed_entries, found.unsealed_entries) == (
        True, 5, 5, 0,
    )  # fmt: skip
    assert (found.segments, found.anchored_segments) == (2, 2)
    seals = [decode_seal(raw) for raw in redis_client.lrange(KEYS.audit_seals, 0, -1)]
    assert [(s.first_seq, s.last_seq, s.count) for s in seals] == [(1, 3, 3), (4, 5, 2)]
    assert (seals[0].previous, seals[1].previous) == ("", seals[0].hash)
    assert seals[1].hash == found.head


def test_many_sealers_at_once_make_one_chain(write, redis_client, anchor):
    write(20)
    barrier = threading.Barrier(8)

    def seal(_number):
        mine = AuditTrail(redis_client, anchor)
        barrier.wait()
        return mine.seal(NAME)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(seal, range(8))) == 20
    assert AuditTrail(redis_client, anchor).verify(NAME).ok


def test_a_long_tail_is_sealed_in_segments(redis_client, trail, write):
    """Each of at most 500 entries, read and hashed by the client, not by a script."""
    write(1)
    raw = json.loads(redis_client.lindex(KEYS.audit, 0))
    with redis_client.pipeline(transaction=False) as pipeline:
        for seq in range(2, 1_302):
            pipeline.rpush(KEYS.audit, json.dumps({**raw, "seq": seq}))
        pipeline.hset(KEYS.audit_state, "next", 1_301)
        pipeline.execute()
    assert trail.seal(NAME) == 1_301
    found = trail.verify(NAME)
    assert (found.ok, found.segments, found.anchored_segments) == (True, 3, 3)
    assert [e.seq for e in trail.show(NAME)] == list(range(1_301, 0, -1))
    assert [e.seq for e in trail.show(NAME, 501)] == list(range(1_301, 800, -1))


def test_seal_all_seals_what_changed_and_names_what_is_broken(write, trail, redis_client, caplog):
    for session_id in ("one", "two", NAME):
        write(2, session_id)
    assert trail.seal_all() == 6
    assert trail.seal_all() == 0
    write(1, "two")
    write(1, "one")
    redis_client.ltrim(SessionKeys.of("one").audit, 2, -1)
    assert trail.seal_all() == 1
    assert "the audit of session one is not sealed" in caplog.text
    assert "baton audit verify one" in caplog.text
    with pytest.raises(AuditBrokenError):
        trail.seal("one")


def test_a_head_that_was_not_anchored_is_anchored_by_the_next_sealer(
    write, redis_client, tmp_path, anchor
):
    """A sealer that dies between Redis and the anchor, or whose disk is full."""
    (tmp_path / "file").write_text("no folder")
    write(2)
    with pytest.raises(AnchorUnavailableError):
        AuditTrail(redis_client, FileAnchor(tmp_path / "file")).seal(NAME)
    trail = AuditTrail(redis_client, anchor)
    assert trail.verify(NAME).anchored_segments == 0
    assert trail.seal_all() == 0
    assert trail.verify(NAME).anchored_segments == 1
    assert len(anchor.find_heads(NAME)) == 1
    trail.seal_all()
    assert len(anchor.find_heads(NAME)) == 1


def test_an_expired_trail_begins_a_new_chain(write, trail, redis_client, anchor, monkeypatch):
    """The anchor's heads of a chain that had time to expire are not missed; younger ones are."""
    write(2)
    trail.seal(NAME)
    redis_client.delete(KEYS.audit, KEYS.audit_state, KEYS.audit_seals)
    write(1)
    trail.seal(NAME)
    found = trail.verify(NAME)
    assert [(p.kind, p.number) for p in found.problems] == [("anchor", 1)]
    monkeypatch.setattr("baton.store.audit_verification.KEPT_MS", -1)
    assert trail.verify(NAME).ok
    assert len(anchor.find_heads(NAME)) == 2


def test_a_trail_that_was_removed_whole_is_missed_by_the_anchor_alone(write, trail, redis_client):
    write(2)
    trail.seal(NAME)
    redis_client.delete(KEYS.audit, KEYS.audit_state, KEYS.audit_seals, KEYS.base)
    assert not trail.verify(NAME).ok
    with pytest.raises(ContextNotFoundError):
        AuditTrail(redis_client).verify(NAME)


def test_a_rewritten_chain_is_found_however_old_its_heads_are(
    write, trail, redis_client, monkeypatch
):
    """The age of a head excuses a chain that is gone, never one that is there and says else."""
    write(2)
    trail.seal(NAME)
    (first,) = redis_client.lrange(KEYS.audit_seals, 0, -1)
    write(1)
    trail.seal(NAME)
    monkeypatch.setattr("baton.store.audit_verification.KEPT_MS", -1)
    raw = redis_client.lrange(KEYS.audit, 0, 0)
    redis_client.delete(KEYS.audit_seals)
    seal = decode_seal(first)
    forged = make_seal(raw, session=NAME, chain=seal.chain, after=None, at=seal.at)
    redis_client.rpush(KEYS.audit_seals, forged.encode())
    redis_client.expire(KEYS.audit_seals, 60)
    assert [p[:2] for p in trail.verify(NAME).problems] == [("anchor", 1), ("anchor", 2)]


def test_a_gap_in_the_unsealed_tail_shows_unless_it_is_closed(write, trail, redis_client):
    """Numbers and counter tell of what is missing, until somebody mends them as well."""
    write(4)
    redis_client.lrem(KEYS.audit, 1, redis_client.lindex(KEYS.audit, 1))
    assert [p[:2] for p in trail.verify(NAME).problems] == [("entry", 2)]
    trail.seal(NAME)
    assert [p[:2] for p in trail.verify(NAME).problems] == [("entry", 2)]
    write(1)
    assert redis_client.rpop(KEYS.audit)
    found = trail.verify(NAME)
    assert [p[:2] for p in found.problems] == [("entry", 2)]


def test_a_tail_cut_short_shows_by_the_counter(write, trail, redis_client):
    write(3)
    trail.seal(NAME)
    write(2)
    redis_client.rpop(KEYS.audit)
    found = trail.verify(NAME)
    assert [p[:2] for p in found.problems] == [("entry", 5)]
    assert found.unsealed_entries == 1
    redis_client.hset(KEYS.audit_state, "next", "many")
    assert not trail.verify(NAME).ok


def test_a_session_that_never_was_has_no_trail(trail):
    for ask in (trail.verify, trail.show, trail.export):
        with pytest.raises(ContextNotFoundError):
            ask("nobody")


# --- the anchor in a file ----------------------------------------------------------------------


def test_the_anchor_file_is_private_and_only_appended_to(write, trail, tmp_path):
    write(1)
    trail.seal(NAME)
    file = tmp_path / "audit" / "heads.jsonl"
    before = file.read_bytes()
    inode = file.stat().st_ino
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    write(1)
    trail.seal(NAME)
    assert file.read_bytes().startswith(before)
    assert len(file.read_bytes()) > len(before)
    assert file.stat().st_ino == inode


def test_a_torn_line_of_the_anchor_costs_that_line_only(write, trail, anchor, tmp_path, caplog):
    """What a crash left of a line is passed over; the next begins a line of its own."""
    file = tmp_path / "audit" / "heads.jsonl"
    for _ in range(2):
        write(1)
        trail.seal(NAME)
    os.truncate(file, file.stat().st_size - 2)
    write(1)
    trail.seal(NAME)
    assert [head.segment for head in anchor.find_heads(NAME)] == [1, 3]
    assert "no heads" in caplog.text
    assert trail.verify(NAME).anchored_segments == 3


def test_a_renamed_anchor_file_is_still_read(write, trail, anchor, tmp_path):
    for _ in range(2):
        write(1)
        trail.seal(NAME)
        (tmp_path / "audit" / "heads.jsonl").rename(
            tmp_path / "audit" / f"{len(anchor.find_heads(NAME))}.jsonl"
        )
    assert trail.verify(NAME).anchored_segments == 2


def test_heads_of_many_processes_are_whole_lines(tmp_path):
    script = """
import sys
from pathlib import Path
from baton.store.audit_anchors import FileAnchor, Head
anchor = FileAnchor(Path(sys.argv[1]))
for n in range(1, 51):
    anchor.append([Head(session=sys.argv[2], chain="c", segment=n, last_seq=n, hash="h", at=1)] * 3)
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), f"s{n}"]) for n in range(4)
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    for number in range(4):
        heads = FileAnchor(tmp_path).find_heads(f"s{number}")
        assert [head.segment for head in heads] == [n for n in range(1, 51) for _ in range(3)]


# --- trimming and exports ----------------------------------------------------------------------


def test_trimmed_entries_are_not_missed_and_unannounced_ones_are(write, trail, redis_client):
    for _ in range(3):
        write(4)
        trail.seal(NAME)
    write(1)
    assert trail.trim(NAME, through_segment=2) == 0, "they are not 30 days old"
    assert trail.trim(NAME, through_segment=2, older_than_seconds=0) == 8
    found = trail.verify(NAME)
    assert (found.ok, found.trimmed_entries, found.entries, found.segments) == (True, 8, 5, 3)
    assert [entry.seq for entry in trail.show(NAME)] == [13, 12, 11, 10, 9]
    write(1)
    assert trail.seal(NAME) == 2
    assert trail.verify(NAME).ok
    redis_client.ltrim(KEYS.audit, 4, -1)
    redis_client.hset(KEYS.audit_state, "trimmed", 12)
    assert trail.verify(NAME).problems[0][:2] == ("entry", 9)


def test_trim_takes_nothing_that_is_not_anchored_or_does_not_verify(write, trail, redis_client):
    write(4)
    unanchored = AuditTrail(redis_client)
    unanchored.seal(NAME)
    with pytest.raises(InvalidInputError):
        unanchored.trim(NAME, through_segment=1, older_than_seconds=0)
    with pytest.raises(InvalidInputError):
        trail.trim(NAME, through_segment=1, older_than_seconds=0)
    trail.seal(NAME)
    redis_client.lset(KEYS.audit, 0, "{}")
    with pytest.raises(AuditBrokenError):
        trail.trim(NAME, through_segment=1, older_than_seconds=0)
    assert redis_client.llen(KEYS.audit) == 4


def test_an_export_verifies_without_redis_until_a_byte_changes(write, trail, anchor):
    for _ in range(3):
        write(3)
        trail.seal(NAME)
    write(2)
    lines = list(trail.export(NAME))
    found = verify_export(lines, anchor)
    assert (found.ok, found.entries, found.unsealed_entries) == (True, 11, 2)
    assert (found.segments, found.anchored_segments) == (3, 3)
    trail.seal(NAME)
    assert verify_export(lines, anchor).ok, "what is sealed later is not missed"
    changed = [*lines[:6], lines[6].replace(b"writer", b"wrIter"), *lines[7:]]
    assert verify_export(changed, anchor).problems[0][:2] == ("entry", 3)
    assert not verify_export(lines[:-3], anchor).ok
    with pytest.raises(InvalidInputError):
        verify_export(lines[1:])
    with pytest.raises(InvalidInputError):
        verify_export([])


def test_entries_that_are_none_are_shown_not_obeyed(write, trail, redis_client):
    write(1)
    for raw in (b"\xff\x1b[2J", b"[]", b'{"seq": "x"}', b'{"at": 1e999}', b"[" * 5_000):
        redis_client.rpush(KEYS.audit, raw)
    shown = list(trail.show(NAME))
    assert [entry.operation for entry in shown] == ["unreadable"] * 5 + ["created"]


def test_the_caller_is_this_host_and_program():
    """As the process says of itself, on one line of bounded length."""
    here = Caller.here()
    assert here.host == socket.gethostname()[:64]
    assert here.client.startswith("baton/")
    forged = Caller.here("agent\nAUDIT purged \x1b[31m" + "x" * 500)
    assert forged.client.startswith("agent\\nAUDIT purged \\x1b[31m")
    assert len(forged.client) == 96
    assert forged.client.isprintable()
