"""What happens to Redis under a handoff: scripts flushed, out of memory, out of reach."""

from __future__ import annotations

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from baton.agents.runner import ChildTask
from baton.errors import BrokerUnavailableError, StoreUnavailableError
from baton.handoff.claims import Ending
from baton.handoff.keys import HandoffKeys
from baton.handoff.leases import Lease, LeaseKeeper
from baton.handoff.request import TaskSpec
from baton.handoff.tree import HandoffTree
from handoff_bench import Queue, check_expiries, each_alone, node_of, states
from waiting import until


def test_handoff_survives_a_script_flush_before_every_message(make_bench):
    """A server that forgot its scripts is given them again, in pipelines too."""

    def lead(assignment):
        assignment.progress("here")
        bench.client.script_flush()
        if not assignment.children:
            assignment.spawn([ChildTask("x", "work")], then="on")
        return "text"

    bench = make_bench({"lead": lead})
    handoff = bench.submit(TaskSpec(instruction="a", runner="lead"), "b")
    bench.after = bench.client.script_flush
    bench.pump()
    assert handoff.outcome().state == "done"
    bench.client.script_flush()
    other = bench.submit("a", "b")
    claims = [bench.claim(other, slot) for slot in "01"]
    bench.client.script_flush()
    leases = [(claim.handoff_id, claim.node_id, claim.fence) for claim in claims]
    assert bench.tree.renew(leases) == ["held", "held"]
    bench.client.script_flush()
    assert other.cancel() == "running"


def test_every_key_expires_at_every_step_though_nobody_goes_on(bench):
    """Wherever work stops for good, nothing stays for ever."""
    handoff = bench.submit("a", "b")
    bench.queue.messages.clear()
    steps = [
        lambda: bench.tree.start(handoff.handoff_id),
        lambda: (bench.pass_time(handoff), bench.engine.sweep()),
        lambda: bench.tree.suspend(bench.claim(handoff, "0"), each_alone("x"), "", ""),
        lambda: bench.tree.finish(bench.claim(handoff, "0.0"), "ok", Ending(), "x"),
        lambda: bench.tree.finish(bench.claim(handoff, "0"), "retry", Ending()),
        lambda: bench.tree.finish(bench.claim(handoff, "0"), "ok", Ending(), "x"),
        lambda: bench.tree.finish(bench.claim(handoff, "1"), "failed", Ending("E", "x")),
        lambda: bench.tree.claim_join(handoff.handoff_id, "w"),
        lambda: bench.tree.finish_join(handoff.handoff_id, 1, "degraded", {}, "merged"),
    ]
    for step in steps:
        step()
        check_expiries(bench.client)
    assert handoff.outcome().state == "degraded"


def test_first_sweep_of_unclaimed_nodes_leaves_expiries(bench):
    """The sweep may be the first to write a node."""
    handoff = bench.submit("a", "b", "c")
    bench.tree.start(handoff.handoff_id)
    bench.queue.messages.clear()
    bench.pass_time(handoff)
    bench.engine.sweep()
    check_expiries(bench.client)
    bench.tree._cancel_waiting(HandoffKeys.of(handoff.handoff_id), "")
    check_expiries(bench.client)


def test_redis_out_of_reach_is_one_typed_error(tmp_path):
    """Every method says so, whatever it was asked."""
    with redis.Redis(
        unix_socket_path=str(tmp_path / "none"), retry=Retry(NoBackoff(), 0)
    ) as client:
        tree = HandoffTree(client)
        for call in (
            lambda: tree.start("handoff_1"),
            lambda: tree.claim("handoff_1", "0", "w"),
            lambda: tree.renew([("handoff_1", "0", 1)]),
            lambda: tree.cancel("handoff_1"),
            lambda: tree.results("handoff_1", ["0"]),
            lambda: tree.merged("handoff_1"),
            lambda: list(tree.open_ages()),
            lambda: tree.sweep("handoff_1", limit=1, backlog=False),
        ):
            with pytest.raises(StoreUnavailableError):
                call()


def test_commit_waits_out_an_outage(make_bench, monkeypatch):
    """Finished work is recorded when Redis is back; it is not done again."""
    monkeypatch.setattr("baton.handoff.outages.PAUSE_SECONDS", 0.01)
    runs = []

    def lead(assignment):
        runs.append(assignment.attempt)
        assignment.spawn([ChildTask("x", "work")])
        return "draft"

    bench = make_bench({"lead": lead})
    handoff = bench.submit(TaskSpec(instruction="a", runner="lead"))
    for name in ("finish", "suspend"):
        monkeypatch.setattr(bench.tree, name, unavailable_first(getattr(bench.tree, name), 3))
    bench.pump()
    assert handoff.outcome().state == "done"
    assert runs == [1]
    assert [node.attempt for node in handoff.nodes()] == [1, 1]


def test_broker_that_is_down_does_not_fail_what_was_recorded(make_bench):
    """What a worker cannot publish, the sweep does."""
    bench = make_bench(queue=Queue())
    handoff = bench.submit("a")
    bench.queue.messages.clear()
    bench.queue.down = BrokerUnavailableError
    assert bench.engine.run_node(handoff.handoff_id, "0").state == "ok"
    assert handoff.outcome().state == "joining"
    bench.queue.down = None
    assert bench.recover(handoff).state == "done"


def test_lease_keeper_outlives_any_error_of_a_renewal(bench):
    """Were its thread to die, every lease of the process would lapse for good."""
    handoff = bench.submit("a")
    claim = bench.claim(handoff)
    answers = [redis.ResponseError("OOM command not allowed"), StoreUnavailableError("gone")]

    class Flaky:
        renewals = 0

        def renew(self, leases):
            if answers:
                raise answers.pop(0)
            Flaky.renewals += 1
            return bench.tree.renew(leases)

    keeper = LeaseKeeper(Flaky(), max_stuck=1, on_stuck=lambda: None)
    keeper.hold(
        Lease(handoff.handoff_id, "0", claim.fence, 0.06, float("inf"), lambda: None, lambda: None)
    )
    until(lambda: Flaky.renewals >= 2)
    keeper.close()
    assert states(handoff) == {"0": "leased"}
    assert node_of(handoff).attempt == 1


def unavailable_first(method, times):
    left = [times]

    def call(*args, **fields):
        if left[0]:
            left[0] -= 1
            raise StoreUnavailableError("gone for a moment")
        return method(*args, **fields)

    return call
