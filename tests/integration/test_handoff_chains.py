"""Children in sequence: each has the result of the one before, and none begins behind a failure."""

from __future__ import annotations

import pytest

from baton.agents.runner import ChildChain, ChildTask
from baton.errors import InvalidInputError, SpawnLimitError
from baton.handoff.claims import Ending, Refusal
from handoff_bench import Killed, Queue, check_census, check_expiries, endings, node_of, states


def add(assignment):
    """Writes its letter behind what came before."""
    return f"{assignment.previous}{assignment.instruction}"


def fail(_assignment):
    raise ValueError("no luck")


def chain(*letters, runner="add"):
    return ChildChain([ChildTask(letter, runner) for letter in letters])


def lead(*tasks):
    def run(assignment):
        if assignment.children:
            return "|".join(f"{child.state}:{child.content}" for child in assignment.children)
        assignment.spawn(tasks, then="collect")
        return ""

    return run


def run_lead(make_bench, *tasks, queue=None, **runners):
    runners = {"lead": lead(*tasks), "add": add, "fail": fail, **runners}
    bench = make_bench(runners, queue=queue)
    return bench, bench.run(ChildTask("x", "lead"))


def test_each_of_a_chain_has_the_result_of_the_one_before(make_bench):
    """They run one after the other, beside other children; the parent sees all in slot order."""
    tasks = [ChildTask("solo", "add"), chain("a", "b", "c"), chain("x", "y")]
    bench, handoff = run_lead(make_bench, *tasks)
    assert handoff.node_result("0") == "ok:solo|ok:a|ok:ab|ok:abc|ok:x|ok:xy"
    order = [event.node_id for event in handoff.events() if event.state == "ok"]
    assert order.index("0.1") < order.index("0.2") < order.index("0.3")
    assert handoff.outcome().state == "done"
    check_census(bench.client, handoff.handoff_id)
    check_expiries(bench.client)


def test_those_behind_a_failure_are_skipped_and_the_parent_goes_on(make_bench):
    broken = ChildChain([ChildTask("a", "add"), ChildTask("b", "fail"), "c", "d"])
    bench, handoff = run_lead(make_bench, broken, chain("x"))
    assert handoff.node_result("0") == "ok:a|failed:|skipped:|skipped:|ok:x"
    assert handoff.outcome().state == "degraded"
    check_census(bench.client, handoff.handoff_id)
    assert set(endings(handoff).values()) == {1}


def test_node_of_a_chain_may_spawn_and_the_next_waits_for_all_of_it(make_bench):
    def grow(assignment):
        if assignment.children:
            return f"{assignment.previous}({assignment.children[0].content})"
        assignment.spawn([ChildTask("leaf", "add")], then="on")
        return ""

    tasks = ChildChain([ChildTask("a", "add"), ChildTask("b", "grow"), ChildTask("c", "add")])
    _, handoff = run_lead(make_bench, tasks, grow=grow)
    assert handoff.node_result("0") == "ok:a|ok:a(leaf)|ok:a(leaf)c"


@pytest.mark.parametrize("seed", range(4))
def test_lost_doubled_and_shuffled_messages_change_no_chain(make_bench, seed):
    """Celery's own chain may bring the next too early, twice, or never."""
    import random

    rng = random.Random(seed)
    queue = Queue(copies=2, shuffle=rng, drops=lambda _message: rng.random() < 0.4)
    bench, handoff = run_lead(make_bench, chain("a", "b", "c"), chain("x", "y"), queue=queue)
    assert bench.recover(handoff).state == "done"
    assert handoff.node_result("0") == "ok:a|ok:ab|ok:abc|ok:x|ok:xy"
    assert set(endings(handoff).values()) == {1}
    check_census(bench.client, handoff.handoff_id)


def test_worker_that_dies_right_after_a_link_leaves_the_next_to_the_sweep(bench):
    """Committed, not published: the next is due all the same."""
    handoff = bench.submit("a")
    claim = bench.claim(handoff)
    bench.tree.suspend(claim, [[ChildTask("a"), ChildTask("b")]], "", "")
    assert isinstance(bench.tree.claim(handoff.handoff_id, "0.1", "w"), Refusal)
    first = bench.claim(handoff, "0.0")
    ended = bench.tree.finish(first, "ok", Ending(), "a")
    assert ended == bench.tree.finish(first, "ok", Ending(), "a")
    assert [(move.kind, move.node_id) for move in ended[1]] == [("next", "0.1")]
    bench.queue.messages.clear()
    assert bench.recover(handoff).state == "done"
    assert bench.queue.kinds()["run"] >= 1


def test_link_whose_worker_is_lost_runs_again_with_the_same_result_before_it(make_bench):
    deaths = []

    def die_once(assignment):
        if not deaths:
            deaths.append(assignment.previous)
            raise Killed
        return add(assignment)

    tasks = ChildChain([ChildTask("a", "add"), ChildTask("b", "once"), ChildTask("c", "add")])
    bench, handoff = run_lead(make_bench, tasks, once=die_once)
    assert bench.recover(handoff).state == "done"
    assert deaths == ["a"]
    assert handoff.node_result("0") == "ok:a|ok:ab|ok:abc"


def test_cancelled_handoff_ends_what_is_behind_in_a_chain(bench):
    handoff = bench.submit("a")
    claim = bench.claim(handoff)
    bench.tree.suspend(claim, [[ChildTask("a"), ChildTask("b"), ChildTask("c")]], "", "")
    running = bench.claim(handoff, "0.0")
    assert handoff.cancel() == "running"
    bench.tree.finish(running, "ok", Ending(), "late")
    assert set(states(handoff).values()) == {"cancelled"}
    assert handoff.outcome().state == "cancelled"
    check_census(bench.client, handoff.handoff_id)


def test_retry_of_a_link_takes_those_behind_along(make_bench):
    """One alone that waits for another that failed is refused."""
    luck = []

    def unlucky(assignment):
        if not luck:
            raise ValueError("no luck")
        return add(assignment)

    tasks = ChildChain([ChildTask("a", "add"), ChildTask("b", "unlucky"), ChildTask("c", "add")])
    bench, handoff = run_lead(make_bench, tasks, unlucky=unlucky)
    assert states(handoff)["0.2"] == "skipped"
    with pytest.raises(InvalidInputError, match=r"node 0\.1"):
        bench.handoffs.retry(handoff.handoff_id, "0.2")
    luck.append(True)
    bench.handoffs.retry(handoff.handoff_id, "0.1")
    bench.pump()
    assert handoff.outcome().state == "done"
    assert handoff.node_result("0") == "ok:a|ok:ab|ok:abc"
    assert node_of(handoff, "0.0").attempt == 1
    check_census(bench.client, handoff.handoff_id)


def test_every_link_counts_against_the_limits(make_bench):
    """A chain is no way around them."""
    refused = []

    def greedy(assignment):
        try:
            assignment.spawn([chain(*"x" * 1_001)])
        except SpawnLimitError as error:
            refused.append(str(error))
        return ""

    make_bench({"greedy": greedy}).run(ChildTask("x", "greedy"))
    assert "handoff_max_children leaves 1000" in refused[0]


@pytest.mark.parametrize(
    ("tasks", "field"),
    [
        ([ChildChain([])], r"tasks\[0\].tasks"),
        (["a", ChildChain(["b", ""])], r"tasks\[1\].tasks\[1\]"),
        ([ChildChain("abc")], "tasks"),
        ([ChildChain([ChildTask("b", "no such name!")])], r"tasks\[0\].tasks\[0\].runner"),
    ],
    ids=["empty", "empty_link", "letters", "runner"],
)
def test_chain_that_is_none_is_refused_by_its_place(make_bench, tasks, field):
    errors = []

    def wrong(assignment):
        with pytest.raises(InvalidInputError, match=field):
            assignment.spawn(tasks)
        errors.append(True)
        return ""

    make_bench({"wrong": wrong}).run(ChildTask("x", "wrong"))
    assert errors == [True]
