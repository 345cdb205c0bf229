"""The sweep `collect` takes what no session needs, and nothing that one does."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from baton import ContextStore
from baton.errors import ContextNotFoundError
from baton.lifecycle import collecting
from baton.lifecycle.collecting import COLLECTOR, ORPHANS, Collecting
from baton.lifecycle.deletions import RESTED_MS
from baton.lifecycle.states import DAY_MS, HOUR_MS
from baton.lifecycle.sweep_board import SweepRun
from baton.redis_client import connect
from baton.settings import ClientSettings
from baton.store.keys import SessionKeys
from baton.store.mending import KeyMending
from slow_log import slow_commands
from stored_session import check_stored

KEEP = 5
NAME = "s"
KEYS = SessionKeys.of(NAME)


class CollectingBench:
    """A collector over the test's Redis, and a store that keeps five versions."""

    def __init__(self, client):
        self.client = client
        self.store = ContextStore(client, keep_versions=KEEP, live_agents=lambda _agents: ())
        self.collecting = self.another()

    def another(self):
        mending = KeyMending(self.client, self.store.backstop_ms)
        return Collecting(self.client, self.store, mending)

    def write(self, count, session_id=NAME):
        for number in range(count):
            self.store.put(session_id, f"{session_id} {number}\n" * 40, agent_id="a")

    def versions(self, session_id=NAME):
        return [each.version for each in self.store.history(session_id)]

    def chunks(self, session_id=NAME):
        return list(self.client.scan_iter(f"{SessionKeys.of(session_id).base}:chunks:*"))

    def collect(self, run=None):
        return self.collecting.collect(run)

    def orphan(self, session_id):
        """A session whose container was lost, by an eviction for example."""
        self.write(1, session_id)
        keys = SessionKeys.of(session_id)
        for key in list(self.client.scan_iter(f"{keys.base}*")):
            if b":chunks:" not in key:
                self.client.delete(key)

    def later(self, milliseconds):
        """As if what was seen to be an orphan had been seen so much earlier."""
        for member, at_ms in self.client.zrange(ORPHANS, 0, -1, withscores=True):
            self.client.zadd(ORPHANS, {member: at_ms - milliseconds})


@pytest.fixture
def bench(redis_client, monkeypatch):
    monkeypatch.setattr(collecting, "YOUNG_SECONDS", 0.0)
    made = CollectingBench(redis_client)
    yield made
    made.store.close()


def test_an_idle_session_loses_the_versions_that_nothing_needs(bench):
    """The newest five stay, and what a tag names; the second run finds nothing."""
    bench.write(40)
    oldest = bench.versions()[-1]
    bench.store.tag(NAME, "first", oldest, agent_id="a")
    assert bench.collect() > 0
    assert len(bench.versions()) == KEEP + 1
    assert bench.store.get(NAME, oldest).content == f"{NAME} 0\n" * 40
    check_stored(bench.client, NAME)
    (entry,) = [each for each in bench.store.show_audit(NAME) if each.operation == "collected"]
    assert entry.agent == COLLECTOR
    assert bench.collect() == 0


def test_versions_of_the_last_minutes_stay(bench, monkeypatch):
    """Somebody may be writing on top of them."""
    monkeypatch.undo()
    bench.write(40)
    assert bench.collect() == 0
    assert len(bench.versions()) == 40


def test_a_session_under_hold_keeps_all_of_its_versions(bench):
    bench.write(40)
    bench.store.moves.hold(KEYS, "case 7", "a")
    assert bench.collect() == 0
    assert len(bench.versions()) == 40
    bench.store.moves.release(KEYS, "a")
    assert bench.collect() > 0


def test_a_write_that_waits_to_be_merged_goes_when_it_expires(bench):
    """Not before; with it, the chunks that it alone refers to."""
    base = bench.store.put(NAME, "one\ntwo\n", agent_id="a").version
    bench.store.put(NAME, "one\nTWO\n", agent_id="a", base_version=base)
    held = bench.store.put(NAME, "one\nzwei\n", agent_id="b", base_version=base)
    assert held.action == "merge_required"
    before = len(bench.chunks())
    assert bench.collect() == 0
    assert len(bench.store.conflicts(NAME)) == 1
    stored = bench.client.hgetall(KEYS.conflicts)
    for conflict_id, raw in stored.items():
        fields = raw.partition(b'"expires_at":')
        past = fields[0] + fields[1] + b"1" + fields[2].lstrip(b"0123456789")
        bench.client.hset(KEYS.conflicts, conflict_id, past)
    assert bench.collect() > 0
    assert bench.client.hlen(KEYS.pending) == 0
    assert len(bench.chunks()) == before - 1
    check_stored(bench.client, NAME)


def test_what_is_staged_has_its_minute_and_no_more(bench):
    """A piece without expiry is given one; a piece that has one keeps it."""
    lasting, passing = (f"{KEYS.base}:staging:{name}:0" for name in ("lasting", "passing"))
    bench.client.set(lasting, "x")
    bench.client.set(passing, "x", px=5_000)
    assert bench.collect() == 1
    assert 0 < bench.client.pttl(lasting) <= 60_000
    assert 0 < bench.client.pttl(passing) <= 5_000
    assert bench.collect() == 0


def test_chunks_that_belong_to_no_session_go_after_an_hour(bench):
    """Seen at two runs an hour apart; those of a session that runs out by itself are left."""
    bench.orphan("gone")
    bench.orphan("running_out")
    for key in bench.chunks("running_out"):
        bench.client.pexpire(key, HOUR_MS)
    assert bench.collect() == 0
    bench.later(HOUR_MS - 60_000)
    assert bench.collect() == 0
    bench.later(60_000)
    assert bench.collect() == 1
    assert not bench.chunks("gone")
    assert bench.chunks("running_out")
    assert bench.collect() == 0
    assert bench.client.zcard(ORPHANS) == 0, "nothing is remembered of it"


def test_a_session_that_was_begun_anew_is_no_orphan(bench):
    """What was noted of the old one does not count for it, nor later."""
    bench.orphan("back")
    bench.collect()
    bench.later(HOUR_MS)
    bench.client.delete(*bench.chunks("back"))
    bench.write(1, "back")
    assert bench.collect() == 0
    check_stored(bench.client, "back")
    bench.client.delete(SessionKeys.of("back").base)
    assert bench.collect() == 0, "its hour begins anew"


def test_a_deletion_that_rests_is_finished(bench):
    """One that was taken up less than a minute ago is its deleter's."""
    bench.write(1)
    now_ms = round(time.time() * 1000)
    bench.client.hset(KEYS.base, mapping={"state": "deleting", "deleting_at": now_ms})
    assert bench.collect() == 0
    assert bench.client.exists(KEYS.base)
    bench.client.hset(KEYS.base, "deleting_at", now_ms - RESTED_MS)
    assert bench.collect() == 1
    left = {key.rpartition(b"}")[2] for key in bench.client.keys(f"{KEYS.base}*")}
    assert left == {b":audit", b":audit_state", b":deleted"}
    with pytest.raises(ContextNotFoundError):
        bench.store.get(NAME)


def test_a_run_that_is_stopped_is_continued_by_the_next(bench):
    """It ends after the session that it is at; nothing is lost, nothing is collected twice."""
    for number in range(6):
        bench.write(30, f"s{number}")
    run = SweepRun("collect", 60)
    run.lose()
    assert bench.collect(run) > 0
    assert sum(len(bench.versions(f"s{number}")) > KEEP for number in range(6)) == 5
    bench.collect()
    for number in range(6):
        assert len(bench.versions(f"s{number}")) == KEEP
        check_stored(bench.client, f"s{number}")
    assert bench.collect() == 0


def test_a_damaged_session_holds_up_no_other(bench, caplog):
    """It is left as it is, and named in the log."""
    bench.write(30, "damaged")
    bench.write(30, "sound")
    bench.client.hset(SessionKeys.of("damaged").manifests, "1.0.3", b"no manifest")
    bench.client.set(f"{SessionKeys.of('foreign').base}:version", "1.0.0", px=DAY_MS)
    bench.client.set(SessionKeys.of("foreign").base, "a string", px=DAY_MS)
    assert bench.collect() > 0
    assert len(bench.versions("sound")) == KEEP
    assert bench.client.hlen(SessionKeys.of("damaged").manifests) == 30
    assert "session damaged: not collected" in caplog.text
    caplog.clear()
    bench.collect()
    assert not caplog.messages, "it is not planned again at each run"


def test_collectors_and_writers_do_not_fight(bench):
    """Two collectors over four sessions that are written all the while: each stays whole."""
    done = threading.Event()
    names = [f"s{number}" for number in range(4)]

    def write(name):
        for number in range(60):
            base = None if number % 3 else bench.versions(name)[0] if number else None
            bench.store.put(name, f"{name} {number}\n" * 50, agent_id="a", base_version=base)

    def collect():
        collector = bench.another()
        while not done.is_set():
            collector.collect()

    with ThreadPoolExecutor(6) as threads:
        collectors = [threads.submit(collect) for _ in range(2)]
        writers = [threads.submit(write, name) for name in names]
        with contextlib.ExitStack() as ended:
            ended.callback(done.set)
            for each in writers:
                each.result()
        for each in collectors:
            each.result()
    bench.another().collect()
    for name in names:
        assert len(bench.versions(name)) <= KEEP + 8
        assert bench.store.get(name).content == f"{name} 59\n" * 50
        check_stored(bench.client, name)


def test_many_sessions_and_large_ones_block_nobody(bench, redis_client):
    """2,000 sessions, 1,000 versions of one, 2,000 lost chunks: no command takes 5 ms."""
    store = ContextStore(redis_client, keep_versions=1_000)
    for number in range(1_000):
        store.put("large", f"{number}", agent_id=f"a{number}")
    store.close()
    pipeline = redis_client.pipeline(transaction=False)
    for number in range(2_000):
        keys = SessionKeys.of(f"s{number}")
        pipeline.hset(keys.base, mapping={"state": "live", "head": "1.0.0"})
        pipeline.set(keys.base + ":version", "1.0.0")
        for key in (keys.base, keys.base + ":version"):
            pipeline.pexpire(key, DAY_MS * 100)
    pipeline.execute()
    collected = []

    def collect():
        for number in range(2_000):
            pipeline.set(SessionKeys.of("lost").chunk(number), "x", px=10 * DAY_MS)
        pipeline.execute()
        bench.collect()
        bench.later(HOUR_MS)
        collected.append(bench.collect())

    assert slow_commands(redis_client, collect) == set()
    assert collected[0] == 2_000
    assert not bench.chunks("lost")
    assert len(bench.versions("large")) == KEEP


def test_a_cluster_is_collected_on_all_of_its_nodes(cluster, monkeypatch):
    """Old versions, a staged piece and lost chunks, wherever their slots are."""
    monkeypatch.setattr(collecting, "YOUNG_SECONDS", 0.0)
    with contextlib.closing(connect(cluster.url, ClientSettings())) as client:
        bench = CollectingBench(client)
        for number in range(6):
            bench.write(20, f"s{number}")
            bench.orphan(f"gone{number}")
            client.set(f"{SessionKeys.of(f's{number}').base}:staging:op:0", "x")
        assert bench.collect() >= 6 * (20 - KEEP)
        assert [len(bench.versions(f"s{number}")) for number in range(6)] == [KEEP] * 6
        bench.later(HOUR_MS)
        assert bench.collect() == 6
        assert [bench.chunks(f"gone{number}") for number in range(6)] == [[]] * 6
        assert bench.collect() == 0
        bench.store.close()
