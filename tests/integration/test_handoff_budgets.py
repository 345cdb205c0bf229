"""Budgets of a whole tree: permits before calls, what they used after, and never beyond the cap."""

from __future__ import annotations

import random
import threading
import time
from decimal import Decimal

import pytest

from baton.agents.breakers import HandoffBreakers
from baton.agents.budget import Budget
from baton.agents.runner import ChildTask, RunnerResult, Usage
from baton.errors import (
    FencedError,
    InvalidInputError,
    NodeCancelledError,
    OverBudgetError,
    PermitExpiredError,
    RunnerError,
    TransientError,
)
from baton.handoff.request import Limits
from handoff_bench import check_census, check_expiries, node_of, states
from waiting import until

CENT = Decimal("0.01")


def paying(tokens=100, usd=CENT, used=None, text="paid"):
    """A runner that makes one call, which uses less than it may if `used` says so."""

    def run(assignment):
        permit = assignment.reserve(tokens, usd, seconds=5)
        permit.check_usable()
        taken = tokens if used is None else used()
        assignment.settle(permit, Usage(input_tokens=taken), usd * taken / tokens)
        return text

    return run


def by(runner, *instructions):
    return [ChildTask(each, runner) for each in instructions or ("x",)]


def test_two_hundred_racing_nodes_never_spend_beyond_the_cap(make_bench):
    """Each asks for more than it uses; what is left over is used by others, and not a bit more."""
    rng = random.Random(7)
    bench = make_bench({"pay": paying(used=lambda: rng.randint(20, 100))})
    tasks = by("pay", *[f"task {n}" for n in range(200)])
    handoff = bench.run(*tasks, workers=16, budget=Budget(tokens=5_000, usd="0.40"))
    outcome = bench.recover(handoff, workers=16)
    account = handoff.account()
    assert account.spent_tokens <= 5_000
    assert account.spent_usd <= Decimal("0.40")
    assert (account.held_tokens, account.held_usd) == (0, 0)
    assert account.spent_usd > Decimal("0.39")  # reservations that were given back did not starve
    nodes = handoff.nodes()
    assert sum(node.usage.get("input_tokens", 0) for node in nodes) == account.spent_tokens
    assert outcome.state == "degraded"
    assert set(states(handoff).values()) == {"ok", "over_budget"}
    assert node_of(handoff, "199").error_type == "OverBudgetError"
    check_census(bench.client, handoff.handoff_id)
    check_expiries(bench.client)


def test_handoff_without_a_budget_counts_what_it_spends(make_bench):
    bench = make_bench({"pay": paying()})
    handoff = bench.run(*by("pay", "a", "b"))
    account = handoff.account()
    assert (account.cap_tokens, account.cap_usd) == (None, None)
    assert (account.spent_tokens, account.spent_usd) == (200, 2 * CENT)
    assert node_of(handoff).cost_usd == 0.01


def test_shortage_that_others_reservations_cause_is_waited_out(make_bench):
    """Two calls of 60 fit a budget of 100 one after the other, if the first uses less."""
    first_reserved, release = threading.Event(), threading.Event()

    def hold(assignment):
        permit = assignment.reserve(60, CENT, seconds=5)
        first_reserved.set()
        assert release.wait(20)
        assignment.settle(permit, Usage(input_tokens=10), CENT)
        return "held"

    bench = make_bench({"hold": hold, "pay": paying(60)})
    handoff = bench.submit(*by("hold"), *by("pay"), budget=Budget(tokens=100))
    bench.handle(bench.queue.take())
    messages = [bench.queue.take() for _ in range(2)]
    workers = [threading.Thread(target=bench.handle, args=(each,)) for each in messages]
    workers[0].start()
    assert first_reserved.wait(20)
    workers[1].start()
    until(lambda: states(handoff)["1"] == "leased", what="the second node's start")
    release.set()
    for worker in workers:
        worker.join()
    bench.pump()
    assert bench.recover(handoff).state == "done"
    assert handoff.account().spent_tokens == 70


def test_permit_of_a_lost_worker_counts_as_spent_until_it_is_settled_late(bench, monkeypatch):
    """The call was probably paid; what a thawed worker then tells is the truth."""
    monkeypatch.setattr("baton.handoff.accounts.SETTLE_GRACE_SECONDS", 0)
    handoff = bench.submit("a", "b", budget=Budget(tokens=100))
    claim, other = bench.claim(handoff, "0"), bench.claim(handoff, "1")
    permit = bench.accounts.reserve(claim, 70, CENT, seconds=0.01)
    until(lambda: _over(bench, other, 70), what="the permit's lapse")
    assert handoff.account().spent_tokens == 70
    bench.accounts.settle(handoff.handoff_id, permit, Usage(output_tokens=5), CENT / 2)
    bench.accounts.settle(handoff.handoff_id, permit, Usage(output_tokens=5), CENT / 2)
    account = handoff.account()
    assert (account.spent_tokens, account.held_tokens, account.spent_usd) == (5, 0, CENT / 2)
    assert bench.accounts.reserve(other, 70, CENT, seconds=1) is not None


def test_sweep_finds_permits_that_nobody_settled(bench, monkeypatch):
    monkeypatch.setattr("baton.handoff.accounts.SETTLE_GRACE_SECONDS", 0)
    handoff = bench.submit("a")
    bench.accounts.reserve(bench.claim(handoff), 70, CENT, seconds=0.01)
    until(
        lambda: bench.engine.sweep() == 0 and handoff.account().held_tokens == 0,
        what="the permit's lapse",
    )
    assert handoff.account().spent_tokens == 70


def test_share_bounds_a_child_and_all_below_it(make_bench):
    """Its sibling draws from what is left of the whole."""

    def lead(assignment):
        if assignment.children:
            return "led"
        share = Budget(tokens=150)
        assignment.spawn([ChildTask("s", "spread", share), ChildTask("p", "pay")], then="on")
        return ""

    def spread(assignment):
        if not assignment.children:
            assignment.spawn(by("pay", "a", "b", "c"), then="on")
        return "spread"

    bench = make_bench({"lead": lead, "spread": spread, "pay": paying()})
    handoff = bench.run(*by("lead"), budget=Budget(tokens=10_000))
    below = {
        node.node_id: node.state for node in handoff.nodes() if node.node_id.startswith("0.0.")
    }
    assert sorted(below.values()) == ["ok", "over_budget", "over_budget"]
    assert states(handoff)["0.1"] == "ok"
    share = handoff.account("0.0")
    assert (share.cap_tokens, share.spent_tokens) == (150, 100)
    assert handoff.account().spent_tokens == 200
    refused = next(node for node in handoff.nodes() if node.state == "over_budget")
    assert "share of node 0.0 of 150 tokens has 50 left" in refused.error
    check_expiries(bench.client)


def test_each_attempt_counts_also_those_that_failed(make_bench):
    """A node's cost is that of all its attempts, and so is the handoff's."""

    def unlucky(assignment):
        paying()(assignment)
        if assignment.attempt < 3:
            raise TransientError("no luck")
        return "at last"

    bench = make_bench({"unlucky": unlucky})
    handoff = bench.run(*by("unlucky"))
    bench.recover(handoff)
    assert node_of(handoff).cost_usd == 0.03
    assert node_of(handoff).usage == {"input_tokens": 300}
    assert handoff.account().spent_usd == 3 * CENT


def test_what_a_function_reports_in_its_result_counts_too(make_bench):
    """No permit was asked for it, so it may pass the cap; the next call finds nothing left."""

    def report(_assignment):
        return RunnerResult("told", Usage(output_tokens=120), 0.02)

    bench = make_bench({"report": report, "pay": paying()})
    handoff = bench.run(*by("report"), *by("pay"), budget=Budget(tokens=200))
    assert states(handoff) == {"0": "ok", "1": "over_budget"}
    assert handoff.account().spent_tokens == 120
    assert handoff.account().spent_usd == 2 * CENT


def test_permit_asked_for_twice_is_one_and_settled_twice_is_once(bench, monkeypatch):
    """What redis-py sends again because the answer was lost changes nothing."""
    monkeypatch.setattr("baton.handoff.accounts.new_operation_id", lambda: "op_1")
    handoff = bench.submit("a", budget=Budget(tokens=100))
    claim = bench.claim(handoff)
    permits = [bench.accounts.reserve(claim, 60, CENT, seconds=5) for _ in range(2)]
    assert handoff.account().held_tokens == 60
    for _ in range(2):
        bench.accounts.settle(handoff.handoff_id, permits[0], Usage(input_tokens=7), CENT)
    account = handoff.account()
    assert (account.held_tokens, account.spent_tokens, account.spent_usd) == (0, 7, CENT)


def test_call_that_ends_after_its_node_is_counted(bench):
    """Paid is paid, whatever became of the node."""
    handoff = bench.submit("a", "b")
    claim = bench.claim(handoff)
    permit = bench.accounts.reserve(claim, 60, CENT, seconds=5)
    handoff.cancel()
    bench.accounts.settle(handoff.handoff_id, permit, Usage(input_tokens=60), CENT)
    assert handoff.account().spent_usd == CENT
    assert node_of(handoff).cost_usd == 0.01
    check_census(bench.client, handoff.handoff_id)


def test_late_worker_and_cancelled_one_are_given_no_permit(bench):
    handoff = bench.submit("a", "b")
    claim = bench.claim(handoff, "0")
    bench.tree.start(handoff.handoff_id)
    bench.pass_time(handoff, "0")
    bench.engine.sweep()
    with pytest.raises(FencedError):
        bench.accounts.reserve(claim, 1, CENT, seconds=1)
    again = bench.claim(handoff, "0")
    handoff.cancel()
    with pytest.raises(NodeCancelledError):
        bench.accounts.reserve(again, 1, CENT, seconds=1)


@pytest.mark.parametrize("node_id", [None, "0"], ids=["all", "one_node"])
def test_cancel_is_acknowledged_when_no_permit_can_be_used_any_more(bench, monkeypatch, node_id):
    """A worker that got its permit before may send until then, and not after."""
    monkeypatch.setattr("baton.handoff.accounts.SEND_WITHIN_SECONDS", 1.0)
    handoff = bench.submit("a", "b")
    permit = bench.accounts.reserve(bench.claim(handoff), 1, CENT, seconds=60)
    permit.check_usable()
    handoff.cancel(node_id)
    with pytest.raises(PermitExpiredError):
        permit.check_usable()


def test_cancel_waits_for_no_permit_that_was_settled(bench):
    """Nobody can send by it: the acknowledgement comes before its time to send would end."""
    handoff = bench.submit("a")
    permit = bench.accounts.reserve(bench.claim(handoff), 1, CENT, seconds=60)
    bench.accounts.settle(handoff.handoff_id, permit, Usage(), Decimal(0))
    handoff.cancel()
    permit.check_usable()


def test_deadline_ends_what_waits_and_what_runs_as_over_budget(make_bench):
    """Nodes that ended ok before stay; the handoff is what its policy makes of it."""
    started = threading.Event()

    def wait(assignment):
        started.set()
        while not assignment.cancelled:
            time.sleep(0.01)
        assignment.raise_if_cancelled()

    bench = make_bench({"wait": wait}, limits=Limits(lease_seconds=30, node_timeout_seconds=60))
    handoff = bench.submit("a", *by("wait"), "b", budget=Budget(deadline_seconds=1.5))
    bench.queue.messages.clear()
    bench.tree.start(handoff.handoff_id)
    assert bench.engine.run_node(handoff.handoff_id, "0").state == "ok"
    bench.engine.run_node(handoff.handoff_id, "1")
    assert started.is_set()
    until(lambda: states(handoff)["1"] == "over_budget", what="the running node's end")
    assert "deadline" in node_of(handoff, "1").error
    assert bench.engine.run_node(handoff.handoff_id, "2").state == "over_budget"
    bench.pump()
    assert bench.recover(handoff).state == "degraded"
    assert states(handoff) == {"0": "ok", "1": "over_budget", "2": "over_budget"}


def test_deadline_ends_hundreds_of_queued_nodes_without_running_them(make_bench):
    bench = make_bench(limits=Limits(window=4))
    tasks = [f"task {n}" for n in range(500)]
    handoff = bench.submit(*tasks, budget=Budget(deadline_seconds=0.01))
    until(lambda: bench.engine.sweep() >= 0 and handoff.outcome().census["over_budget"] > 400)
    bench.pump()
    assert bench.recover(handoff).census["over_budget"] == 500
    check_census(bench.client, handoff.handoff_id)


def test_open_breaker_of_the_handoff_gives_no_permit_until_it_is_retried(make_bench):
    """A quota that was refused once would be refused each time."""
    bench = make_bench({"pay": paying()})
    handoff = bench.submit(*by("pay"))
    HandoffBreakers(bench.client).open(handoff.handoff_id, "the key's credit is used up")
    bench.pump()
    assert node_of(handoff).error_type == "RunnerError"
    assert "credit is used up" in node_of(handoff).error
    bench.handoffs.retry(handoff.handoff_id)
    bench.pump()
    assert handoff.outcome().state == "done"


def test_retry_with_a_larger_budget_goes_on_and_counts_what_was_spent(make_bench):
    bench = make_bench({"pay": paying()})
    handoff = bench.run(*by("pay", "a", "b", "c"), budget=Budget(tokens=150))
    assert handoff.outcome().census["over_budget"] == 2
    bench.handoffs.retry(handoff.handoff_id, budget=Budget(tokens=300))
    bench.pump()
    assert handoff.outcome().state == "done"
    assert handoff.account().spent_tokens == 300


def test_fail_fast_takes_over_budget_for_a_failure(make_bench):
    bench = make_bench({"pay": paying()})
    handoff = bench.run(*by("pay", "a", "b"), "c", budget=Budget(tokens=150), policy="fail_fast")
    assert handoff.outcome().state == "failed"
    assert states(handoff)["1"] == "over_budget"


def test_costs_are_events(make_bench):
    """A late reader sees each settled call."""
    bench = make_bench({"pay": paying()})
    handoff = bench.run(*by("pay"))
    costs = [event for event in handoff.events() if event.type == "cost"]
    assert [(event.node_id, event.tokens, event.cost_usd) for event in costs] == [("0", 100, 0.01)]


@pytest.mark.parametrize(
    ("tokens", "usd"),
    [
        (-1, CENT), (1.5, CENT), (10**19, CENT),
        (1, Decimal("NaN")), (1, Decimal(-1)), (1, Decimal("1e30")),
    ],
)  # fmt: skip
def test_figures_that_are_none_are_refused_before_anything_is_held(bench, tokens, usd):
    handoff = bench.submit("a")
    with pytest.raises(InvalidInputError):
        bench.accounts.reserve(bench.claim(handoff), tokens, usd, seconds=1)
    assert handoff.account().held_tokens == 0


def _over(bench, claim, tokens):
    try:
        return bench.accounts.reserve(claim, tokens, CENT, seconds=1) is not None
    except OverBudgetError:
        return True


def test_runner_that_catches_the_refusal_may_go_on_without_the_call(make_bench):
    """The error is the runner's to handle: a partial result is one, too."""

    def frugal(assignment):
        try:
            assignment.reserve(1_000, CENT, seconds=1)
        except OverBudgetError:
            return "without the model"
        raise RunnerError("there was room")

    bench = make_bench({"frugal": frugal})
    handoff = bench.run(*by("frugal"), budget=Budget(tokens=10))
    assert handoff.outcome().state == "done"


def test_call_that_is_settled_for_nonsense_counts_as_it_was_reserved(bench):
    """What a runner tells is charged as it is, or not at all; the permit then lapses."""
    handoff = bench.submit("a")
    permit = bench.accounts.reserve(bench.claim(handoff), 7, CENT, seconds=1)
    for usage, usd in [(Usage(-5), CENT), (Usage(10**19), CENT), (Usage(1), Decimal("1e30"))]:
        with pytest.raises(InvalidInputError):
            bench.accounts.settle(handoff.handoff_id, permit, usage, usd)
    assert handoff.account().held_tokens == 7


def test_amounts_of_sixteen_digits_are_exact(bench):
    """JSON in scripts has fourteen: what a permit holds comes back to the last nano-dollar."""
    handoff = bench.submit("a", budget=Budget(tokens=10**15, usd=9_000_000))
    claim = bench.claim(handoff)
    usd, tokens = Decimal("8000000.123456789"), 123_456_789_012_345
    permit = bench.accounts.reserve(claim, tokens, usd, seconds=1)
    bench.accounts.settle(handoff.handoff_id, permit, Usage(), Decimal(0))
    account = handoff.account()
    assert (account.held_tokens, account.held_usd) == (0, 0)
    permit = bench.accounts.reserve(claim, tokens, usd, seconds=1)
    bench.client.zadd(f"handoff:{{{handoff.handoff_id}}}:permit_ends", {permit.permit_id: 1})
    bench.engine.sweep()
    account = handoff.account()
    assert (account.held_usd, account.spent_tokens, account.spent_usd) == (0, tokens, usd)
    bench.accounts.settle(handoff.handoff_id, permit, Usage(output_tokens=3), usd)
    assert handoff.account().spent_usd == usd
    assert node_of(handoff).cost_usd == pytest.approx(float(usd), abs=1e-8)
    cost = next(event for event in bench.view.events(handoff.handoff_id) if event.type == "cost")
    assert cost.cost_usd == float(usd)


def test_permit_whose_answer_was_lost_is_given_back_where_the_repeat_is_refused(bench, monkeypatch):
    """Nobody knows of it, so nobody would settle it."""
    monkeypatch.setattr("baton.handoff.accounts.new_operation_id", lambda: "op_1")
    handoff = bench.submit("a", "b")
    claim = bench.claim(handoff)
    bench.accounts.reserve(claim, 60, CENT, seconds=5)
    bench.tree.end_stopped(handoff.handoff_id)
    with pytest.raises(NodeCancelledError):
        bench.accounts.reserve(claim, 60, CENT, seconds=5)
    assert handoff.account().held_tokens == 0


def test_what_a_function_reports_beside_its_children_counts_too(make_bench):
    """Of both runs: the one that spawned, and the one that gave the result."""

    def lead(assignment):
        if not assignment.children:
            assignment.spawn(by("work"), then="on")
        return RunnerResult("led", Usage(output_tokens=50), 0.01)

    bench = make_bench({"lead": lead})
    handoff = bench.run(*by("lead"))
    assert handoff.outcome().state == "done"
    assert handoff.account().spent_tokens == 100
    assert node_of(handoff).cost_usd == 0.02


@pytest.mark.parametrize("cost_usd", [1e300, 10**20, float("nan"), -1.0],
                         ids=["float", "whole", "nan", "negative"])  # fmt: skip
def test_result_with_a_cost_that_no_account_can_hold_fails_its_node(make_bench, cost_usd):
    bench = make_bench({"boast": lambda _: RunnerResult("told", Usage(), cost_usd)})
    handoff = bench.run(*by("boast"), "b")
    assert states(handoff) == {"0": "failed", "1": "ok"}
    assert node_of(handoff).error_type == "RunnerError"


def test_worker_that_stops_a_handoff_waits_for_no_permit(make_bench, monkeypatch):
    """`fail_fast` asks for no acknowledgement; a sweep that waited would hold up all others."""
    monkeypatch.setattr("baton.handoff.cancelling.time.sleep", pytest.fail)

    def fail(assignment):
        assignment.reserve(1, CENT, seconds=60)
        raise RunnerError("no")

    bench = make_bench({"fail": fail})
    handoff = bench.run(*by("fail"), "b", policy="fail_fast")
    assert handoff.outcome().state == "failed"


def test_clock_of_redis_that_is_set_back_holds_no_cancel_up(bench, monkeypatch):
    monkeypatch.setattr("baton.handoff.cancelling.SEND_WITHIN_SECONDS", 0.2)
    handoff = bench.submit("a")
    bench.accounts.reserve(bench.claim(handoff), 1, CENT, seconds=60)
    bench.client.hset(f"handoff:{{{handoff.handoff_id}}}", "last_send_at", 10**15)
    assert handoff.cancel() == "running"


def test_call_that_is_settled_while_a_retry_begins_is_not_forgotten(bench, monkeypatch):
    """The retry copies the nodes: it looks again where one has changed meanwhile."""
    handoff = bench.submit("a")
    permit = bench.accounts.reserve(bench.claim(handoff), 60, CENT, seconds=5)
    bench.pass_time(handoff, "0")
    bench.tree.end_stopped(handoff.handoff_id)
    bench.pass_time(handoff, "0")
    bench.engine.sweep()
    assert handoff.outcome().state == "cancelled"

    def settle(point):
        if point == "retry.staged":
            bench.accounts.settle(handoff.handoff_id, permit, Usage(input_tokens=60), CENT)

    monkeypatch.setattr("baton.handoff.retrying.reach", settle)
    bench.handoffs.retry(handoff.handoff_id)
    assert node_of(handoff).usage == {"input_tokens": 60}
    assert node_of(handoff).cost_usd == 0.01
    assert handoff.account().spent_usd == CENT
