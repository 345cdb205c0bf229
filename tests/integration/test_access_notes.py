"""Notes of reads on real servers: each read is counted once, whatever forks, exits or fails."""

from __future__ import annotations

import gc
import json
import logging
import signal
import subprocess
import sys
import threading
import weakref
from typing import TYPE_CHECKING

import pytest

from baton.errors import StoreRefusedError, UnexpectedAnswerError
from baton.store.contexts import ContextStore
from baton.store.drain import NOTES_AT_ONCE, AccessDrain
from baton.store.keys import SessionKeys
from waiting import until

if TYPE_CHECKING:
    import redis

# No other test's name: notes of stores that another test left open may arrive late.
NAME = "noted"
ACCESS = SessionKeys.of(NAME).access
PRELUDE = """
import os, signal, sys, threading
import redis
from baton.store.contexts import ContextStore
store = ContextStore(redis.Redis(unix_socket_path=sys.argv[1]))
"""


@pytest.fixture
def store(redis_client):
    """A store with a session of one version."""
    store = ContextStore(redis_client)
    store.put(NAME, "text", agent_id="writer")
    yield store
    store.close()


@pytest.fixture
def run_python(redis_server):
    """Runs a script with a `store` in a process of its own; its standard error."""

    def run(script: str, *args: object) -> str:
        # From 3.12 on Python warns of any fork beside threads, which some of these are about.
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + script,
             str(redis_server.socket), *map(str, args)],
            capture_output=True, text=True, check=False, timeout=90,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stderr

    return run


def sent_reads(client: redis.Redis) -> list[int]:
    """The reads that each note on the session's list counts."""
    return [json.loads(note)["reads"] for note in client.lrange(ACCESS, 1, -1)]


def audited_reads(client: redis.Redis) -> list[tuple[str, str, int]]:
    entries = [json.loads(e) for e in client.lrange(SessionKeys.of(NAME).audit, 0, -1)]
    reads = [e for e in entries if e["operation"] == "read"]
    return [(e["agent"], e["version"], e["details"]["reads"]) for e in reads]


def note(number: int, *, reads: object = 1, agent: str = "r", sender: str = "other") -> str:
    fields = {"agent": agent, "version": "1.0.0", "sender": sender, "number": number}
    return json.dumps(fields)[:-1] + f', "reads": {reads}}}'


# --- sending -----------------------------------------------------------------------------------


def test_notes_of_a_process_that_ends_normally_arrive(store, redis_client, run_python):
    run_python("for _ in range(100): store.get('noted', agent_id='r')")
    assert sent_reads(redis_client) == [100]


def test_notes_of_a_store_that_nobody_closed_arrive(store, redis_client):
    dropped = ContextStore(redis_client)
    dropped.get(NAME, agent_id="r")
    gone = weakref.ref(dropped._parts.notes)
    del dropped
    until(lambda: sent_reads(redis_client) == [1], what="the note's arrival")
    until(lambda: gc.collect() is not None and gone() is None, what="the store's collection")


def test_notes_of_reads_after_close_arrive(store, redis_client):
    store.close()
    store.get(NAME, agent_id="r")
    until(lambda: sent_reads(redis_client) == [1], what="the note's arrival")


def test_an_exit_does_not_hang_on_a_server_that_does(store, redis_server, run_python):
    """The client has no deadline of its own; the exit has one, and the log tells."""
    try:
        said = run_python(
            "store.get('noted')\nos.kill(int(sys.argv[2]), signal.SIGSTOP)",
            redis_server.process.pid,
        )
    finally:
        redis_server.process.send_signal(signal.SIGCONT)
    assert "not sent within" in said


def test_one_thread_sends_for_all_stores_of_a_process(store, redis_client):
    stores = [ContextStore(redis_client) for _ in range(20)]
    for each in stores:
        each.get(NAME, agent_id="r")
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("baton-access-notes") == 1
    until(lambda: sum(sent_reads(redis_client)) == 20, what="the notes' arrival")


@pytest.mark.usefixtures("notes_wait")
def test_a_session_that_takes_no_notes_does_not_hold_up_the_others(store, redis_client, caplog):
    """A note refused for good is dropped, and reported once; the others are sent once."""
    store.put("bad", "text", agent_id="writer")
    redis_client.set(SessionKeys.of("bad").access, "not a list", ex=60)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            store.get("bad", agent_id="r")
            store.get(NAME, agent_id="r")
            store.flush_notes()
    assert sent_reads(redis_client) == [1, 1, 1]
    assert caplog.text.count("WRONGTYPE") == 1


@pytest.mark.usefixtures("notes_wait")
def test_notes_that_a_full_server_refuses_are_sent_later(store, redis_client):
    for _ in range(3):
        store.get(NAME, agent_id="r")
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreRefusedError):
            store.flush_notes()
    finally:
        redis_client.config_set("maxmemory", 0)
    store.flush_notes()
    assert sent_reads(redis_client) == [3]


# --- forks -------------------------------------------------------------------------------------


def test_a_forked_child_sends_its_own_reads_only(store, redis_client, run_python):
    run_python("""
for _ in range(5): store.get("noted", agent_id="r")
child = os.fork()
store.get("noted", agent_id="child" if child == 0 else "parent")
if child == 0:
    sys.exit()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
""")
    assert AccessDrain(redis_client, store).drain(NAME) == 3
    assert sorted(audited_reads(redis_client)) == [
        ("child", "1.0.0", 1), ("parent", "1.0.0", 1), ("r", "1.0.0", 5),
    ]  # fmt: skip


def test_a_child_forked_amid_a_flush_can_close_its_store(store, redis_server, run_python):
    """The flush hangs with the server, in a thread that the child does not have."""
    run_python(
        """
server = int(sys.argv[2])
store.get("noted", agent_id="r")
os.kill(server, signal.SIGSTOP)
flush = threading.Thread(target=store.flush_notes)
flush.start()
while not store._parts.notes._flushing.locked(): pass
child = os.fork()
if child == 0:
    signal.alarm(30)
    store.close()
    os._exit(0)
ended = os.waitpid(child, 0)[1]
os.kill(server, signal.SIGCONT)
flush.join()
assert os.waitstatus_to_exitcode(ended) == 0
""",
        redis_server.process.pid,
    )


# --- the drain ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("notes_wait")
def test_a_drain_turns_notes_into_metadata_and_audit(store, redis_client):
    before = redis_client.hget(SessionKeys.of(NAME).metadata, "last_accessed_at")
    for _ in range(5):
        store.get(NAME, agent_id="r")
    store.get(NAME)
    store.flush_notes()
    drain = AccessDrain(redis_client, store)
    assert drain.drain_all() == 2
    assert audited_reads(redis_client) == [("r", "1.0.0", 5), ("", "1.0.0", 1)]
    at, by = redis_client.hmget(
        SessionKeys.of(NAME).metadata, "last_accessed_at", "last_accessed_by"
    )
    assert (at >= before, by) == (True, b"")
    assert drain.drain_all() == 0


@pytest.mark.usefixtures("notes_wait")
def test_a_note_that_comes_again_after_its_drain_is_counted_once(store, redis_client):
    for _ in range(5):
        store.get(NAME, agent_id="r")
    store.flush_notes()
    repeat = redis_client.lindex(ACCESS, -1)
    drain = AccessDrain(redis_client, store)
    for _ in range(3):
        assert drain.drain(NAME) == 1
        redis_client.rpush(ACCESS, repeat)
    store.get(NAME, agent_id="r")
    store.flush_notes()
    drain.drain(NAME)
    assert audited_reads(redis_client) == [("r", "1.0.0", 5), ("r", "1.0.0", 1)]


def test_a_batch_that_a_drain_cuts_in_two_is_counted_whole(store, redis_client):
    drain = AccessDrain(redis_client, store)
    for number in (1, 2, 1, 2, 3):
        redis_client.rpush(ACCESS, note(number))
        drain.drain(NAME)
    assert audited_reads(redis_client) == [("r", "1.0.0", 1)] * 3


def test_the_marker_remembers_the_senders_heard_last(store, redis_client):
    """It is bounded; a sender that is heard again stays."""
    drain = AccessDrain(redis_client, store)
    for sender in range(150):
        redis_client.rpush(ACCESS, note(7, sender=f"s{sender}"), note(sender + 1, sender="often"))
        if sender % 40 == 0:
            drain.drain(NAME)
    drain.drain(NAME)
    marks = json.loads(redis_client.lindex(ACCESS, 0))
    assert len(marks) == 100
    assert dict(marks) == {"often": 150, **{f"s{n}": 7 for n in range(51, 150)}}


def test_a_count_that_is_no_count_is_brought_within_bounds(store, redis_client):
    """What a reader sent cannot make the drain fail, or lose the notes beside it."""
    for number, reads in enumerate(("1e999", "-1e999", "NaN", "-5", "1.9", "0"), 1):
        redis_client.rpush(ACCESS, note(number, reads=reads, agent=f"a{number}"))
    redis_client.rpush(ACCESS, note("1e999", agent="a7"), "x" * 2000, "[" * 900, note(1, agent="b"))
    AccessDrain(redis_client, store).drain(NAME)
    assert audited_reads(redis_client) == [
        ("a1", "1.0.0", 10**9), *((f"a{n}", "1.0.0", 1) for n in range(2, 7)), ("", "malformed", 3),
    ]  # fmt: skip


@pytest.mark.parametrize("damaged", ["audit", "metadata"])
def test_a_drain_that_cannot_record_takes_nothing(store, redis_client, damaged, caplog):
    """Notes stay on the list, and other sessions are drained all the same."""
    store.put("other", "text", agent_id="writer")
    for session_id in (NAME, "other"):
        store.get(session_id, agent_id="r")
    store.flush_notes()
    redis_client.set(getattr(SessionKeys.of(NAME), damaged), "damage", ex=60)
    drain = AccessDrain(redis_client, store)
    with pytest.raises(UnexpectedAnswerError):
        drain.drain(NAME)
    assert drain.drain_all() == 1
    assert sent_reads(redis_client) == [1]
    assert f"session {NAME} stay" in caplog.text


def test_a_list_of_notes_that_is_none_does_not_stop_the_drain(store, redis_client, caplog):
    store.put("bad", "text", agent_id="writer")
    redis_client.set(SessionKeys.of("bad").access, "not a list", ex=60)
    store.get(NAME, agent_id="r")
    store.flush_notes()
    assert AccessDrain(redis_client, store).drain_all() == 1
    assert "session bad stay" in caplog.text


def test_a_drain_takes_many_notes_in_several_steps(store, redis_client):
    notes = [note(n, agent=f"a{n}") for n in range(1, 2 * NOTES_AT_ONCE + 2)]
    redis_client.rpush(ACCESS, *notes)
    assert AccessDrain(redis_client, store).drain(NAME) == len(notes)
    assert audited_reads(redis_client) == [(f"a{n}", "1.0.0", 1) for n in range(1, len(notes) + 1)]
