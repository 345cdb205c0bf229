"""A handoff publishes a window of its nodes at a time: others have their turn between."""

from __future__ import annotations

import pytest

from baton.agents.runner import ChildChain, ChildTask
from baton.errors import InvalidInputError
from baton.handoff.keys import HandoffKeys
from baton.handoff.request import Limits
from handoff_bench import Killed, check_census, check_expiries, endings, states

NARROW = Limits(lease_seconds=30, node_timeout_seconds=60, window=5)


def run_messages(bench):
    return sum(message.kind == "run" for message in bench.queue.messages)


def next_run(bench):
    """The next message of the agents' queue; those of other queues have been handled."""
    for message in [each for each in bench.queue.messages if each.kind != "run"]:
        bench.queue.messages.remove(message)
        bench.handle(message)
    return bench.queue.take()


def waits_in_front(bench, handoff):
    """How many messages a worker takes before the handoff's first node."""
    kinds = [(each.kind, each.handoff_id) for each in bench.queue.messages]
    return kinds.index(("run", handoff.handoff_id))


def test_ten_thousand_nodes_hold_up_a_single_one_by_a_window(make_bench):
    """Their messages are a window's, so a later handoff's node is behind those only."""
    bench = make_bench()
    large = bench.submit(*[f"task {n}" for n in range(10_000)])
    bench.handle(bench.queue.take())
    single = bench.submit("alone")
    bench.queue.messages.rotate(1)  # the start has a queue of its own
    bench.handle(bench.queue.take())
    assert waits_in_front(bench, single) == 128
    for _ in range(129):
        bench.handle(next_run(bench))
        assert run_messages(bench) <= 129
    assert states(single) == {"0": "ok"}
    assert large.outcome().census["ok"] == 128
    assert run_messages(bench) in range(96, 129)
    assert bench.client.zcard(HandoffKeys.of(large.handoff_id).due) in range(96, 130)
    large.cancel()
    bench.pump()
    assert large.outcome().state == "cancelled"
    check_census(bench.client, large.handoff_id)


def test_every_node_of_a_wide_handoff_runs_once(make_bench):
    bench = make_bench(limits=NARROW)
    handoff = bench.run(*[f"task {n}" for n in range(40)], workers=3)
    assert handoff.outcome().state == "done"
    assert endings(handoff) == {str(slot): 1 for slot in range(40)}
    assert bench.queue.kinds()["run"] == 40
    check_expiries(bench.client)


def test_children_beyond_the_window_run_branch_by_branch(make_bench):
    """Twenty nodes with twenty children each: few are half-way at any time."""
    halfway = []

    def lead(assignment):
        if not assignment.children:
            assignment.spawn([ChildTask(str(n), "leaf") for n in range(20)], then="sum")
        return str(len(assignment.children))

    def leaf(_assignment):
        halfway.append(handoff.outcome().census["suspended"])
        return "x"

    bench = make_bench({"lead": lead, "leaf": leaf}, limits=NARROW)
    handoff = bench.submit(*[ChildTask(str(n), "lead") for n in range(20)])
    bench.pump()
    assert handoff.outcome().state == "done"
    assert handoff.node_result("7") == "20"
    assert max(halfway) <= 2 * NARROW.window
    assert set(endings(handoff).values()) == {1}
    check_census(bench.client, handoff.handoff_id)


def test_chains_wider_than_the_window_run_in_order(make_bench):
    def lead(assignment):
        if not assignment.children:
            tasks = [ChildChain([ChildTask(letter, "add") for letter in "abc"]) for _ in range(9)]
            assignment.spawn(tasks, then="sum")
        return ",".join(child.content for child in assignment.children)

    def add(assignment):
        return assignment.previous + assignment.instruction

    bench = make_bench({"lead": lead, "add": add}, limits=NARROW)
    handoff = bench.run(ChildTask("x", "lead"))
    assert handoff.node_result("0") == ",".join(["a,ab,abc"] * 9)


def test_worker_that_dies_before_it_publishes_the_next_holds_nothing_up(make_bench):
    """What its end let in is due, and the sweep publishes it."""
    bench = make_bench(limits=NARROW)
    handoff = bench.submit(*[f"task {n}" for n in range(30)])
    bench.handle(bench.queue.take())
    bench.queue.drops = lambda message: message.kind == "run"
    bench.pump()
    assert handoff.outcome().census["ok"] == 5
    bench.queue.drops = None
    assert bench.recover(handoff).state == "done"
    assert set(endings(handoff).values()) == {1}


def test_workers_that_die_give_their_place_in_the_window_back(make_bench):
    def die(assignment):
        if assignment.attempt == 1:
            raise Killed
        return "second"

    bench = make_bench({"die": die}, limits=NARROW)
    handoff = bench.run(*[ChildTask(str(n), "die") for n in range(12)])
    assert bench.recover(handoff).state == "done"


def test_cancel_ends_what_is_queued_too(make_bench):
    bench = make_bench(limits=NARROW)
    handoff = bench.submit(*[f"task {n}" for n in range(1_000)])
    bench.handle(bench.queue.take())
    assert handoff.cancel() == "cancelled"
    assert handoff.outcome().census["cancelled"] == 1_000
    check_census(bench.client, handoff.handoff_id)
    check_expiries(bench.client)


# --- cancelling a part -------------------------------------------------------------------------


@pytest.fixture
def tree_of(make_bench):
    """Two leads of eight children each, all waiting; the window holds five."""

    def make():
        bench = make_bench(limits=NARROW)
        handoff = bench.submit("a", "b")
        bench.tree.start(handoff.handoff_id)
        for slot in "01":
            children = [(ChildTask(str(n)),) for n in range(8)]
            bench.tree.suspend(bench.claim(handoff, slot), children, "sum", "")
        bench.queue.messages.clear()
        return bench, handoff

    return make


def test_cancelled_part_ends_at_once_and_the_rest_goes_on(tree_of):
    """Published or queued; the parent outside goes on with what is left."""
    bench, handoff = tree_of()
    assert handoff.cancel("0") == "running"
    below = {each: state for each, state in states(handoff).items() if each.startswith("0")}
    assert set(below.values()) == {"cancelled"}
    assert set(states(handoff).values()) == {"cancelled", "waiting", "suspended"}
    assert bench.recover(handoff).state == "degraded"
    assert states(handoff)["1"] == "ok"
    check_census(bench.client, handoff.handoff_id)
    check_expiries(bench.client)


def test_one_cancelled_child_leaves_its_siblings_alone(tree_of):
    bench, handoff = tree_of()
    handoff.cancel("0.6")
    assert [each for each, state in states(handoff).items() if state == "cancelled"] == ["0.6"]
    outcome = bench.recover(handoff)
    assert outcome.census["cancelled"] == 1
    assert outcome.census["ok"] == 17


def test_running_nodes_of_a_cancelled_part_are_told(make_bench):
    """Within a second or so, as the whole handoff's are; their results are refused."""
    import threading

    seen = threading.Event()

    def wait(assignment):
        if assignment.node_id == "1":
            return "other"
        handoff.cancel("0")
        while not assignment.cancelled:
            seen.wait(0.01)
        seen.set()
        return "too late"

    bench = make_bench({"wait": wait})
    handoff = bench.submit(ChildTask("x", "wait"), ChildTask("y", "wait"))
    bench.pump()
    assert seen.is_set()
    assert states(handoff) == {"0": "cancelled", "1": "ok"}
    assert handoff.node_result("0") is None
    assert handoff.outcome().state == "degraded"


def test_cancelled_part_goes_again_with_a_retry(tree_of):
    bench, handoff = tree_of()
    handoff.cancel("0")
    bench.recover(handoff)
    bench.handoffs.retry(handoff.handoff_id, "0")
    bench.pump()
    assert bench.recover(handoff).state == "done"


def test_part_that_is_not_there_is_refused_and_one_that_ended_stays(bench):
    handoff = bench.run("a", "b")
    assert handoff.cancel("0") == "done"
    running = bench.submit("a")
    with pytest.raises(InvalidInputError, match="a node of the handoff"):
        running.cancel("7.1")
    with pytest.raises(InvalidInputError, match="node_id"):
        running.cancel("../x")


def test_sweep_publishes_nothing_of_a_handoff_whose_start_nobody_took(bench):
    """The package is checked at the start; what ran before would have slipped past that."""
    handoff = bench.submit("a", "b")
    bench.queue.messages.clear()
    bench.engine.sweep()
    assert not bench.queue.messages
    bench.pass_time(handoff)
    bench.engine.sweep()
    assert [message.kind for message in bench.queue.messages] == ["start"]
    bench.pump()
    assert handoff.outcome().state == "done"


def test_long_chain_behind_a_failure_is_skipped_in_slices(make_bench):
    """However long it is, no script takes long; and its parent goes on when all have ended."""

    def lead(assignment):
        if not assignment.children:
            assignment.spawn([ChildChain([ChildTask("x", "nobody")] * 350)], then="sum")
        return str(len(assignment.children))

    bench = make_bench({"lead": lead})
    handoff = bench.submit(ChildTask("x", "lead"))
    bench.handle(bench.queue.take())
    bench.handle(bench.queue.take())
    bench.handle(bench.queue.take())
    assert handoff.outcome().census["skipped"] == 100
    outcome = bench.recover(handoff)
    assert (outcome.census["skipped"], outcome.census["failed"]) == (349, 1)
    assert handoff.node_result("0") == "350"
    check_census(bench.client, handoff.handoff_id)
    check_expiries(bench.client)


def test_results_and_plans_last_as_long_as_their_handoff(make_bench):
    """Also where that runs longer than it is to be kept after its end."""

    def lead(assignment):
        if not assignment.children:
            assignment.spawn(["a"], then="sum")
        return "draft"

    limits = NARROW.model_copy(update={"retention_seconds": 60})
    bench = make_bench({"lead": lead}, limits=limits)
    handoff = bench.submit("early", ChildTask("x", "lead"))
    keys = HandoffKeys.of(handoff.handoff_id)
    for _ in range(3):
        bench.handle(bench.queue.take())
    early = [keys.result("0"), keys.plan_below("1"), keys.draft("1")]
    for key in early:
        assert bench.client.pexpire(key, 20_000)
    bench.client.hset(keys.base, "created_at", int(bench.client.time()[0] - 30) * 1000)
    bench.engine.sweep()
    assert min(map(bench.client.ttl, early)) > 50


def test_node_whose_plan_has_expired_ends_lost(bench):
    """Nobody knows what it was to do; its handoff ends all the same."""
    handoff = bench.submit("a")
    bench.tree.start(handoff.handoff_id)
    bench.tree.suspend(bench.claim(handoff), [(ChildTask("x"),)], "sum", "")
    bench.claim(handoff, "0.0")
    bench.pass_time(handoff, "0.0")
    bench.client.delete(HandoffKeys.of(handoff.handoff_id).plan_below("0"))
    bench.engine.sweep()
    bench.pump()
    census = bench.recover(handoff).census
    assert (census["lost"], census["failed"], census.total) == (1, 1, 2)


def test_cancelled_node_of_a_chain_is_counted_as_queued_no_more(bench):
    """Each that stayed counted would widen the window by one, for good."""
    handoff = bench.submit("a")
    bench.tree.start(handoff.handoff_id)
    chain = tuple(ChildTask(letter) for letter in "xyz")
    bench.tree.suspend(bench.claim(handoff), [chain], "sum", "")
    base = HandoffKeys.of(handoff.handoff_id).base
    assert bench.client.hget(base, "queued") == b"2"
    handoff.cancel("0.1")
    assert states(handoff) == {
        "0": "suspended", "0.0": "waiting", "0.1": "cancelled", "0.2": "skipped",
    }  # fmt: skip
    assert bench.client.hget(base, "queued") == b"0"
    assert bench.recover(handoff).census["ok"] == 2


def test_cancel_of_what_has_ended_leaves_no_trace(bench):
    """The list of cuts is looked through at each claim."""
    handoff = bench.submit("a", "b")
    bench.tree.start(handoff.handoff_id)
    bench.engine.run_node(handoff.handoff_id, "0")
    handoff.cancel("0")
    assert bench.client.hget(HandoffKeys.of(handoff.handoff_id).base, "cuts") is None
