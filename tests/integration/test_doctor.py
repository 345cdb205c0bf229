"""The doctor finds what was planted, mends it on request, and leaves all else as it is."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from baton import ContextStore
from baton.archive.report import KEY as ARCHIVE_REPORT
from baton.errors import ArchiveAnswerError, ContextNotFoundError
from baton.handoff.keys import OPEN, HandoffKeys
from baton.handoff.neglect import NeglectedHandoffs
from baton.lifecycle.checks.agents import AgentCheck
from baton.lifecycle.checks.archive import ArchiveCheck
from baton.lifecycle.checks.due_index import DueIndexCheck
from baton.lifecycle.checks.handoffs import HandoffCheck
from baton.lifecycle.checks.keys import KeyCheck
from baton.lifecycle.checks.remains import RemainsCheck
from baton.lifecycle.deletions import RESTED_MS, UnfinishedDeletions
from baton.lifecycle.doctor import Doctor
from baton.lifecycle.due_index import DueIndex
from baton.lifecycle.facts import SessionFactsReader
from baton.lifecycle.states import DAY_MS, HOUR_MS, Durations
from baton.lifecycle.sweep_board import SweepBoard
from baton.redis_client import connect
from baton.scripts import Script
from baton.settings import ClientSettings
from baton.store.keys import SessionKeys
from baton.store.mending import KeyMending
from baton.store.moves import Copy
from baton.swarm.keys import INDEX as AGENTS_INDEX
from baton.swarm.keys import agent_key
from baton.swarm.registry import AgentRegistry
from baton_command import BatonCommand
from handoff_bench import AGENT, SESSION, Bench
from slow_log import slow_commands
from stored_session import check_stored

UNUSED_SECONDS = 7_200


def _no_archive(kind, **_):
    pytest.fail(f"nobody is to be asked for {kind}")


def _answer(lost, kind, **fields):
    assert kind == "without_copy"
    return [session for session, _, _ in fields["tombstones"] if session in lost]


class Ward:
    """A doctor over the test's Redis and a bench of handoffs."""

    def __init__(self, bench):
        self.bench = bench
        self.client = client = bench.client
        self.store = bench.store
        self.index = DueIndex(client)
        facts = SessionFactsReader(client, Durations())
        self.now_ms = facts.now_ms()
        self.handoffs = NeglectedHandoffs(client, bench.tree, bench.queue)
        self.mending = KeyMending(client, bench.store.backstop_ms)
        self.deletions = UnfinishedDeletions(client, self.mending)
        self.doctor = Doctor([
            KeyCheck(client, self.mending),
            RemainsCheck(client, self.mending, self.deletions, _no_archive, lambda: False),
            DueIndexCheck(client, facts, self.index, SweepBoard(client)),
            HandoffCheck(self.handoffs),
            AgentCheck(client),
            ArchiveCheck(client, _no_archive, lambda: False),
        ])  # fmt: skip

    def with_archive(self, lost):
        """A doctor of keys and remains, over an archive that lacks these sessions' copies."""
        ask = partial(_answer, lost)
        remains = RemainsCheck(self.client, self.mending, self.deletions, ask, lambda: True)
        return Doctor([KeyCheck(self.client, self.mending), remains])

    def find(self):
        found = list(self.doctor.examine())
        assert {each.kind for each in found} <= self.doctor.kinds().keys()
        return found

    def one(self, kind):
        """The one finding that there is, of that kind."""
        (found,) = self.find()
        assert found.kind == kind
        return found

    def is_mended(self, finding):
        assert finding.mend() is True
        assert self.find() == []
        return True

    def grow_idle(self, *keys):
        """Have keys look unused for hours, as their server counts it."""
        for key in keys:
            stored, left_ms = self.client.dump(key), max(0, self.client.pttl(key))
            self.client.restore(key, left_ms, stored, replace=True, idletime=UNUSED_SECONDS)

    def snapshot(self):
        """Every value, and whether it expires."""
        read = {
            b"hash": self.client.hgetall, b"string": self.client.get,
            b"list": lambda key: self.client.lrange(key, 0, -1),
            b"zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
            b"stream": self.client.xrange,
        }  # fmt: skip
        return {
            key: (read[self.client.type(key)](key), self.client.pttl(key) >= 0)
            for key in self.client.scan_iter(count=1_000)
        }


@pytest.fixture
def ward(bench):
    return Ward(bench)


def _orphan(ward, session_id="gone", *, idle=True):
    """A session whose container was lost, by an eviction for example."""
    ward.store.put(session_id, "text " * 1_000, agent_id="a")
    keys = SessionKeys.of(session_id)
    ward.client.delete(keys.base)
    if idle:
        ward.grow_idle(*ward.client.keys(f"{keys.base}:*"))
    return keys


def test_healthy_deployment_has_nothing_wrong(ward):
    """Sessions of every state, handoffs, agents, sweeps: nothing is found, nothing is changed."""
    registry = AgentRegistry(ward.client, dead_after_seconds=60)
    registry.register("worker", context_capacity=10)
    ward.store.put("s", "text", agent_id="a")
    ward.store.put("t", "text", agent_id="a")
    ward.store.delete("t", agent_id="a")
    ward.store.put("held", "text", agent_id="a")
    ward.store.moves.hold(SessionKeys.of("held"), "case 7", "a")
    ward.bench.run("one", "two")
    ward.bench.submit("three")
    SweepBoard(ward.client).run("reconcile", 3_600, lambda _run: 1)
    before = ward.snapshot()
    assert ward.find() == []
    assert ward.snapshot() == before
    ward.store.moves.release(SessionKeys.of("held"), "a")
    ward.bench.pump()


def test_session_that_runs_out_is_no_fault(ward):
    """Its names go first, and its chunks two hours later: they are left to that."""
    keys = _orphan(ward)
    for key in ward.client.keys(f"{keys.base}:*"):
        if b":chunks:" in key:
            ward.client.pexpire(key, 2 * HOUR_MS)
        elif b":audit" not in key:
            ward.client.delete(key)
    assert ward.find() == []


def test_orphan_keys_are_dropped(ward):
    """Keys without container keep a name from being used; without them it is free again."""
    ward.store.put("whole", "text", agent_id="a")
    keys = _orphan(ward)
    staging = f"{keys.staging_prefix('x')}0"
    ward.client.set(staging, "chunk")
    ward.grow_idle(staging)
    finding = ward.one("orphan_keys")
    assert finding.subject == "gone"
    assert "more" in finding.problem
    assert ward.is_mended(finding)
    left = {key.removeprefix(keys.base.encode()) for key in ward.client.keys(f"{keys.base}*")}
    assert left == {b":audit", b":audit_state"}
    ward.store.put("gone", "new", agent_id="a")
    check_stored(ward.client, "gone")
    check_stored(ward.client, "whole")


def test_orphan_keys_that_somebody_uses_are_left(ward):
    """What was touched within the hour may be a writer's; it is told of, and nothing mends it."""
    _orphan(ward, idle=False)
    finding = ward.one("orphan_keys")
    assert finding.mend is None
    assert "somebody may be at work" in finding.mending


def test_server_that_counts_uses_has_its_orphans_left(ward):
    """It does not say how long nobody has used a key; that is not taken for long."""
    _orphan(ward)
    assert ward.one("orphan_keys").mend is not None
    ward.client.config_set("maxmemory-policy", "allkeys-lfu")
    try:
        assert ward.one("orphan_keys").mend is None
    finally:
        ward.client.config_set("maxmemory-policy", "noeviction")


def test_traffic_is_not_taken_for_a_fault(ward):
    """Sessions that are written, deleted and begun anew, and handoffs, while the doctor looks."""
    ended = threading.Event()

    def write(number):
        chance = random.Random(number)
        while not ended.is_set():
            name = f"s{chance.randrange(6)}"
            with contextlib.suppress(ContextNotFoundError):
                if chance.random() < 0.6:
                    text = "text " * chance.randrange(1, 3_000)
                    ward.store.put(name, text, agent_id=f"a{number}", policy="last_write_wins")
                else:
                    ward.store.delete(name, agent_id=f"a{number}")

    def hand_off():
        while not ended.is_set():
            ward.bench.run("one", "two")

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(write, number) for number in range(3)] + [pool.submit(hand_off)]
        try:
            found = [each for _ in range(40) for each in ward.find()]
        finally:
            ended.set()
        for each in work:
            each.result()
    assert found == []


def test_session_that_began_anew_keeps_its_keys(ward):
    """Between the look and the mending somebody made a session of that name: nothing is dropped."""
    keys = _orphan(ward)
    finding = ward.one("orphan_keys")
    ward.client.delete(keys.manifests)
    ward.store.put("gone", "new", agent_id="a")
    assert finding.mend() is False
    assert ward.store.get("gone").content == "new"


def test_keys_without_expiry_are_given_one(ward):
    """Every key of a session, and of all else, gets what it should have had."""
    ward.store.put("s", "text " * 1_000, agent_id="a")
    keys = SessionKeys.of("s")
    all_keys = ward.client.keys(f"{keys.base}*")
    for key in all_keys:
        ward.client.persist(key)
    finding = ward.one("no_expiry")
    assert finding.subject == "s"
    assert ward.is_mended(finding)
    lives_ms = {key: ward.client.pttl(key) for key in all_keys}
    backstop_ms = ward.store.backstop_ms
    for key, life_ms in lives_ms.items():
        if b":chunks:" in key:
            assert backstop_ms < life_ms <= backstop_ms + 3 * HOUR_MS
        elif b":audit" in key:
            assert 127 * DAY_MS < life_ms <= 128 * DAY_MS
        else:
            assert backstop_ms - HOUR_MS < life_ms <= backstop_ms


def test_key_without_expiry_joins_its_session(ward):
    """One that lost its expiry runs out with the names beside it, not after them."""
    ward.store.put("s", "text", agent_id="a")
    keys = SessionKeys.of("s")
    for key in (keys.base, keys.metadata, keys.manifests):
        ward.client.pexpire(key, 5 * HOUR_MS)
    ward.client.persist(keys.manifests)
    assert ward.is_mended(ward.one("no_expiry"))
    assert abs(ward.client.pttl(keys.manifests) - ward.client.pttl(keys.base)) < 1_000


def test_hold_keeps_its_session_for_ever(ward):
    """Under hold a session has no expiry, its audit has; one set meanwhile is respected."""
    ward.store.put("s", "text", agent_id="a")
    keys = SessionKeys.of("s")
    ward.client.persist(keys.metadata)
    finding = ward.one("no_expiry")
    ward.store.moves.hold(keys, "case 7", "a")
    assert finding.mend() is False
    assert ward.client.pttl(keys.metadata) == -1
    assert ward.find() == []
    ward.client.persist(keys.audit)
    assert ward.is_mended(ward.one("no_expiry"))
    ward.store.moves.release(keys, "a")


@pytest.mark.parametrize(
    ("key", "days"),
    [
        ("agents:{a}", 38), ("handoff:{h}:nodes", 366), ("lifecycle:{03}", 180),
        ("sweep:{x}:status", 90), ("locks:{s}", 1), ("metrics:{a:b}", 30), ("models:{m}:rate", 1),
        (ARCHIVE_REPORT, 90),
    ],
)  # fmt: skip
def test_other_keys_without_expiry_are_given_one(ward, key, days):
    """The longest that one of their kind is kept."""
    ward.client.set(key, "x")
    found = KeyCheck(ward.client, KeyMending(ward.client, 1)).find()
    (finding,) = [each for each in found if each.kind == "no_expiry"]
    assert finding.subject == key
    assert finding.mend() is True
    assert (days - 1) * DAY_MS < ward.client.pttl(key) <= days * DAY_MS
    assert finding.mend() is False
    ward.client.delete(key)


def test_foreign_keys_are_left_alone(ward):
    """A Redis may be shared: what is not of ours is not looked at."""
    ward.client.mset({"theirs:1": "x", "context:other:{s}": "x", "agents": "x"})
    assert ward.find() == []
    ward.client.delete("theirs:1", "context:other:{s}", "agents")


def test_sessions_unknown_to_the_due_index_are_entered(ward):
    """One that fell out of it would never age; one that is new waits for the sweep."""
    ward.store.put("old", "text", agent_id="a")
    ward.store.put("new", "text", agent_id="a")
    ward.client.hset(SessionKeys.of("old").base, "created_at", str(ward.now_ms - 2 * DAY_MS))
    finding = ward.one("unknown_session")
    assert finding.subject == "old"
    assert ward.is_mended(finding)
    assert ward.index.unknown(["old", "new"]) == ["new"]
    SweepBoard(ward.client).run("reconcile", 60, lambda _run: 1)
    ward.client.hset(SessionKeys.of("new").base, "created_at", str(ward.now_ms - 180_000))
    assert ward.one("unknown_session").subject == "new"


def test_entries_of_sessions_that_are_gone_are_dropped(ward):
    """Those that the sweep should have dropped, and those that it would not come to for long."""
    ward.index.look_at({
        "late": ward.now_ms - 2 * HOUR_MS, "far": ward.now_ms + 90 * DAY_MS,
        "soon": ward.now_ms + DAY_MS, SESSION: ward.now_ms - 2 * HOUR_MS,
    })  # fmt: skip
    ward.index.archive({"late": ward.now_ms - 2 * HOUR_MS})
    found = ward.find()
    assert {(each.kind, each.subject) for each in found} == {
        ("index_leftover", "late"), ("index_leftover", "far"),
    }  # fmt: skip
    for each in found:
        each.mend()
    assert ward.find() == []
    assert ward.index.unknown(["late", "far", "soon", SESSION]) == ["late", "far"]


def test_handoff_that_ended_leaves_the_list(ward):
    """One that the sweep did not take off it, and one of which nothing is left."""
    handoff = ward.bench.run("one")
    assert handoff.outcome().ended
    assert ward.find() == []
    base = HandoffKeys.of(handoff.handoff_id).base
    ward.client.hset(base, "ended_at", str(ward.now_ms - 10 * 60_000))
    hour_ago = ward.now_ms / 1000 - 3_600
    ward.client.zadd(OPEN, {"handoff_gone": hour_ago, handoff.handoff_id: hour_ago})
    ward.client.expire(OPEN, 3_600)
    found = {each.subject: each for each in ward.find()}
    assert {each.kind for each in found.values()} == {"handoff_ended"}
    assert found.keys() == {handoff.handoff_id, "handoff_gone"}
    assert all(each.mend() for each in found.values())
    assert ward.find() == []
    assert not ward.bench.is_open(handoff)


def test_handoff_with_something_due_is_moved_along(ward):
    """A message that the broker lost, and no sweep since: the doctor publishes it again."""
    handoff = ward.bench.submit("one")
    ward.bench.queue.messages.clear()
    ward.bench.pass_time(handoff)
    finding = ward.one("handoff_overdue")
    assert ward.is_mended(finding)
    ward.bench.pump()
    assert handoff.outcome().state == "done"


def test_lost_join_is_found_and_done(ward):
    """All nodes have ended, and nothing would ever join them: not even the sweep."""
    handoff = ward.bench.submit("one", "two")
    while ward.bench.queue.messages and ward.bench.queue.messages[0].kind != "join":
        ward.bench.handle(ward.bench.queue.take())
    ward.bench.queue.messages.clear()
    due = HandoffKeys.of(handoff.handoff_id).due
    assert ward.client.zrem(due, "join") == 1
    ward.bench.engine.sweep()
    assert not ward.bench.queue.messages
    finding = ward.one("handoff_lost")
    assert "join" in finding.problem
    assert ward.is_mended(finding)
    ward.bench.pump()
    assert handoff.outcome().state == "done"


@pytest.mark.parametrize("state", ["leased", "waiting"])
def test_node_that_nobody_cares_for_runs(ward, state):
    """Its entry in the list of what is due is gone: no lease of it would ever lapse."""
    handoff = ward.bench.submit("one", "two")
    ward.bench.handle(ward.bench.queue.take())
    claim = ward.bench.claim(handoff)
    if state == "waiting":
        ward.bench.tree.hand_back(handoff.handoff_id, "0", claim.fence)
    ward.bench.queue.messages.clear()
    keys = HandoffKeys.of(handoff.handoff_id)
    ward.client.zrem(keys.due, "0")
    finding = ward.one("handoff_lost")
    assert finding.problem.endswith(": 0")
    assert ward.is_mended(finding)
    assert ward.client.pttl(keys.due) > 0
    assert ward.bench.recover(handoff).state == "done"


def test_lost_start_is_found(ward):
    """A handoff that nobody began, and that nothing would begin."""
    handoff = ward.bench.submit("one")
    ward.bench.queue.messages.clear()
    ward.client.delete(HandoffKeys.of(handoff.handoff_id).due)
    finding = ward.one("handoff_lost")
    assert finding.problem.endswith(": start")
    assert ward.is_mended(finding)
    ward.bench.pump()
    assert handoff.outcome().state == "done"


def test_handoff_that_no_sweep_knows_of_is_entered(ward):
    """It goes on, and a worker that it lost would never be missed."""
    handoff = ward.bench.submit("one")
    ward.bench.queue.messages.clear()
    ward.client.zrem(OPEN, handoff.handoff_id)
    finding = ward.one("handoff_unlisted")
    assert ward.is_mended(finding)
    assert finding.mend() is False
    assert ward.bench.recover(handoff).state == "done"


def test_handoff_that_ended_meanwhile_is_not_revived(ward):
    """Between the look and the mending it was cancelled: no key of it comes back."""
    handoff = ward.bench.submit("one")
    ward.bench.queue.messages.clear()
    due = HandoffKeys.of(handoff.handoff_id).due
    ward.client.delete(due)
    finding = ward.one("handoff_lost")
    handoff.cancel()
    assert finding.mend() is False
    assert ward.client.exists(due) == 0


def test_agents_without_record_and_records_alone(ward):
    """The index loses whom nothing is known of; a record that nobody sees is deleted."""
    registry = AgentRegistry(ward.client, dead_after_seconds=60)
    whole, empty, unseen, fresh = (
        registry.register("worker", context_capacity=10).agent_id for _ in range(4)
    )
    ward.client.delete(agent_key(empty))
    ward.client.zrem(AGENTS_INDEX, unseen, fresh)
    ward.grow_idle(agent_key(unseen))
    found = {each.kind: each for each in ward.find()}
    assert {kind: each.subject for kind, each in found.items()} == {
        "agent_without_record": empty, "agent_record_alone": unseen,
    }  # fmt: skip
    assert all(each.mend() for each in found.values())
    assert ward.find() == []
    assert [each.agent_id for each in registry.list_all()] == [whole]
    assert ward.client.exists(agent_key(fresh)) == 1


def test_many_keys_cost_no_slow_command(ward):
    """Ten thousand faults of a kind are found and mended in slices, none of them over 5 ms."""
    client = ward.client
    pipeline = client.pipeline(transaction=False)
    for number in range(2_000):
        base = SessionKeys.of(f"gone_{number}").base
        for suffix in ("chunks:0", "chunks:1", "manifests", "metadata", "history"):
            pipeline.set(f"{base}:{suffix}", "x")
        if number % 100 == 99:
            pipeline.execute()
    check = KeyCheck(client, KeyMending(client, ward.store.backstop_ms))
    found = []
    assert slow_commands(client, lambda: found.extend(check.find())) == set()
    assert sum(1 for each in found if each.kind == "orphan_keys") >= 2_000
    mending = KeyMending(client, ward.store.backstop_ms)

    def drop():
        for number in range(2_000):
            names = (":chunks:0", ":chunks:1", ":manifests", ":metadata", ":history")
            mending.drop_orphans(SessionKeys.of(f"gone_{number}"), names)

    assert slow_commands(client, drop) == set()
    assert ward.find() == []


def test_faults_of_one_large_session_cost_no_slow_command(ward):
    """5,000 keys without expiry, lost, beside a tombstone, half deleted: in bounded steps."""
    client, keys = ward.client, SessionKeys.of("large")
    pipeline = client.pipeline(transaction=False)
    chunks = [keys.chunk(number) for number in range(5_000)]

    def plant(**container):
        client.delete(keys.base)
        for each in chunks:
            pipeline.set(each, "x")
        if container:
            pipeline.hset(keys.base, mapping={"state": "live", "next_chunk": "5000", **container})
        pipeline.execute()

    def examine_and_mend(**container):
        plant(**container)
        kinds = set()
        for finding in ward.with_archive(()).examine():
            kinds.add(finding.kind)
            if finding.kind == "orphan_keys":
                suffixes = [each.removeprefix(keys.base) for each in chunks]
                assert ward.mending.drop_orphans(keys, suffixes) == 5_000
            elif finding.mend is not None:
                finding.mend()
        return kinds

    tombstone = {"archived": "1", "shelf": "shelf", "copy": "1", "purge_at": "1"}
    for kind, container in (
        ("orphan_keys", {}),
        ("no_expiry", {"head": "1.0.0"}),
        ("content_beside_tombstone", tombstone),
        ("unfinished_deletion", {"state": "deleting", "deletion": "d"}),
    ):
        kinds = set()
        slow = slow_commands(client, lambda c=container, k=kinds: k.update(examine_and_mend(**c)))
        assert slow == set(), kind
        assert kind in kinds
        client.delete(keys.base, *chunks)


# --- what deletions and the archive leave --------------------------------------------------------


def test_deletion_that_nobody_goes_on_with(ward):
    """It is found once it has rested for a minute, and finished; nothing but the audit stays."""
    ward.store.put("s", "text", agent_id="a")
    keys = SessionKeys.of("s")
    ward.client.hset(keys.base, "next_chunk", 700)  # more than one step deletes
    begun = Script("baton.store", "delete")(ward.client, [keys.base], ["a", "id", "{}"])
    assert begun == [0, 200]
    assert ward.find() == []
    at_ms = int(ward.client.hget(keys.base, "deleting_at"))
    ward.client.hset(keys.base, "deleting_at", at_ms - RESTED_MS)
    assert ward.is_mended(ward.one("unfinished_deletion"))
    left = {key.rpartition(b"}")[2] for key in ward.client.keys(f"{keys.base}*")}
    assert left == {b":audit", b":audit_state", b":deleted"}


def _entomb(ward, session_id="s"):
    """Archived, as far as Redis knows, with what it held still beside the tombstone."""
    ward.store.put(session_id, "text " * 1_000, agent_id="a")
    keys = SessionKeys.of(session_id)
    beside = (keys.metadata, keys.manifests, keys.chunk(0))
    stored = {key: ward.client.dump(key) for key in beside}
    dump = ward.store.moves.dump(keys, "head")
    ward.store.moves.let_go(keys, dump, Copy("shelf", "1"), "archivist", DAY_MS)
    for key, value in stored.items():
        ward.client.restore(key, DAY_MS, value)
    return keys


def test_content_beside_a_tombstone_is_dropped_where_the_archive_has_it(ward):
    """The tombstone and the audit stay."""
    keys = _entomb(ward)
    doctor = ward.with_archive(())
    (found,) = doctor.examine()
    assert (found.kind, found.subject) == ("content_beside_tombstone", "s")
    assert found.problem.endswith("metadata, manifests, chunks")
    assert found.mend() is True
    assert list(doctor.examine()) == []
    left = {key.rpartition(b"}")[2] for key in ward.client.keys(f"{keys.base}*")}
    assert left == {b"", b":version", b":audit", b":audit_state"}


def test_content_beside_a_tombstone_stays_where_it_may_be_all_that_is_left(ward):
    """The archive lacks the copy, cannot be asked, or is not here."""
    keys = _entomb(ward)

    def fails(kind, **_):
        raise ArchiveAnswerError("no answer")

    mending = KeyMending(ward.client, ward.store.backstop_ms)
    deletions = UnfinishedDeletions(ward.client, mending)
    for ask, anywhere, told in (
        (lambda *_, **__: ["s"], True, "does not have its copy"),
        (fails, True, "no answer"),
        (_no_archive, False, "not here"),
    ):
        check = RemainsCheck(ward.client, mending, deletions, ask, lambda here=anywhere: here)
        (found,) = check.find()
        assert found.mend is None
        assert told in found.mending
    assert ward.client.exists(keys.chunk(0))


def test_content_of_a_session_that_came_back_meanwhile_is_no_remains(ward):
    """The script that drops looks again: at whose tombstone it is, and whether it is one."""
    keys = _entomb(ward)
    (found,) = ward.with_archive(()).examine()
    for name, value in (("copy", "2"), ("archived", "0"), ("clearing", "1")):
        before = ward.client.hget(keys.base, name)
        ward.client.hset(keys.base, name, value)
        assert found.mend() is False
        assert ward.client.exists(keys.chunk(0))
        if before is None:
            ward.client.hdel(keys.base, name)
        else:
            ward.client.hset(keys.base, name, before)
    assert found.mend() is True


def test_manual_has_every_kind():
    """Each kind that there is, with its meaning, in the order that they are looked for."""
    manual = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    checks = (KeyCheck, RemainsCheck, DueIndexCheck, HandoffCheck, AgentCheck, ArchiveCheck)
    kinds = [each for check in checks for each in check.kinds.items()]
    rows = [f"| `{kind}` | {meaning} | " for kind, meaning in kinds]
    places = [manual.find(row) for row in rows]
    assert -1 not in places
    assert places == sorted(places)


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def baton(tmp_path, redis_server, redis_client):
    return BatonCommand(tmp_path, "doctor", BATON_REDIS_URL=redis_server.url)


@pytest.fixture
def store(redis_client):
    with contextlib.closing(ContextStore(redis_client)) as store:
        yield store


def test_command_finds_nothing(baton, store):
    """Exit code 0, and a line that says so."""
    store.put("s", "text", agent_id="a")
    assert baton().stdout == b"Nothing was found.\n"
    found = baton.json()
    assert (found["ok"], found["found"], found["findings"]) == (True, 0, [])
    assert {each["kind"] for each in found["kinds"]} >= {"orphan_keys", "missing_rows"}


def test_command_tells_and_mends(baton, store, redis_client):
    """Without --fix 3 and what would be done; with it, that is told and done, and it is 0."""
    store.put("s", "text", agent_id="a")
    redis_client.persist(SessionKeys.of("s").metadata)
    shown = baton(code=3).stdout.decode()
    assert "no_expiry: s has no expiry on metadata" in shown
    assert "--fix gives them the one" in shown
    assert redis_client.pttl(SessionKeys.of("s").metadata) == -1
    told = baton("--fix").stdout.decode()
    assert told.endswith("Found 1 no_expiry; 1 mended, 0 left.\n")
    assert redis_client.pttl(SessionKeys.of("s").metadata) > 0
    assert baton.json()["found"] == 0


def test_command_leaves_what_it_may_not_mend(baton, store, redis_client):
    """Exit code 3 with --fix too: keys in use are told of, and stay."""
    store.put("s", "text", agent_id="a")
    redis_client.delete(SessionKeys.of("s").base)
    found = json.loads(baton("--fix", "--json", code=3).stdout)
    (finding,) = found["findings"]
    assert (found["left"], finding["kind"], finding["outcome"]) == (1, "orphan_keys", "left")
    assert redis_client.exists(SessionKeys.of("s").manifests)


def test_command_tells_of_an_archive_that_is_elsewhere(baton, store, redis_client):
    """Archived sessions, and no archive in reach: told once, and nothing is opened or made."""
    store.put("s", "text", agent_id="a")
    keys = SessionKeys.of("s")
    store.moves.let_go(keys, store.moves.dump(keys, "head"), Copy("shelf", "1"), "a", DAY_MS)
    found = json.loads(baton("--json", code=3).stdout)
    assert [each["kind"] for each in found["findings"]] == ["archive_away"]
    assert not (baton.place / "state" / "archive").exists()


def test_command_fails_without_redis(tmp_path):
    """Exit code 4, and the reason."""
    command = BatonCommand(tmp_path, "doctor", BATON_REDIS_URL=f"unix://{tmp_path}/no.sock")
    assert "error: " in command.error(code=4)


def test_doctor_works_on_a_cluster(cluster):
    """Keys of all nodes are looked at; each is mended where it is."""
    with contextlib.closing(connect(cluster.url, ClientSettings())) as client:
        bench = Bench(client)
        ward = Ward(bench)
        for number in range(10):
            bench.store.put(f"s{number}", "text", agent_id=AGENT)
            client.persist(SessionKeys.of(f"s{number}").metadata)
        AgentRegistry(client, dead_after_seconds=60).register("worker", context_capacity=10)
        handoff = bench.submit("one")
        bench.queue.messages.clear()
        client.delete(HandoffKeys.of(handoff.handoff_id).due)
        _orphan(ward, idle=False)
        found = ward.find()
        kinds = [each.kind for each in found]
        assert (kinds.count("no_expiry"), kinds.count("handoff_lost")) == (10, 1)
        assert kinds.count("orphan_keys") == 1
        assert all(each.mend() for each in found if each.mend is not None)
        assert [each.kind for each in ward.find()] == ["orphan_keys"]
        bench.close()
