"""Children: spawning, waiting for them, going on, limits, and workers that die in between."""

from __future__ import annotations

import random

import pytest

from baton.agents.runner import ChildTask
from baton.errors import FencedError, InvalidIdError, SpawnLimitError
from baton.handoff.claims import Ending
from baton.handoff.keys import HandoffKeys
from baton.handoff.request import Limits, TaskSpec
from handoff_bench import (
    Killed,
    Queue,
    check_census,
    check_expiries,
    each_alone,
    endings,
    node_of,
    published,
    states,
)


def by(runner, text="it"):
    return TaskSpec(instruction=text, runner=runner)


def spawning(*children, then=None, text="draft", collected=None):
    """A runner that spawns at its first run, and joins its children's results at its second."""

    def run(assignment):
        if assignment.children:
            if collected is not None:
                collected.extend(assignment.children)
            return " + ".join(child.content for child in assignment.children)
        assignment.spawn(children, then=then)
        return text

    return run


def test_children_without_then_make_up_the_result(make_bench):
    """The parent's own text, then its children's, failed ones with their reason."""

    def fail(_assignment):
        raise ValueError("no data")

    children = (ChildTask("first", "work"), ChildTask("second", "fail"))
    bench = make_bench({"lead": spawning(*children), "fail": fail})
    handoff = bench.run(by("lead"))
    assert handoff.node_result("0") == (
        "draft\n\n#### 0.0: first\n\nfirst: done\n\n"
        "#### 0.1: second\n\n_No result: this task was failed (ValueError: no data)._"
    )
    assert states(handoff) == {"0": "ok", "0.0": "ok", "0.1": "failed"}
    outcome = handoff.outcome()
    assert (outcome.state, outcome.census.total) == ("degraded", 3)


def test_children_with_then_are_given_to_the_continuation(make_bench):
    """The runner goes on with `then` as instruction, its draft, and the results in slot order."""
    seen = {}

    def lead(assignment):
        if not assignment.children:
            assignment.spawn([ChildTask("a", "work"), ChildTask("b", "work")], then="sum up")
            return "my draft"
        seen.update(instruction=assignment.instruction, draft=assignment.draft)
        seen.update(attempt=assignment.attempt, children=assignment.children)
        return "summed up"

    handoff = make_bench({"lead": lead}).run(by("lead"))
    assert (seen["instruction"], seen["draft"], seen["attempt"]) == ("sum up", "my draft", 1)
    told = [(child.node_id, child.state, child.content) for child in seen["children"]]
    assert told == [("0.0", "ok", "a: done"), ("0.1", "ok", "b: done")]
    assert handoff.node_result("0") == "summed up"
    assert [node.node_id for node in handoff.nodes()] == ["0", "0.0", "0.1"]
    assert node_of(handoff, "0.1").parent_id == "0"
    assert handoff.outcome().state == "done"


@pytest.mark.parametrize("copies", [1, 2])
def test_children_two_levels_deep_end_once_each(make_bench, copies):
    """Grandchildren, with every message doubled and shuffled: counters add up at every step."""
    queue = Queue(copies=copies, shuffle=random.Random(copies))
    bench = make_bench(
        {
            "lead": spawning(ChildTask("m", "mid"), ChildTask("n", "mid"), then="sum"),
            "mid": spawning(ChildTask("x", "work"), ChildTask("y", "work")),
        },
        queue=queue,
    )
    handoff = bench.submit(by("lead"), by("lead"), "plain")
    bench.after = lambda: (
        check_census(bench.client, handoff.handoff_id),
        check_expiries(bench.client),
    )
    bench.pump()
    outcome = handoff.outcome()
    assert (outcome.state, outcome.census["ok"]) == ("done", 15)
    assert set(endings(handoff).values()) == {1}
    assert handoff.node_result("0").count("draft") == 2
    assert handoff.node_result("0").count(": done") == 4
    ids = [node.node_id for node in handoff.nodes()]
    assert ids[:8] == ["0", "0.0", "0.0.0", "0.0.1", "0.1", "0.1.0", "0.1.1", "1"]


def test_continuation_that_spawns_again_goes_on_counting_slots(make_bench):
    """Children of the second spawn stand behind those of the first; all results are given."""

    def lead(assignment):
        if len(assignment.children) == 4:
            return ",".join(child.instruction for child in assignment.children)
        step = len(assignment.children) // 2
        tasks = [ChildTask(f"{step}{letter}", "work") for letter in "ab"]
        assignment.spawn(tasks, then=f"step {step + 1}")
        return f"draft {step}"

    handoff = make_bench({"lead": lead}).run(by("lead"))
    assert states(handoff) == dict.fromkeys(["0", "0.0", "0.1", "0.2", "0.3"], "ok")
    assert handoff.node_result("0") == "0a,0b,1a,1b"
    assert node_of(handoff).child_count == 4


def test_spawn_calls_add_up_and_the_last_then_counts(make_bench):
    """Several calls are one spawn."""

    def lead(assignment):
        if assignment.children:
            return f"{assignment.instruction}: {len(assignment.children)}"
        assignment.spawn([ChildTask("a", "work")], then="early")
        assignment.spawn([ChildTask("b", "work")], then="late")
        assignment.spawn([ChildTask("c", "work")])
        return ""

    assert make_bench({"lead": lead}).run(by("lead")).node_result("0") == "late: 3"


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (Limits(max_depth=1), "handoff_max_depth leaves 1, this would need 2"),
        (Limits(max_children=2), "handoff_max_children leaves 2, this would need 3"),
        (Limits(max_nodes=3), "handoff_max_nodes leaves 2, this would need 3"),
    ],
)
def test_spawn_beyond_a_limit_fails_the_node_and_writes_nothing(make_bench, limits, named):
    """The limit is named in the node's error; not one child exists."""
    children = [ChildTask(text, "work") for text in "abc"]
    bench = make_bench({"lead": spawning(*children)}, limits=limits)
    handoff = bench.run(by("lead"))
    node = node_of(handoff)
    assert (node.state, node.error_type) == ("failed", "SpawnLimitError")
    assert named in node.error
    assert handoff.outcome().refused_children == 3
    assert [node.node_id for node in handoff.nodes()] == ["0"]
    assert handoff.outcome().census.total == 1


def test_spawn_races_for_the_last_nodes_are_decided_by_the_tree(bench):
    """Two claims saw room for two each; the second to suspend is refused, whole."""
    handoff = bench.submit("a", "b", limits=Limits(max_nodes=5))
    first, second = bench.claim(handoff, "0"), bench.claim(handoff, "1")
    two = each_alone("xy")
    assert first.nodes_left == second.nodes_left == 3
    assert published(bench.tree.suspend(first, two, "", "")) == ["0.0", "0.1"]
    with pytest.raises(SpawnLimitError, match="handoff_max_nodes is 5"):
        bench.tree.suspend(second, two, "", "")
    assert states(handoff) == {
        "0": "suspended", "0.0": "waiting", "0.1": "waiting", "1": "leased",
    }  # fmt: skip
    assert handoff.outcome().refused_children == 2
    check_census(bench.client, handoff.handoff_id)


def test_refused_spawn_leaves_nothing_to_a_smaller_one(bench):
    """What was staged for too many children is not mixed into the next try's plan."""
    handoff = bench.submit("a", limits=Limits(max_nodes=3))
    claim = bench.claim(handoff)
    with pytest.raises(SpawnLimitError):
        bench.tree.suspend(claim, each_alone("uvwx"), "", "")
    assert published(bench.tree.suspend(claim, each_alone("yz"), "", "")) == ["0.0", "0.1"]
    assert [node.instruction for node in handoff.nodes()] == ["a", "y", "z"]
    check_census(bench.client, handoff.handoff_id)


def test_spawn_storm_ends_at_its_limits(make_bench):
    """Children that spawn without end stop at depth and number; the handoff still ends."""

    def storm(assignment):
        assignment.spawn(["again", "again"])
        return ""

    bench = make_bench({"storm": storm}, limits=Limits(max_depth=5, max_nodes=20))
    handoff = bench.run(by("storm"), workers=4)
    outcome = handoff.outcome()
    assert outcome.ended
    assert outcome.census.total <= 20
    errors = [node.error_type for node in handoff.nodes() if node.state == "failed"]
    assert set(errors) == {"SpawnLimitError"}
    assert outcome.refused_children == 2 * len(errors)


def test_refusal_that_a_runner_makes_do_with_is_counted_all_the_same(make_bench):
    """Storms can be seen also where every node is ok."""

    def greedy(assignment):
        with pytest.raises(SpawnLimitError):
            assignment.spawn(["x"] * 5)
        if not assignment.children:
            assignment.spawn([ChildTask("x", "work")], then="on")
        return "made do"

    handoff = make_bench({"greedy": greedy}, limits=Limits(max_children=3)).run(by("greedy"))
    outcome = handoff.outcome()
    assert (outcome.state, outcome.refused_children) == ("done", 10)


@pytest.mark.parametrize(
    ("tasks", "fields", "error"),
    [
        ("abc", {}, "InvalidInputError"),
        (["fine", " "], {}, "InvalidInputError"),
        (["\ud800"], {}, "InvalidTextError"),
        ([3], {}, "InvalidInputError"),
        ([ChildTask("x", "no such\nname")], {}, "InvalidInputError"),
        ([ChildTask("x", "\ud800")], {}, "InvalidInputError"),
        (["x"], {"then": ""}, "InvalidInputError"),
        ([], {"then": "never"}, "InvalidInputError"),
    ],
)
def test_spawn_of_nonsense_fails_the_node(make_bench, tasks, fields, error):
    """What cannot be a child is refused at the call, and no child is written."""

    def lead(assignment):
        assignment.spawn(tasks, **fields)
        return ""

    handoff = make_bench({"lead": lead}).run(by("lead"))
    assert (node_of(handoff).state, node_of(handoff).error_type) == ("failed", error)
    assert len(handoff.nodes()) == 1


def test_refused_spawn_that_the_runner_catches_spawns_nothing(make_bench):
    """A call that raised left no trace: the node ends with its own text."""

    def lead(assignment):
        try:
            assignment.spawn([ChildTask("x", "work")], then=" ")
        except ValueError:
            return "alone"

    handoff = make_bench({"lead": lead}).run(by("lead"))
    assert handoff.node_result("0") == "alone"
    assert len(handoff.nodes()) == 1


def test_thousand_children_in_one_spawn(make_bench):
    """All of them are written at once, run, and handed back in order."""
    collected = []
    children = [ChildTask(f"c{number}", "work") for number in range(1_000)]
    bench = make_bench({"lead": spawning(*children, then="sum", collected=collected)})
    handoff = bench.run(by("lead"), workers=4)
    assert handoff.outcome().census["ok"] == 1_001
    assert [child.content for child in collected] == [f"c{n}: done" for n in range(1_000)]
    assert set(endings(handoff).values()) == {1}


def test_worker_that_dies_before_it_publishes_the_children_loses_none(make_bench):
    """Suspension and plan are one script; what was not published is found by the sweep."""
    bench = make_bench({"lead": spawning(ChildTask("a", "work"), ChildTask("b", "work"))})
    handoff = bench.submit(by("lead"))
    assert bench.engine.run_node(handoff.handoff_id, "0").children == (("0.0",), ("0.1",))
    bench.queue.messages.clear()
    assert states(handoff) == {"0": "suspended", "0.0": "waiting", "0.1": "waiting"}
    assert bench.engine.run_node(handoff.handoff_id, "0").state == "suspended"
    assert bench.engine.sweep() == 0
    outcome = bench.recover(handoff)
    assert (outcome.state, outcome.census["ok"]) == ("done", 3)


def test_suspended_node_is_not_swept(bench):
    """It has no lease that could lapse, however long its children take."""
    handoff = bench.submit("a")
    bench.queue.messages.clear()
    claim = bench.claim(handoff)
    bench.tree.suspend(claim, each_alone(["child"]), "", "")
    child = bench.claim(handoff, "0.0")
    due = bench.client.zrange(HandoffKeys.of(handoff.handoff_id).due, 0, -1)
    assert set(due) == {b"0.0", b"start"}
    bench.pass_time(handoff, "start", "0")
    bench.engine.sweep()
    assert states(handoff) == {"0": "suspended", "0.0": "leased"}
    bench.tree.finish(child, "failed", Ending("ValueError", "x"))
    assert states(handoff) == {"0": "waiting", "0.0": "failed"}
    assert bench.recover(handoff).state == "degraded"


def test_suspend_asked_twice_is_once(bench):
    """A lost answer: the same children, not twice as many; also after they have started."""
    handoff = bench.submit("a")
    claim = bench.claim(handoff)
    children = each_alone("xy")
    assert published(bench.tree.suspend(claim, children, "on", "draft")) == ["0.0", "0.1"]
    assert published(bench.tree.suspend(claim, children, "on", "draft")) == ["0.0", "0.1"]
    bench.tree.finish(bench.claim(handoff, "0.0"), "ok", Ending(), "x")
    assert published(bench.tree.suspend(claim, children, "on", "draft")) == ["0.1"]
    assert handoff.outcome().census.as_dict()["total"] == 3
    check_census(bench.client, handoff.handoff_id)
    with pytest.raises(FencedError):
        bench.tree.finish(claim, "ok", Ending(), "late")


def test_continuation_with_a_damaged_childs_result_fails(make_bench):
    """What a child stored is verified before the parent sees it."""
    bench = make_bench({"lead": spawning(ChildTask("a", "work"), then="sum")})
    handoff = bench.submit(by("lead"))
    bench.engine.run_node(handoff.handoff_id, "0")
    bench.engine.run_node(handoff.handoff_id, "0.0")
    bench.client.setrange(HandoffKeys.of(handoff.handoff_id).result("0.0"), 40, b"\xff")
    bench.pump()
    node = node_of(handoff)
    assert (node.state, node.error_type) == ("failed", "ContextCorruptError")
    assert handoff.outcome().state == "failed"


def test_continuation_of_a_dead_worker_runs_again_with_its_children(make_bench):
    """A worker lost in the continuation costs an attempt, not the children."""
    runs = []

    def lead(assignment):
        runs.append((assignment.attempt, len(assignment.children)))
        if not assignment.children:
            assignment.spawn([ChildTask("a", "work")], then="sum")
            return ""
        if assignment.attempt == 1:
            raise Killed
        return "summed"

    bench = make_bench({"lead": lead})
    handoff = bench.run(by("lead"))
    assert bench.recover(handoff).state == "done"
    assert runs == [(1, 0), (1, 1), (2, 1)]
    assert endings(handoff) == {"0": 1, "0.0": 1}


def test_node_ids_beyond_the_tree_are_refused():
    """A node's keys can only be those of a slot path."""
    keys = HandoffKeys.of("handoff_1")
    for bad in ("", "a", "0:then", "0..1", "01", "-1", ".".join("0" * 17), "1000000", "0\n"):
        with pytest.raises(InvalidIdError):
            keys.result(bad)
