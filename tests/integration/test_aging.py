"""Sessions age: they are found, looked at in their time, and handed to the archive."""

from __future__ import annotations

import pytest

from baton import ContextStore
from baton.errors import ContextArchivedError, ContextNotFoundError, InvalidInputError
from baton.lifecycle.aging import Aging
from baton.lifecycle.due_index import SHARDS, DueIndex
from baton.lifecycle.durations import SessionDurations
from baton.lifecycle.facts import SessionFactsReader
from baton.lifecycle.states import DAY_MS, HOUR_MS, Durations, SessionFacts, SessionState
from baton.lifecycle.sweep_board import SweepRun
from baton.store.drain import AccessDrain
from baton.store.keys import SessionKeys
from baton.store.moves import Copy

SLOW_MICROSECONDS = 5_000


class AgingBench:
    """Aging over the test's Redis. Sessions grow old by what their metadata says."""

    def __init__(self, client, durations=None, **options):
        self.client = client
        self.store = ContextStore(client, **options)
        self.facts = SessionFactsReader(client, durations or Durations())
        self.index = DueIndex(client)
        drain = AccessDrain(client, self.store)
        self.aging = Aging(client, self.store, drain, self.facts, self.index)

    def put(self, session_id, age_ms=0):
        self.store.put(session_id, "text", agent_id="a")
        self.make_older(session_id, age_ms)

    def make_older(self, session_id, age_ms):
        at_ms = self.facts.now_ms() - age_ms
        self.client.hset(SessionKeys.of(session_id).metadata, "last_accessed_at", str(at_ms))

    def state(self, session_id):
        (facts,) = self.facts.read([session_id])
        return facts.state(self.facts.now_ms())

    def sweep(self):
        self.aging.reconcile()
        return self.aging.age()

    def due(self):
        return self.index.to_archive(100)


@pytest.fixture
def bench(redis_client):
    made = AgingBench(redis_client)
    yield made
    made.store.close()


def test_states_by_the_last_access(bench):
    """Active for a day, inactive for a week, then due for the archive."""
    for session, age_ms in (("a", 23 * HOUR_MS), ("b", 25 * HOUR_MS), ("c", 169 * HOUR_MS)):
        bench.put(session, age_ms)
    assert [bench.state(each) for each in "abc"] == ["active", "inactive", "inactive"]
    assert bench.sweep() == 1
    assert bench.due() == ["c"]
    assert bench.sweep() == 0


def test_a_session_is_looked_at_when_its_state_changes(bench, redis_client):
    """The index holds the next change of each: a session in use is not looked at all the time."""
    bench.put("s", HOUR_MS)
    bench.sweep()
    scores = [
        score
        for shard in range(SHARDS)
        for _, score in redis_client.zrange(f"lifecycle:{{{shard:02d}}}", 0, -1, withscores=True)
    ]
    assert len(scores) == 1
    assert abs(scores[0] - (bench.facts.now_ms() + 23 * HOUR_MS)) < HOUR_MS


def test_a_read_keeps_a_session(bench, notes_wait):
    """A note of a read that nobody has drained yet counts: the sweep drains it first."""
    bench.put("s", 8 * DAY_MS)
    bench.store.get("s", agent_id="reader")
    bench.store.flush_notes()
    assert bench.sweep() == 0
    assert bench.state("s") is SessionState.ACTIVE


def test_own_durations(bench, redis_client):
    """A session's own durations go before the settings', and its keys live as long as they need."""
    own = SessionDurations(bench.store, bench.facts.durations)
    bench.put("s", 8 * DAY_MS)
    own.set("s", agent_id="a", archive_seconds=200 * 86_400)
    assert bench.sweep() == 0
    keys = [key for key in redis_client.scan_iter(match="*{s}*") if b":audit" not in key]
    assert min(redis_client.pttl(key) for key in keys) > 300 * DAY_MS
    bench.store.put("s", "more", agent_id="a")
    bench.store.refresh_expiry("s")
    assert min(redis_client.pttl(key) for key in keys) > 300 * DAY_MS
    bench.make_older("s", 8 * DAY_MS)
    own.clear("s", agent_id="a")
    bench.index.look_at({"s": 0})
    assert bench.sweep() == 1
    operations = [entry.operation for entry in bench.store.show_audit("s")]
    assert operations.count("aged") == 2
    own.apply_ttl("s")


def test_durations_that_are_none(bench):
    """Archived before inactive, or not positive: refused, and nothing is written."""
    own = SessionDurations(bench.store, bench.facts.durations)
    bench.put("s")
    with pytest.raises(InvalidInputError, match="active_seconds"):
        own.set("s", agent_id="a", active_seconds=86_400 * 8)
    with pytest.raises(InvalidInputError, match="keep_seconds"):
        own.set("s", agent_id="a", keep_seconds=0)
    with pytest.raises(ContextNotFoundError):
        own.set("none", agent_id="a", keep_seconds=1)
    (facts,) = bench.facts.read(["s"])
    assert facts.durations == Durations()


def test_what_is_gone_leaves_the_index(bench):
    """Deleted and archived sessions are not looked at any more."""
    for session in ("deleted", "archived"):
        bench.put(session)
    bench.sweep()
    bench.store.delete("deleted", agent_id="a")
    keys = SessionKeys.of("archived")
    dump = bench.store.moves.dump(keys, "head")
    bench.store.moves.let_go(keys, dump, Copy("shelf", "1"), "archivist", DAY_MS)
    assert bench.state("archived") is SessionState.ARCHIVED
    assert bench.state("deleted") is SessionState.PURGED
    bench.index.look_at({"deleted": 0, "archived": 0})
    bench.aging.age()
    assert bench.index.sizes() == (0, 0)
    with pytest.raises(ContextArchivedError):
        bench.store.get("archived")


def test_while_the_archive_fails_nothing_runs_out(redis_client):
    """A session that waits for the archive has its expiry moved when that comes near."""
    bench = AgingBench(redis_client, Durations(1, 1, 1), backstop_seconds=1_000)
    bench.put("s", DAY_MS)
    bench.sweep()
    keys = SessionKeys.of("s")
    redis_client.pexpire(keys.base, 10_000)
    bench.index.look_at({"s": 0})
    bench.aging.age()
    assert redis_client.pttl(keys.base) > 900_000
    bench.store.close()


def test_a_damaged_session_holds_up_no_other(bench, redis_client):
    """It is named in the log and left as it is."""
    bench.put("bad", 8 * DAY_MS)
    bench.put("good", 8 * DAY_MS)
    redis_client.hset(SessionKeys.of("bad").base, "active_ms", "soon")
    assert bench.sweep() == 1
    assert bench.due() == ["good"]


def test_a_sweep_can_be_stopped_and_goes_on(bench):
    """Stopped after a batch, it tells how far it was; the next run looks at the rest."""
    for number in range(40):
        bench.put(f"s{number}", 8 * DAY_MS)
    bench.aging.reconcile()
    run = SweepRun("age", 60)
    run.lose()
    assert 0 < bench.aging.age(run) < 40
    assert run.done is not None
    bench.aging.age()
    assert len(bench.due()) == 40


def test_many_sessions_block_nobody(bench, redis_client):
    """2,000 sessions due at once: no command of a sweep takes the server 5 ms."""
    pipeline = redis_client.pipeline(transaction=False)
    now_ms = bench.facts.now_ms()
    for number in range(2_000):
        keys = SessionKeys.of(f"s{number}")
        pipeline.hset(keys.base, mapping={"state": "live", "head": "1.0.0"})
        pipeline.set(keys.base + ":version", "1.0.0")
        pipeline.hset(keys.metadata, "last_accessed_at", str(now_ms - 8 * DAY_MS))
        for key in (keys.base, keys.base + ":version", keys.metadata):
            pipeline.pexpire(key, DAY_MS * 100)
    pipeline.execute()
    slow_before = redis_client.config_get("slowlog-log-slower-than")
    redis_client.config_set("slowlog-log-slower-than", SLOW_MICROSECONDS)
    redis_client.slowlog_reset()
    try:
        assert bench.sweep() == 2_000
        slow = [entry["command"] for entry in redis_client.slowlog_get(10)]
    finally:
        redis_client.config_set("slowlog-log-slower-than", slow_before["slowlog-log-slower-than"])
    assert slow == []
    assert bench.index.sizes() == (2_000, 2_000)


def test_next_change():
    """What comes next, by state; under hold nothing after the archive."""
    facts = SessionFacts("s", exists=True, accessed_at_ms=0)
    assert facts.next_change_ms(1) == DAY_MS
    assert facts.next_change_ms(2 * DAY_MS) == 7 * DAY_MS
    archived = SessionFacts("s", exists=True, archived_at_ms=1, purge_at_ms=9)
    assert archived.next_change_ms(5) == 9
    held = SessionFacts("s", exists=True, archived_at_ms=1, purge_at_ms=9, hold="case")
    assert held.next_change_ms(5) is None
    assert SessionFacts("s", exists=False).state(1) is SessionState.PURGED
