"""A node that may be what kills its workers runs in a process of its own."""

from __future__ import annotations

import pytest

from baton.agents.runner import ChildTask
from baton.handoff.keys import HandoffKeys
from baton.handoff.request import Limits
from handoff_bench import Bench, Killed, check_census, endings, node_of, states

FIVE = Limits(lease_seconds=30, node_timeout_seconds=60, max_attempts=5)


class Apart:
    """Processes that run one node each, as a bench of their own; `deaths` of them died."""

    def __init__(self, client, runners):
        self.bench = Bench(client, runners)
        self.asked = []
        self.deaths = 0

    def __call__(self, handoff_id, node_id):
        self.asked.append(node_id)
        try:
            return self.bench.engine.run_here_apart(handoff_id, node_id)
        except Killed:
            self.deaths += 1

    def publish(self, queue):
        """What it published, to the others' queue."""
        while (message := self.bench.queue.take()) is not None:
            queue.put(message)


@pytest.fixture
def make_apart(make_bench, redis_client):
    """A bench of workers, and the processes that it has nodes run in."""
    made = []

    def make(runners):
        apart = Apart(redis_client, runners)
        made.append(apart)
        bench = make_bench(runners, run_apart=apart, limits=FIVE)
        bench.after = lambda: apart.publish(bench.queue)
        return bench, apart

    yield make
    for apart in made:
        apart.bench.close()


def die(_assignment):
    raise Killed


def die_twice(assignment):
    if assignment.attempt <= 2:
        raise Killed
    return "third"


def test_node_that_kills_its_workers_kills_two_and_then_itself_only(make_apart):
    """It ends lost after its attempts; the others never notice."""
    bench, apart = make_apart({"die": die})
    handoff = bench.run(ChildTask("x", "die"), "fine")
    assert bench.recover(handoff).state == "degraded"
    assert states(handoff) == {"0": "lost", "1": "ok"}
    assert (bench.deaths, apart.deaths) == (2, 3)
    assert apart.asked == ["0"] * 3
    assert (node_of(handoff).attempt, node_of(handoff).error_type) == (5, "LostError")
    assert endings(handoff) == {"0": 1, "1": 1}


def test_innocent_neighbour_runs_apart_and_ends_well(make_apart):
    bench, apart = make_apart({"die": die_twice})
    handoff = bench.run(ChildTask("x", "die"))
    assert bench.recover(handoff).state == "done"
    assert apart.asked == ["0"]
    assert handoff.node_result("0") == "third"


def test_children_of_a_node_that_runs_apart_are_published(make_apart):
    """So is its continuation, which runs apart as well, as it is the same node."""

    def lead(assignment):
        if assignment.children:
            return "+".join(child.content for child in assignment.children)
        if assignment.attempt <= 2:
            raise Killed
        assignment.spawn([ChildTask(each, "work") for each in "ab"], then="on")
        return ""

    bench, apart = make_apart({"lead": lead})
    handoff = bench.run(ChildTask("x", "lead"))
    assert bench.recover(handoff).state == "done"
    assert handoff.node_result("0") == "a: done+b: done"
    assert apart.asked == ["0", "0"]
    check_census(bench.client, handoff.handoff_id)


def test_node_refused_as_apart_has_time_to_start_before_it_is_published_again(make_apart):
    """Else a sweep that is faster than a process would start one more each time."""
    bench, _ = make_apart({"die": die})
    handoff = bench.submit(ChildTask("x", "die"), limits=FIVE.model_copy(update={
        "lease_seconds": 0.5}))  # fmt: skip
    bench.pump()
    for _ in range(2):
        bench.pass_time(handoff)
        bench.engine.sweep()
        bench.handle(bench.queue.take())
    due = HandoffKeys.of(handoff.handoff_id).due
    assert node_of(handoff).state in ("waiting", "leased")
    bench.client.zadd(due, {"0": 1})
    bench.engine.sweep()
    refusal = bench.tree.claim(handoff.handoff_id, "0", "worker")
    assert refusal.state == "apart"
    seconds, _ = bench.client.time()
    assert bench.client.zscore(due, "0") / 1000 - seconds > 25


def test_retry_forgets_who_was_suspected(make_apart):
    bench, apart = make_apart({"die": die})
    handoff = bench.run(ChildTask("x", "die"))
    bench.recover(handoff)
    apart.asked.clear()
    bench.handoffs.retry(handoff.handoff_id)
    bench.pump()
    assert apart.asked == []
    assert bench.deaths == 3
