"""Seeing handoffs: events from the start, watching to the end, the newest, the unknown."""

from __future__ import annotations

import threading

import pytest

from baton.errors import HandoffNotFoundError, InvalidIdError
from baton.handoff.claims import Ending
from baton.handoff.keys import HandoffKeys
from baton.handoff.request import TaskSpec


def test_events_replay_from_the_start(make_bench):
    """Every transition, in order, with progress between them; again and again."""
    bench = make_bench({"talk": lambda given: given.progress("half way") or "done"})
    handoff = bench.run(TaskSpec(instruction="a", runner="talk"))
    told = [(event.type, event.node_id, event.state) for event in handoff.events()]
    assert told == [
        ("handoff", "", "running"),
        ("node", "0", "leased"),
        ("progress", "0", ""),
        ("node", "0", "ok"),
        ("handoff", "", "joining"),
        ("handoff", "", "done"),
    ]
    again = list(handoff.events())
    assert [event.id for event in again] == sorted(event.id for event in again)
    after = list(handoff.events(after=again[2].id))
    assert after == again[3:]


def test_watch_ends_when_the_handoff_does(bench):
    """A watcher that began before the work sees it all, then stops."""
    handoff = bench.submit("a", "b")
    seen = []
    watcher = threading.Thread(target=lambda: seen.extend(handoff.events(timeout_seconds=30)))
    watcher.start()
    bench.pump()
    watcher.join(30)
    assert not watcher.is_alive()
    assert seen == list(handoff.events())
    assert seen[-1].state == "done"


def test_watch_ends_though_its_events_were_trimmed(bench):
    """The outcome decides, not the stream."""
    handoff = bench.run("a")
    bench.client.xtrim(HandoffKeys.of(handoff.handoff_id).events, maxlen=0, approximate=False)
    assert list(handoff.events(timeout_seconds=30)) == []
    assert handoff.wait(30).state == "done"


def test_watch_reads_more_events_than_it_fetches_at_once(bench):
    """Thousands of events come in order, without a gap."""
    handoff = bench.submit("a")
    claim = bench.claim(handoff)
    for number in range(2_100):
        bench.tree.progress(claim, str(number))
    handoff.cancel()
    bench.tree.finish(claim, "ok", Ending(), "x")
    texts = [event.text for event in handoff.events(timeout_seconds=30) if event.type == "progress"]
    assert texts == [str(number) for number in range(2_100)]


def test_wait_gives_up_in_time_and_can_be_asked_again(bench):
    """TimeoutError says that the handoff goes on; it does."""
    handoff = bench.submit("a")
    with pytest.raises(TimeoutError, match="had not ended in"):
        handoff.wait(0.05)
    bench.pump()
    seen = []
    assert handoff.wait(30, on_event=seen.append).state == "done"
    assert seen == list(handoff.events())


def test_newest_handoffs_come_first_and_expired_ones_not_at_all(bench):
    """At most as many as asked for."""
    handoffs = [bench.submit(f"task {n}") for n in range(4)]
    for rank, handoff in enumerate(handoffs):
        bench.client.zadd("handoffs:index", {handoff.handoff_id: 1_000 + rank})
    ids = [handoff.handoff_id for handoff in handoffs]
    assert [outcome.handoff_id for outcome in bench.handoffs.newest()] == ids[::-1]
    assert [outcome.handoff_id for outcome in bench.handoffs.newest(2)] == ids[:1:-1]
    assert len(bench.handoffs.newest(0)) == 1
    bench.client.delete(HandoffKeys.of(ids[3]).base)
    assert [outcome.handoff_id for outcome in bench.handoffs.newest(2)] == [ids[2]]


def test_unknown_handoff_is_not_found(bench):
    """Each question about it says so; a malformed id is refused before Redis is asked."""
    handoff = bench.handoffs.find("handoff_none")
    for ask in (handoff.outcome, handoff.nodes, handoff.wait, lambda: list(handoff.events())):
        with pytest.raises(HandoffNotFoundError, match="handoff_none"):
            ask()
    assert handoff.result() is None
    assert handoff.node_result("0") is None
    with pytest.raises(InvalidIdError):
        bench.handoffs.find("*")
    with pytest.raises(InvalidIdError):
        handoff.node_result("../0")


def test_nodes_tell_times_and_workers(bench):
    """A node that ended has its worker, its instants and its duration; one that waits has none."""
    handoff = bench.submit("a", "b")
    bench.queue.messages.clear()
    bench.engine.run_node(handoff.handoff_id, "0")
    done, waiting = handoff.nodes()
    assert (done.worker, done.runner, done.instruction) == ("worker_1", "work", "a")
    assert done.started_at <= done.ended_at
    assert done.duration_seconds >= 0
    assert done.size_bytes == len(b"a: done")
    assert (waiting.started_at, waiting.ended_at, waiting.duration_seconds) == (None, None, None)
    assert (waiting.attempt, waiting.worker, waiting.state) == (0, "", "waiting")
    outcome = handoff.outcome()
    assert outcome.created_at <= done.started_at
    assert outcome.ended_at is None
    assert outcome.census["waiting"] == outcome.census["ok"] == 1
