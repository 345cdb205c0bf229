"""Cancelling: at any moment, with workers alive or dead, and against completion."""

from __future__ import annotations

import random
import threading

import pytest

from baton.errors import HandoffNotFoundError
from baton.handoff.claims import Ending
from baton.handoff.keys import HandoffKeys
from baton.handoff.request import Limits, TaskSpec
from handoff_bench import WIDE, Killed, check_census, each_alone, endings, node_of, states
from waiting import until


def by(runner, text="it"):
    return TaskSpec(instruction=text, runner=runner)


def test_cancel_before_the_start_ends_it_at_once(bench):
    """Nothing ran, nothing will: the messages on their way are refused."""
    handoff = bench.submit("a", "b", "c")
    assert handoff.cancel() == "cancelled"
    check_census(bench.client, handoff.handoff_id)
    bench.pump()
    assert states(handoff) == dict.fromkeys("012", "cancelled")
    outcome = handoff.outcome()
    assert (outcome.state, outcome.version) == ("cancelled", None)
    assert outcome.ended_at is not None
    assert [node.attempt for node in handoff.nodes()] == [0, 0, 0]


def test_cancel_of_two_thousand_nodes_ends_them_all(bench):
    """Slice by slice, none left over."""
    handoff = bench.submit(*[f"task {n}" for n in range(2_000)])
    assert handoff.cancel() == "cancelled"
    assert handoff.outcome().census["cancelled"] == 2_000
    check_census(bench.client, handoff.handoff_id)


def test_cancel_in_the_middle_stops_the_running_node(make_bench):
    """Waiting nodes end at once; the running one when a renewal tells it; ended ones stay."""
    entered = threading.Event()

    def wait(assignment):
        entered.set()
        until(lambda: assignment.cancelled)
        assignment.raise_if_cancelled()

    bench = make_bench({"wait": wait}, limits=Limits(lease_seconds=0.5))
    handoff = bench.submit("first", by("wait"), "last")
    worker = threading.Thread(target=bench.pump)
    worker.start()
    assert entered.wait(30)
    assert handoff.cancel() == "running"
    assert states(handoff) == {"0": "ok", "1": "leased", "2": "cancelled"}
    worker.join()
    assert states(handoff) == {"0": "ok", "1": "cancelled", "2": "cancelled"}
    assert handoff.outcome().state == "cancelled"
    assert handoff.node_result("0") == "first: done"
    assert handoff.outcome().version is None


def test_result_after_cancel_is_not_kept(bench):
    """A runner that did not look up ends as cancelled, its text is dropped, its children refused"""
    handoff = bench.submit("a", "b", "c")
    claims = [bench.claim(handoff, slot) for slot in "012"]
    assert handoff.cancel() == "running"
    assert bench.tree.finish(claims[0], "ok", Ending(), "too late")[0] == "cancelled"
    assert bench.tree.finish(claims[0], "ok", Ending(), "too late")[0] == "cancelled"
    assert bench.tree.finish(claims[1], "retry", Ending())[0] == "cancelled"
    assert bench.tree.suspend(claims[2], each_alone("x"), "", "").state == "cancelled"
    assert handoff.outcome().state == "cancelled"
    assert handoff.node_result("0") is None
    assert states(handoff) == dict.fromkeys("012", "cancelled")


def test_cancel_with_a_dead_worker_ends_by_the_sweep(make_bench):
    """Nobody will notice for it; its lease lapses."""

    def die(_assignment):
        raise Killed

    bench = make_bench({"die": die})
    handoff = bench.run(by("die"), "b")
    assert handoff.cancel() == "running"
    assert bench.recover(handoff).state == "cancelled"
    assert states(handoff) == {"0": "cancelled", "1": "ok"}
    assert node_of(handoff).attempt == 1


def test_cancel_while_children_wait_ends_parents_too(bench):
    """Suspended nodes end with the last of their children, at every level."""
    handoff = bench.submit("a", "b")
    bench.queue.messages.clear()
    for node_id in ("0", "0.0"):
        claim = bench.claim(handoff, node_id)
        bench.tree.suspend(claim, each_alone("xy"), "go on", "draft")
    running = bench.claim(handoff, "0.0.1")
    assert handoff.cancel() == "running"
    assert states(handoff) == {
        "0": "suspended", "0.0": "suspended", "0.0.0": "cancelled", "0.0.1": "leased",
        "0.1": "cancelled", "1": "cancelled",
    }  # fmt: skip
    bench.tree.finish(running, "ok", Ending(), "x")
    assert set(states(handoff).values()) == {"cancelled"}
    assert handoff.outcome().state == "cancelled"
    check_census(bench.client, handoff.handoff_id)


def test_cancel_of_an_ended_handoff_changes_nothing(bench):
    """It answers what the handoff had ended in."""
    handoff = bench.run("a")
    ended_at = handoff.outcome().ended_at
    assert handoff.cancel() == "done"
    assert handoff.outcome().ended_at == ended_at
    cancelled = bench.submit("a")
    assert [cancelled.cancel(), cancelled.cancel()] == ["cancelled", "cancelled"]


def test_cancel_of_a_handoff_that_joins_comes_too_late(bench):
    """All nodes have ended: the merge goes on."""
    handoff = bench.submit("a")
    bench.tree.finish(bench.claim(handoff), "ok", Ending(), "x")
    assert handoff.cancel() == "joining"
    bench.engine.join(handoff.handoff_id)
    assert handoff.outcome().state == "done"


def test_cancel_of_an_unknown_handoff_raises(bench):
    """There is nothing to cancel, and nothing is written."""
    before = set(bench.client.keys())
    with pytest.raises(HandoffNotFoundError):
        bench.handoffs.find("handoff_none").cancel()
    assert set(bench.client.keys()) == before


def test_no_node_is_claimed_after_cancel(bench):
    """Neither a waiting one nor one whose worker is gone, whatever message comes."""
    handoff = bench.submit(*[f"task {n}" for n in range(10)])
    bench.claim(handoff, "3")
    handoff.cancel()
    bench.pump()
    bench.pass_time(handoff)
    answers = {bench.engine.run_node(handoff.handoff_id, str(slot)).state for slot in range(10)}
    assert answers == {"cancelled"}


def test_canceller_that_dies_at_once_leaves_no_handoff_hanging(bench, monkeypatch):
    """With its first script the fate is sealed: messages lost, canceller gone, it still ends."""

    def die(_failpoint):
        raise Killed

    handoff = bench.submit("a", "b", "c")
    bench.queue.messages.clear()
    with monkeypatch.context() as patch:
        patch.setattr("baton.handoff.cancelling.CANCEL_SLICE", 1)
        patch.setattr("baton.handoff.cancelling.reach", die)
        with pytest.raises(Killed):
            handoff.cancel()
    assert bench.recover(handoff).state == "cancelled"


def test_cancel_misses_no_node_that_moves_while_it_looks(bench):
    """Renewals reorder what it goes through; each waiting node ends all the same."""
    handoff = bench.submit(*[f"task {n}" for n in range(900)], limits=WIDE)
    bench.tree.start(handoff.handoff_id)
    claims = [bench.claim(handoff, str(slot)) for slot in range(300)]
    due = HandoffKeys.of(handoff.handoff_id).due
    bench.client.zadd(due, {str(slot): 1 for slot in range(300)})
    leases = [(claim.handoff_id, claim.node_id, claim.fence) for claim in claims]
    stop = threading.Event()

    def renew():
        while not stop.is_set():
            bench.tree.renew(random.sample(leases, 100))
            bench.client.zadd(due, {str(slot): 1 for slot in random.sample(range(300), 50)})

    renewing = threading.Thread(target=renew)
    renewing.start()
    try:
        assert handoff.cancel() == "running"
    finally:
        stop.set()
        renewing.join()
    assert handoff.outcome().census.by_state["waiting"] == 0
    check_census(bench.client, handoff.handoff_id)
    for claim in claims:
        bench.tree.finish(claim, "ok", Ending(), "x")
    assert handoff.outcome().state == "cancelled"


def test_cancel_racing_with_completion_has_one_winner(bench):
    """Done with all results, or cancelled: never both, never neither."""
    ends = set()
    for seed in range(12):
        handoff = bench.submit(*[f"task {n}" for n in range(8)])
        pump = threading.Thread(target=bench.pump, args=(4,))
        pump.start()
        wanted = seed * 0.7
        until(lambda wanted=wanted, handoff=handoff: handoff.outcome().census["ok"] >= wanted)
        handoff.cancel()
        pump.join()
        outcome = bench.recover(handoff)
        ends.add(outcome.state)
        if outcome.state == "done":
            assert outcome.census["ok"] == 8
        else:
            assert outcome.state == "cancelled"
            assert outcome.version is None
        assert set(endings(handoff).values()) == {1}
        check_census(bench.client, handoff.handoff_id)
    assert "cancelled" in ends
