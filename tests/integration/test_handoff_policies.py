"""What a handoff's policy makes of nodes that fail, and submitting again under a key."""

from __future__ import annotations

import threading

import pytest

from baton.agents.runner import ChildTask
from baton.errors import InvalidIdError, InvalidInputError, VersionNotFoundError
from baton.handoff.claims import Ending
from baton.handoff.keys import HandoffKeys
from baton.handoff.request import Limits, TaskSpec
from handoff_bench import AGENT, SESSION, Killed, check_census, check_expiries, states
from waiting import until


def by(runner, text="it"):
    return TaskSpec(instruction=text, runner=runner)


def fail(assignment):
    raise ValueError(f"no luck with {assignment.instruction}")


def kill(assignment):
    raise Killed


BAD = by("fail", "that")


@pytest.fixture
def bench(make_bench):
    return make_bench({"fail": fail, "kill": kill})


@pytest.mark.parametrize(
    ("policy", "good", "bad", "state"),
    [
        ("all", 3, 0, "done"),
        ("all", 3, 1, "failed"),
        ("best_effort", 3, 0, "done"),
        ("best_effort", 1, 3, "degraded"),
        ("best_effort", 0, 2, "failed"),
        ("quorum:2", 3, 0, "done"),
        ("quorum:2", 2, 1, "degraded"),
        ("quorum:2", 1, 2, "failed"),
        ("fail_fast", 3, 0, "done"),
        ("fail_fast", 3, 1, "failed"),
    ],
)
def test_handoff_ends_by_its_policy(bench, policy, good, bad, state):
    """Done is only ever all ok; what fails its policy merges nothing, and says why."""
    tasks = [*(f"task {n}" for n in range(good)), *[BAD] * bad]
    outcome = bench.run(*tasks, policy=policy).outcome()
    assert (outcome.state, outcome.policy) == (state, policy)
    assert (outcome.version is None) == (state == "failed")
    assert (outcome.error != "") == (state == "failed")
    assert bench.store.resolve_version(SESSION) == (outcome.version or "1.0.0")
    assert outcome.census.total == good + bad
    check_census(bench.client, outcome.handoff_id)
    check_expiries(bench.client)


def test_policy_all_means_the_children_too(make_bench):
    """A parent that made do without its child is ok; its handoff is not."""

    def spawn(assignment):
        if not assignment.children:
            assignment.spawn([ChildTask("child", "fail")], then="go on")
        return "made do"

    bench = make_bench({"fail": fail, "spawn": spawn})
    assert bench.run(by("spawn"), policy="all").outcome().state == "failed"
    assert bench.run(by("spawn"), policy="quorum:1").outcome().state == "degraded"
    stopped = bench.run(by("spawn"), "other", policy="fail_fast")
    assert states(stopped) == {"0": "cancelled", "0.0": "failed", "1": "ok"}
    assert stopped.outcome().state == "failed"


def test_first_failure_stops_the_others(bench):
    """Who has not begun is skipped, and nothing of it is claimed any more."""
    handoff = bench.run("first", BAD, "third", "fourth", policy="fail_fast")
    assert states(handoff) == {"0": "ok", "1": "failed", "2": "skipped", "3": "skipped"}
    outcome = handoff.outcome()
    assert outcome.error_type == "ValueError"
    assert outcome.error == "node 1: no luck with that; the others were stopped"
    assert [node.attempt for node in handoff.nodes()] == [1, 1, 0, 0]
    assert handoff.node_result("0") == "first: done"


def test_first_failure_tells_who_runs_to_stop(make_bench):
    """The running one ends as cancelled, as soon as its lease is renewed."""
    entered = threading.Event()

    def wait(assignment):
        entered.set()
        until(lambda: assignment.cancelled)
        assignment.raise_if_cancelled()

    bench = make_bench({"wait": wait, "fail": fail}, limits=Limits(lease_seconds=0.5))
    handoff = bench.submit(by("wait"), BAD, "last", policy="fail_fast")
    bench.handle(bench.queue.take())
    worker = threading.Thread(target=bench.handle, args=[bench.queue.take()])
    worker.start()
    assert entered.wait(30)
    bench.pump()
    assert states(handoff) == {"0": "leased", "1": "failed", "2": "skipped"}
    worker.join()
    assert states(handoff) == {"0": "cancelled", "1": "failed", "2": "skipped"}
    assert handoff.outcome().state == "failed"


def test_two_thousand_are_stopped_at_the_first_failure(bench):
    handoff = bench.run(BAD, *[f"task {n}" for n in range(2_000)], policy="fail_fast")
    assert handoff.outcome().state == "failed"
    assert handoff.outcome().census["skipped"] == 2_000
    check_census(bench.client, handoff.handoff_id)


def test_worker_that_dies_right_after_the_failure_leaves_the_rest_to_the_sweep(bench):
    """The failure is committed, and nobody stops the others: the sweep does."""
    handoff = bench.submit(BAD, "b", "c", policy="fail_fast")
    bench.tree.start(handoff.handoff_id)
    claim = bench.claim(handoff, "0")
    state, moves = bench.tree.finish(claim, "failed", Ending("ValueError", "no luck"))
    assert (state, [move.kind for move in moves]) == ("failed", ["cancel"])
    again = bench.tree.finish(claim, "failed", Ending("ValueError", "no luck"))
    assert again == (state, moves)
    bench.queue.messages.clear()
    outcome = bench.recover(handoff)
    assert outcome.state == "failed"
    assert states(handoff) == {"0": "failed", "1": "skipped", "2": "skipped"}


def test_lost_node_fails_fast_too(make_bench):
    bench = make_bench({"kill": kill}, limits=Limits(max_attempts=1))
    handoff = bench.submit(by("kill"), "b", policy="fail_fast")
    bench.handle(bench.queue.take())
    bench.handle(bench.queue.take())
    bench.queue.messages.clear()
    bench.recover(handoff)
    assert states(handoff) == {"0": "lost", "1": "skipped"}
    assert handoff.outcome().state == "failed"


@pytest.mark.parametrize("policy", ["quorum", "quorum:0", "quorum:-1", "most", "", "quorum:3", 3])
def test_policy_that_is_none_is_refused(bench, policy):
    """Nothing is written for it."""
    with pytest.raises(InvalidInputError, match="policy"):
        bench.submit("a", "b", policy=policy)
    assert bench.handoffs.newest() == []


def test_results_that_could_not_be_appended_are_refused_before_the_work(bench):
    """A JSON document takes no work log; without a merge its nodes run."""
    bench.store.put(SESSION, "{}", agent_id=AGENT, content_type="application/json")
    with pytest.raises(InvalidInputError, match="merge: expected none"):
        bench.submit("a")
    assert bench.handoffs.newest() == []
    outcome = bench.run("a", merge="none").outcome()
    assert (outcome.state, outcome.version) == ("done", None)


# --- submitting again --------------------------------------------------------------------------


def test_request_submitted_again_under_its_key_is_the_same_handoff(bench):
    """Whoever asks, whatever the head is by then, ended or not."""
    first = bench.run("a", "b", idempotency_key="order-7")
    again = bench.handoffs.submit(
        SESSION, ["a", "b"], agent_id="another", idempotency_key="order-7"
    )
    assert again.handoff_id == first.handoff_id
    assert bench.queue.kinds()["start"] == 1
    assert len(bench.handoffs.newest()) == 1
    assert bench.store.resolve_version(SESSION) == "1.0.1"
    assert bench.run("a", "b", idempotency_key="order-8").handoff_id != first.handoff_id


def test_another_request_under_a_used_key_is_refused(bench):
    first = bench.submit("a", "b", idempotency_key="order-7")
    for other in (
        lambda: bench.submit("a", "c", idempotency_key="order-7"),
        lambda: bench.submit("a", "b", idempotency_key="order-7", policy="all"),
    ):
        with pytest.raises(InvalidInputError, match="idempotency_key"):
            other()
    bench.pump()
    assert states(first) == {"0": "ok", "1": "ok"}


def test_same_key_over_another_session_is_another_handoff(bench):
    bench.store.put("session_2", "text", agent_id=AGENT)
    first = bench.submit("a", idempotency_key="k")
    other = bench.handoffs.submit("session_2", ["a"], agent_id=AGENT, idempotency_key="k")
    assert first.handoff_id != other.handoff_id


def test_racing_submissions_under_one_key_are_one_handoff(bench):
    """All get past the first look; one opens, the plan of the others is dropped."""
    barrier = threading.Barrier(8)
    found = []

    def submit():
        barrier.wait(30)
        found.append(bench.submit("a", "b", idempotency_key="k").handoff_id)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 8
    bench.pump()
    handoff = bench.handoffs.find(found[0])
    assert states(handoff) == {"0": "ok", "1": "ok"}
    assert handoff.outcome().version == "1.0.1"
    assert not bench.client.keys(f"{HandoffKeys.of(found[0]).base}:staging:*")


def test_key_that_is_none_is_refused(bench):
    with pytest.raises(InvalidIdError, match="idempotency_key"):
        bench.submit("a", idempotency_key="a key")


def test_repeat_needs_the_version_no_more(bench):
    """Its nodes have read it; that the repeat cannot is no matter."""
    first = bench.run("a", context_version="1.0.0", idempotency_key="k")
    with pytest.raises(VersionNotFoundError):
        bench.submit("a", context_version="1.9.0", idempotency_key="other")
    again = bench.submit("a", context_version="1.0.0", idempotency_key="k")
    assert again.handoff_id == first.handoff_id
