"""Retrying an ended handoff: only what gave no result goes again, each result is merged once."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from baton.agents.runner import ChildTask
from baton.errors import (
    BrokerUnavailableError,
    FencedError,
    HandoffNotFoundError,
    InvalidIdError,
    InvalidInputError,
    VersionNotFoundError,
)
from baton.handoff.claims import Ending
from baton.handoff.keys import OPEN, HandoffKeys
from baton.handoff.request import Limits, TaskSpec
from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys
from handoff_bench import AGENT, SESSION, Killed, check_census, check_expiries, states


class Luck:
    """Runners that fail until told otherwise; `runs` counts who ran."""

    def __init__(self):
        self.bad = True
        self.runs = Counter()

    def work(self, assignment):
        self.runs[assignment.node_id] += 1
        return f"{assignment.instruction}: done"

    def fail(self, assignment):
        self.runs[assignment.node_id] += 1
        if self.bad:
            raise ValueError("no luck")
        return f"{assignment.instruction}: done at last"

    def spawn(self, assignment):
        self.runs[assignment.node_id] += 1
        if assignment.children:
            return " + ".join(child.content or child.state for child in assignment.children)
        assignment.spawn([ChildTask("good", "count"), ChildTask("bad", "fail")], then="sum up")
        return "draft"

    def kill(self, assignment):
        self.runs[assignment.node_id] += 1
        if self.bad:
            raise Killed
        return "alive"


def by(runner, text="it"):
    return TaskSpec(instruction=text, runner=runner)


@pytest.fixture
def luck():
    return Luck()


@pytest.fixture
def bench(make_bench, luck):
    runners = {"count": luck.work, "fail": luck.fail, "spawn": luck.spawn, "kill": luck.kill}
    return make_bench(runners, limits=Limits(max_attempts=2))


def retried(bench, handoff, node_id=None):
    again = bench.handoffs.retry(handoff.handoff_id, node_id)
    check_census(bench.client, handoff.handoff_id)
    bench.pump()
    check_census(bench.client, handoff.handoff_id)
    check_expiries(bench.client)
    return again.outcome()


def test_retry_runs_only_what_failed_and_merges_only_that(bench, luck):
    """The stored result stays, the new one follows in a section of its own, under its number."""
    handoff = bench.run(by("count", "first"), by("fail", "second"))
    assert handoff.outcome().state == "degraded"
    luck.bad = False
    outcome = retried(bench, handoff)
    assert (outcome.state, outcome.round, outcome.version) == ("done", 1, "1.0.2")
    assert luck.runs == {"0": 1, "1": 2}
    added = bench.store.get(SESSION).content.removeprefix(bench.store.get(SESSION, "1.0.1").content)
    assert added == (
        f"\n## Work log: {handoff.handoff_id} (1 of 1 tasks done, for {AGENT})\n"
        "\n### 2. second\n\nsecond: done at last\n"
    )
    assert "first: done" in handoff.result()
    assert "second: done at last" in handoff.result()
    assert [node.round for node in handoff.nodes()] == [0, 1]


def test_retry_of_what_merged_nothing_merges_all_of_it(bench, luck):
    handoff = bench.run(by("count", "first"), by("fail", "second"), policy="all")
    assert (handoff.outcome().state, handoff.outcome().version) == ("failed", None)
    luck.bad = False
    outcome = retried(bench, handoff)
    assert (outcome.state, outcome.version, outcome.error) == ("done", "1.0.1", "")
    text = bench.store.get(SESSION).content
    assert "first: done" in text
    assert "second: done at last" in text


def test_retry_that_fails_again_can_be_retried_again(bench, luck):
    """Each round has all attempts and a join of its own, however many there are."""
    handoff = bench.run(by("count"), by("fail"))
    for round_ in range(1, 6):
        outcome = retried(bench, handoff)
        assert (outcome.state, outcome.round) == ("degraded", round_)
    luck.bad = False
    assert retried(bench, handoff).state == "done"
    assert luck.runs["0"] == 1


def test_child_that_goes_again_takes_its_parent_along(bench, luck):
    """The parent had made do without; its continuation runs again, its beginning does not."""
    handoff = bench.run(by("spawn"))
    assert handoff.node_result("0") == "good: done + failed"
    assert handoff.outcome().state == "degraded"
    luck.bad = False
    outcome = retried(bench, handoff)
    assert outcome.state == "done"
    assert handoff.node_result("0") == "good: done + bad: done at last"
    assert luck.runs == {"0": 3, "0.0": 1, "0.1": 2}


def test_single_node_can_be_retried(bench, luck):
    handoff = bench.run(by("fail", "a"), by("fail", "b"), by("spawn"))
    luck.bad = False
    assert retried(bench, handoff, "1").state == "degraded"
    assert states(handoff) == {"0": "failed", "1": "ok", "2": "ok", "2.0": "ok", "2.1": "failed"}
    assert retried(bench, handoff, "2.1").state == "degraded"
    assert handoff.node_result("2") == "good: done + bad: done at last"
    assert retried(bench, handoff).state == "done"
    assert luck.runs == {"0": 2, "1": 2, "2": 3, "2.0": 1, "2.1": 2}


def test_lost_cancelled_and_skipped_nodes_go_again(bench, luck):
    lost = bench.submit(by("kill"), by("count"), policy="fail_fast")
    bench.recover(lost)
    assert states(lost)["0"] == "lost"
    cancelled = bench.submit(by("count"), by("spawn"))
    cancelled.cancel()
    bench.pump()
    skipped = bench.run(by("fail"), by("count"), policy="fail_fast")
    assert states(skipped) == {"0": "failed", "1": "skipped"}
    luck.bad = False
    for handoff in (lost, cancelled, skipped):
        assert retried(bench, handoff).state == "done"


def test_handoff_cancelled_amid_its_children_goes_on_where_it_was(bench, luck):
    """The child that had ended ok does not run again, nor does the parent's beginning."""
    luck.bad = False
    handoff = bench.submit(by("spawn"))
    for _ in range(3):  # the start, the parent, its first child
        bench.handle(bench.queue.take())
    assert states(handoff) == {"0": "suspended", "0.0": "ok", "0.1": "waiting"}
    assert handoff.cancel() == "cancelled"
    bench.pump()
    assert retried(bench, handoff).state == "done"
    assert luck.runs == {"0": 2, "0.0": 1, "0.1": 1}


def test_what_cannot_be_retried_is_refused_and_changes_nothing(bench, luck):
    done = bench.run(by("count"))
    degraded = bench.run(by("count"), by("fail"))
    running = bench.submit(by("count"))
    before = bench.client.hgetall(HandoffKeys.of(degraded.handoff_id).nodes)
    for handoff, node_id, said in [
        (done, None, "not ended ok"),
        (running, None, "one that has ended"),
        (degraded, "0", "not ended ok"),
        (degraded, "7", "a node of the handoff"),
    ]:
        with pytest.raises(InvalidInputError, match=said):
            bench.handoffs.retry(handoff.handoff_id, node_id)
    with pytest.raises(InvalidIdError):
        bench.handoffs.retry(degraded.handoff_id, "x")
    with pytest.raises(HandoffNotFoundError):
        bench.handoffs.retry("handoff_0000000000000000")
    assert bench.client.hgetall(HandoffKeys.of(degraded.handoff_id).nodes) == before
    assert degraded.outcome().round == 0
    pins = bench.client.hkeys(SessionKeys.of(SESSION).pins)
    assert done.handoff_id.encode() not in pins
    assert degraded.handoff_id.encode() not in pins


def test_retry_without_the_version_that_its_nodes_read_is_refused(bench):
    handoff = bench.run(by("fail"))
    bench.store.put(SESSION, "other", agent_id="x")
    store = ContextStore(bench.client, keep_versions=1, live_agents=lambda _: ())
    assert store.collect(SESSION, agent_id="x").versions == ("1.0.0",)
    with pytest.raises(VersionNotFoundError):
        bench.handoffs.retry(handoff.handoff_id)
    assert handoff.outcome().state == "failed"


def test_worker_of_the_round_before_is_refused(bench, luck):
    """It was thought lost; its token is old, whatever the node's state is now."""
    handoff = bench.submit(by("count"), by("fail"))
    late = bench.claim(handoff, "0")
    assert handoff.cancel() == "running"
    bench.recover(handoff)
    bench.handoffs.retry(handoff.handoff_id)
    claim = bench.claim(handoff, "0")
    assert claim.fence > late.fence
    with pytest.raises(FencedError):
        bench.tree.finish(late, "ok", Ending(), "too late")
    assert bench.tree.finish(claim, "ok", Ending(), "in time")[0] == "ok"


def test_join_of_the_round_before_ends_nothing(bench, luck):
    """A join that stood still since then is fenced, though tokens are counted anew."""
    handoff = bench.run(by("count"), by("fail"))
    fence = int(bench.client.hget(HandoffKeys.of(handoff.handoff_id).base, "join_fence"))
    luck.bad = False
    bench.handoffs.retry(handoff.handoff_id)
    assert not bench.tree.finish_join(handoff.handoff_id, fence, "done", {})
    for _ in ("start", "run"):
        bench.handle(bench.queue.take())
    assert handoff.outcome().state == "joining"
    assert not bench.tree.finish_join(handoff.handoff_id, fence, "done", {})
    bench.pump()
    assert not bench.tree.finish_join(handoff.handoff_id, fence, "failed", {})
    assert handoff.outcome().state == "done"


def test_retry_that_the_broker_does_not_take_goes_on_with_the_sweep(bench, luck):
    handoff = bench.run(by("count"), by("fail"))
    luck.bad = False
    bench.queue.down = BrokerUnavailableError
    bench.handoffs.retry(handoff.handoff_id)
    bench.queue.down = None
    assert bench.client.zscore(OPEN, handoff.handoff_id) is not None
    assert bench.recover(handoff).state == "done"


def test_racing_retries_are_one_round(bench, luck):
    """One reopens it; the others are told that it is running, or find nothing left to do."""
    handoff = bench.run(by("count"), by("fail"))
    luck.bad = False
    barrier = threading.Barrier(6)
    refused = []

    def retry():
        barrier.wait(30)
        try:
            bench.handoffs.retry(handoff.handoff_id)
        except InvalidInputError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=retry) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 5
    bench.pump()
    outcome = handoff.outcome()
    assert (outcome.state, outcome.round) == ("done", 1)
    assert luck.runs == {"0": 1, "1": 2}
    pins = bench.client.hkeys(SessionKeys.of(SESSION).pins)
    assert handoff.handoff_id.encode() not in pins


def test_events_show_a_retry_and_a_late_reader_sees_both_ends(bench, luck):
    """Whoever watches from the first event on is not stopped by the first end."""
    handoff = bench.run(by("count"), by("fail"))
    luck.bad = False
    retried(bench, handoff)
    seen = [e.state for e in handoff.events(timeout_seconds=30) if e.type == "handoff"]
    assert seen == ["running", "joining", "degraded", "running", "joining", "done"]


def test_very_wide_handoff_is_retried_whole(bench, luck):
    handoff = bench.run(*[by("fail", f"task {n}") for n in range(1_200)], workers=2)
    assert handoff.outcome().state == "failed"
    luck.bad = False
    assert retried(bench, handoff).census["ok"] == 1_200
