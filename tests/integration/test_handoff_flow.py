"""A handoff from submission to its merged version: order, counters, races, one join."""

from __future__ import annotations

import random

import pytest

from baton.errors import (
    BrokerUnavailableError,
    ContextNotFoundError,
    InvalidIdError,
    InvalidInputError,
    VersionNotFoundError,
)
from baton.handoff.keys import INDEX, OPEN
from baton.handoff.request import Limits, TaskSpec
from baton.store.contexts import ContextStore
from handoff_bench import (
    AGENT,
    CONTEXT,
    SESSION,
    Killed,
    Queue,
    check_census,
    check_expiries,
    endings,
    states,
)


def test_handoff_merges_in_slot_order_into_a_new_version(bench):
    """The results stand behind the context in slot order, as the version the outcome names."""
    handoff = bench.run("find the risks", "list the dates", "who decides?")
    outcome = handoff.outcome()
    assert (outcome.state, outcome.version, outcome.base_version) == ("done", "1.0.1", "1.0.0")
    assert handoff.result() == (
        f"## Work log: {handoff.handoff_id} (3 of 3 tasks done, for {AGENT})\n"
        "\n### 1. find the risks\n\nfind the risks: done\n"
        "\n### 2. list the dates\n\nlist the dates: done\n"
        "\n### 3. who decides?\n\nwho decides?: done\n"
    )
    merged = bench.store.get(SESSION, "1.0.1")
    assert merged.content == f"{CONTEXT}\n{handoff.result()}"
    assert merged.author == AGENT
    assert handoff.node_result("1") == "list the dates: done"


def test_handoff_counters_add_up_after_every_message(bench):
    """After each message the counters are those of the nodes, and every key has an expiry."""
    handoff = bench.submit("a", "b", "c", "d")
    bench.after = lambda: (
        check_census(bench.client, handoff.handoff_id),
        check_expiries(bench.client),
    )
    bench.after()
    bench.pump()
    assert handoff.outcome().census.as_dict()["ok"] == 4


def test_handoff_of_one_task_is_done(bench):
    """One task is a handoff like any other."""
    outcome = bench.run("only").outcome()
    assert (outcome.state, outcome.census["ok"], outcome.census.total) == ("done", 1, 1)


def test_handoff_of_a_thousand_nodes_runs_each_once(bench):
    """A thousand nodes on eight threads: each ends once, in order, in one new version."""
    tasks = [f"task {number}" for number in range(1000)]
    handoff = bench.run(*tasks, workers=8)
    outcome = handoff.outcome()
    assert (outcome.state, outcome.census["ok"]) == ("done", 1000)
    assert set(endings(handoff).values()) == {1}
    assert [node.instruction for node in handoff.nodes()] == tasks
    section = handoff.result()
    places = [section.index(f"\n### {slot + 1}. task {slot}\n") for slot in range(1000)]
    assert places == sorted(places)
    assert [record.version for record in bench.store.history(SESSION)] == ["1.0.1", "1.0.0"]


def test_handoff_with_every_message_thrice_and_shuffled_joins_once(make_bench):
    """Duplicates in any order: each node ends once, and one version comes of them."""
    for seed in range(3):
        bench = make_bench(queue=Queue(copies=3, shuffle=random.Random(seed)))
        handoff = bench.run(*[f"task {n}" for n in range(20)], workers=4)
        assert handoff.outcome().state == "done"
        assert set(endings(handoff).values()) == {1}
        assert [node.attempt for node in handoff.nodes()] == [1] * 20
        assert bench.store.get(SESSION).content.count(handoff.handoff_id) == 1
        assert len(bench.store.history(SESSION)) == seed + 2


def test_join_once_though_the_joiner_dies_after_its_commit(bench, monkeypatch):
    """The context commit is the handoff's own: a second joiner finds it done."""
    handoff = bench.submit("a", "b")
    monkeypatch.setattr(bench.tree, "finish_join", dies_once(bench.tree.finish_join))
    bench.pump()
    assert handoff.outcome().state == "joining"
    assert bench.store.resolve_version(SESSION) == "1.0.1"
    bench.store.put(SESSION, "Another writer came.", agent_id="other", base_version="1.0.1")
    outcome = bench.recover(handoff)
    assert (outcome.state, outcome.version) == ("done", "1.0.1")
    assert bench.store.resolve_version(SESSION) == "1.0.2"
    assert not bench.is_open(handoff)


def test_join_that_never_ends_fails_the_handoff_after_its_attempts(bench, monkeypatch):
    """A join that kills its worker is not tried for ever."""
    handoff = bench.submit("a", limits=Limits(max_attempts=3))
    monkeypatch.setattr(bench.tree, "finish_join", dies)
    bench.pump()
    outcome = bench.recover(handoff)
    assert (outcome.state, outcome.error_type) == ("failed", "LostError")
    assert handoff.node_result("0") == "a: done"
    bench.engine.sweep()
    assert not bench.is_open(handoff)


def test_join_of_a_late_joiner_is_refused(bench):
    """Whoever took the join after it decides; the first's end is not recorded."""
    handoff = bench.submit("a")
    bench.queue.drops = lambda message: message.kind == "join"
    bench.pump()
    first = bench.tree.claim_join(handoff.handoff_id, "frozen")
    assert bench.tree.claim_join(handoff.handoff_id, "eager") is None
    bench.pass_time(handoff)
    second = bench.tree.claim_join(handoff.handoff_id, "next")
    assert second == first + 1
    assert not bench.tree.finish_join(handoff.handoff_id, first, "failed", {})
    assert bench.tree.finish_join(handoff.handoff_id, second, "done", {}, "text")
    assert bench.tree.finish_join(handoff.handoff_id, second, "done", {}, "text")
    assert handoff.outcome().state == "done"


def test_join_appends_behind_what_others_wrote_meanwhile(make_bench):
    """The nodes read the version handed off; the merge goes behind the newest head."""
    seen = []
    bench = make_bench(
        {"look": lambda given: seen.append((given.context_version, given.context)) or "seen"}
    )
    handoff = bench.submit(TaskSpec(instruction="look", runner="look"))
    bench.store.put(SESSION, "Quite another text", agent_id="other")
    bench.pump()
    assert seen == [("1.0.0", CONTEXT)]
    assert handoff.outcome().version == "1.0.2"
    assert bench.store.get(SESSION).content == f"Quite another text\n\n{handoff.result()}"


def test_join_of_a_deleted_session_fails_and_keeps_the_results(bench):
    """Where the context went meanwhile, the handoff says so and the results can be had."""
    handoff = bench.submit("a")
    bench.store.delete(SESSION, agent_id=AGENT)
    bench.pump()
    outcome = handoff.outcome()
    assert (outcome.state, outcome.error_type) == ("failed", "ContextNotFoundError")
    assert handoff.node_result("0") == "a: done"


def test_join_without_merge_writes_no_version(bench):
    """`none` leaves the session alone; the work log can still be read."""
    handoff = bench.run("a", merge="none")
    assert (handoff.outcome().state, handoff.outcome().version) == ("done", None)
    assert bench.store.resolve_version(SESSION) == "1.0.0"
    assert "a: done" in handoff.result()


def test_join_with_a_damaged_result_fails_and_serves_nothing(bench):
    """A stored result that is not what was stored never reaches the context."""
    handoff = bench.submit("a", "b")
    bench.queue.drops = lambda message: message.kind == "join"
    bench.pump()
    key = f"handoff:{{{handoff.handoff_id}}}:results:1"
    bench.client.setrange(key, 40, b"\xff\xff")
    bench.queue.drops = None
    outcome = bench.recover(handoff)
    assert (outcome.state, outcome.error_type) == ("failed", "ContextCorruptError")
    assert bench.store.resolve_version(SESSION) == "1.0.0"


def test_join_with_a_lost_result_fails(bench):
    """A result that is gone is said to be gone."""
    handoff = bench.submit("a", "b")
    bench.queue.drops = lambda message: message.kind == "join"
    bench.pump()
    bench.client.delete(f"handoff:{{{handoff.handoff_id}}}:results:1")
    bench.queue.drops = None
    outcome = bench.recover(handoff)
    assert (outcome.state, outcome.error) == ("failed", "the stored result of node 1 is gone")


def test_messages_of_an_unknown_handoff_change_nothing(bench):
    """Messages may outlive their handoff, or be forged: no error, no key."""
    before = set(bench.client.keys())
    assert bench.engine.launch("handoff_gone") == []
    assert bench.engine.run_node("handoff_gone", "0").state == "gone"
    assert bench.engine.join("handoff_gone") == "gone"
    assert set(bench.client.keys()) == before
    for bad in ("*", "a}b", "../x", ""):
        with pytest.raises(InvalidIdError):
            bench.engine.run_node(bad, "0")
    with pytest.raises(InvalidIdError):
        bench.engine.run_node("handoff_gone", "0:then")


def test_messages_of_an_unknown_node_change_nothing(bench):
    """A node that is not in the plan is not run."""
    handoff = bench.run("a")
    assert bench.engine.run_node(handoff.handoff_id, "7").state == "done"
    other = bench.submit("a")
    assert bench.engine.run_node(other.handoff_id, "7").state == "gone"
    assert len(other.nodes()) == 1


def test_submit_survives_a_broker_that_is_down(bench):
    """The handoff is recorded before it is published; the sweep starts it."""
    bench.queue.down = BrokerUnavailableError
    handoff = bench.submit("a")
    assert not bench.queue.published
    bench.queue.down = None
    assert bench.recover(handoff).state == "done"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tasks": []}, "tasks"),
        ({"tasks": ["fine", "  "]}, "tasks.1.instruction"),
        ({"tasks": ["\ud800"]}, "tasks.0.instruction"),
        ({"tasks": [7]}, "tasks.0.instruction"),
        ({"tasks": ["x" * 100_001]}, "tasks.0.instruction"),
        ({"merge": "three"}, "merge"),
        ({"agent_id": "a b"}, "agent_id"),
        ({"limits": Limits(max_nodes=1), "tasks": ["a", "b"]}, "tasks"),
    ],
)
def test_submit_of_a_wrong_field_writes_nothing(bench, fields, named):
    """A refused handoff names its field and leaves Redis as it was."""
    before = set(bench.client.keys())
    given = {"tasks": ["a"], "agent_id": AGENT, **fields}
    with pytest.raises(InvalidInputError) as refused:
        bench.handoffs.submit(SESSION, given.pop("tasks"), **given)
    assert refused.value.field == named
    assert set(bench.client.keys()) == before


def test_submit_of_what_is_not_there_is_refused(bench):
    """There must be a context, at that version."""
    with pytest.raises(ContextNotFoundError):
        bench.handoffs.submit("session_none", ["a"], agent_id=AGENT)
    with pytest.raises(VersionNotFoundError):
        bench.submit("a", context_version="3.0.0")


def test_short_retention_of_one_handoff_spares_the_others(bench):
    """The indexes are shared: a handoff that is kept a minute must not take others with it."""
    first = bench.submit("a")
    bench.submit("b", limits=Limits(retention_seconds=60))
    assert bench.client.ttl(OPEN) > 7 * 86_400
    assert bench.client.ttl(INDEX) > 7 * 86_400
    bench.client.zincrby(INDEX, -3600, first.handoff_id)
    bench.submit("c", limits=Limits(retention_seconds=60))
    assert first.handoff_id in {outcome.handoff_id for outcome in bench.handoffs.newest()}


def test_nodes_read_the_context_and_their_place(make_bench):
    """What an assignment offers is what the handoff says."""
    seen = {}

    def look(assignment):
        seen.update(
            place=(assignment.handoff_id, assignment.node_id, assignment.session_id),
            version=assignment.context_version,
            context=assignment.context,
            hash=assignment.context_hash,
            rest=(assignment.attempt, tuple(assignment.children), assignment.draft),
        )
        assert 0 < assignment.seconds_left <= 60
        assert not assignment.cancelled
        assignment.raise_if_cancelled()
        return ""

    bench = make_bench({"look": look})
    handoff = bench.run(TaskSpec(instruction="x", runner="look"))
    assert seen == {
        "place": (handoff.handoff_id, "0", SESSION),
        "version": "1.0.0",
        "context": CONTEXT,
        "hash": bench.store.get(SESSION, "1.0.0").content_hash,
        "rest": (1, (), ""),
    }
    assert states(handoff) == {"0": "ok"}
    assert handoff.node_result("0") == ""


def test_ended_handoffs_leave_the_sweeps_list(bench):
    """What has ended is not looked at for ever; what was never opened neither."""
    handoff = bench.run("a")
    assert not bench.is_open(handoff)
    bench.client.zadd(OPEN, {"handoff_unopened": 1, "handoff_opening": 9_999_999_999})
    bench.client.expire(OPEN, 60)
    bench.engine.sweep()
    assert bench.client.zrange(OPEN, 0, -1) == [b"handoff_opening"]


def dies(*_args, **_fields):
    raise Killed


def dies_once(method):
    calls = []

    def call(*args, **fields):
        calls.append(args)
        if len(calls) == 1:
            raise Killed
        return method(*args, **fields)

    return call


def test_open_handoff_keeps_the_version_its_nodes_read(bench):
    """However many versions are written and collected meanwhile; then it lets go."""
    store = ContextStore(bench.client, keep_versions=1)
    handoff = bench.submit("work")
    store.put(SESSION, "newer", agent_id="b")
    assert store.collect(SESSION, agent_id=AGENT).versions == ()
    bench.pump()
    assert handoff.outcome().state == "done"
    newest = store.history(SESSION)[0].version
    store.put(SESSION, "newest", agent_id=AGENT, base_version=newest)
    assert "1.0.0" in store.collect(SESSION, agent_id=AGENT).versions
    store.close()
