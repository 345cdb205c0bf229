"""The Anthropic runner where calls fail: what is tried again, what is paid, what is said of it."""

from __future__ import annotations

import logging
import time
import traceback
from decimal import Decimal

import pytest
from pydantic import SecretStr

from anthropic_bench import HAIKU, KEY, PRICES
from baton.agents.breakers import BreakerPolicy, ModelBreakers
from baton.agents.calls import Call
from baton.agents.rate_limits import RateLimit
from baton.errors import (
    ModelUnavailableError,
    OverBudgetError,
    RunnerError,
    StoreUnavailableError,
    TransientError,
)
from baton.testing.fake_anthropic import (
    Cut,
    Failure,
    FakeAnthropic,
    Reply,
    ToolCall,
    billing_refused,
    overloaded,
    rate_limited,
    server_error,
    spend_limit_reached,
)
from paid_assignment import Budget

# No server makes a difference here; scripts and commands are tested on both elsewhere.
pytestmark = pytest.mark.one_redis

CUT = Reply("word " * 100, cut=Cut(after_events=5))


def assert_no_secret(error, caplog=None):
    """Neither the error, nor what it came from, nor a log holds the key."""
    told = "".join(traceback.format_exception(error)) + repr(error)
    chain = [error]
    while chain[-1].__cause__ or chain[-1].__context__:
        chain.append(chain[-1].__cause__ or chain[-1].__context__)
    told += "".join(str(vars(each)) for each in chain)
    if caplog is not None:
        told += caplog.text
    assert KEY not in told


@pytest.mark.parametrize(
    "failure",
    [overloaded(), server_error(), server_error(503), rate_limited(0), rate_limited(),
     Failure(409, "conflict_error", "Busy.")],
    ids=["529", "500", "503", "429-after", "429", "409"],
)  # fmt: skip
def test_what_may_pass_is_tried_again(anthropic_bench, failure):
    """Each try has a permit of its own, and what the API refused costs nothing."""
    bench = anthropic_bench
    bench.fake.reply_with({"Review": "Fine."})
    runner, work = bench.runner(warms=False), bench.assignment()
    bench.fake.fail(failure, times=2)
    result = runner.run(work)
    assert result.content == "Fine."
    assert result.details["calls"] == {"answered": 1, "warming": 0, "failed": 2, "lost": 0}
    assert len(work.budget.settled) == 4  # the count, and three tries
    assert work.budget.spent[1] == bench.fake.spent_usd


@pytest.mark.parametrize(
    "reply",
    [CUT, Reply("word " * 100, cut=Cut(5, cleanly=True)),
     Reply("word " * 100, cut=Cut(5, error=overloaded())), Reply("word", breaks_json=True),
     Reply("word", cut=Cut(after_events=0))],
    ids=["cut", "cleanly", "error-event", "json", "no-byte"],
)  # fmt: skip
def test_a_lost_answer_counts_in_full_and_is_asked_for_again(anthropic_bench, reply):
    """It was probably paid: never less is settled than the API bills."""
    bench = anthropic_bench
    bench.fake.reply_with([reply, "Whole."])
    work = bench.assignment()
    result = bench.runner(warms=False).run(work)
    assert result.content == "Whole."
    assert result.details["calls"]["lost"] == 1
    lost_usage, _ = list(work.budget.settled.values())[1]
    assert lost_usage.output_tokens == 1_000
    assert work.budget.spent[1] > bench.fake.spent_usd


def test_lost_answers_are_asked_for_three_times(anthropic_bench):
    """As each is paid; then the node is tried again, by the engine."""
    bench = anthropic_bench
    bench.fake.reply_with(lambda _: CUT)
    with pytest.raises(ModelUnavailableError, match="3 answers were lost"):
        bench.runner().run(bench.assignment())
    assert len(bench.answered()) == 3


@pytest.mark.parametrize(
    "failure",
    [Failure(401, "authentication_error", f"invalid key {KEY}"),
     Failure(403, "permission_error", f"Bearer {KEY} may not"), billing_refused(),
     spend_limit_reached(),
     Failure(403, "permission_error", "On hold.", error_code="organization_on_hold")],
    ids=["401", "403", "402", "spend-limit", "on-hold"],
)  # fmt: skip
def test_a_refused_account_stops_the_handoff(anthropic_bench, failure, caplog):
    """No retry, no further call of the handoff by anybody, and a reason without the key."""
    bench = anthropic_bench
    caplog.set_level(logging.DEBUG)
    runner = bench.runner(warms=False)
    bench.fake.fail(failure, times=None)
    with pytest.raises(RunnerError, match="the API refused the call: HTTP 4") as refused:
        runner.run(bench.assignment())
    assert len(bench.calls()) == 1
    reason = bench.handoff_breakers.find("handoff_1")
    assert failure.type in reason
    assert KEY not in reason
    assert_no_secret(refused.value, caplog)
    with pytest.raises(RunnerError, match="calls no more models"):
        bench.runner().run(bench.assignment())
    assert len(bench.calls()) == 1


@pytest.mark.parametrize(
    "failure",
    [Failure(400, "invalid_request_error", "no"), Failure(404, "not_found_error", "no"),
     Failure(413, "request_too_large", "no"), Failure(422, "unknown_error", "no")],
    ids=["400", "404", "413", "422"],
)  # fmt: skip
def test_a_refused_request_is_a_failure_of_the_node_alone(anthropic_bench, failure):
    """No retry mends it, and others of the handoff go on."""
    bench = anthropic_bench
    bench.fake.fail(failure)
    work = bench.assignment()
    with pytest.raises(RunnerError, match=f"HTTP {failure.status}"):
        bench.runner(warms=False).run(work)
    assert len(bench.calls()) == 1
    assert bench.handoff_breakers.find("handoff_1") is None
    assert work.budget.spent == (0, Decimal(0))


def test_a_wrong_key_is_refused_without_telling_it(redis_client, anthropic_bench):
    """The real path of a 401: the SDK's error holds the key, ours does not."""
    runner = anthropic_bench.runner(api_key=SecretStr("sk-ant-wrong"))
    with pytest.raises(RunnerError, match="authentication_error") as refused:
        runner.run(anthropic_bench.assignment())
    told = "".join(traceback.format_exception(refused.value))
    assert "sk-ant-wrong" not in told
    assert refused.value.__cause__ is refused.value.__context__ is None


def test_nobody_at_the_address_costs_nothing(redis_client, anthropic_bench):
    """A connection that never was is tried again, then left to the engine; nothing is spent."""
    bench = anthropic_bench
    bench.fake.close()
    work = bench.assignment(seconds=1.0)
    with pytest.raises(TransientError) as unreachable:
        bench.runner(warms=False).run(work)
    assert work.budget.spent == (0, Decimal(0))
    assert work.budget.outstanding == {}
    assert_no_secret(unreachable.value)


def test_a_silent_api_is_given_up_after_the_timeout(anthropic_bench):
    """A call ends by its own timeout, counts in full, and as overload for the breaker."""
    from baton.testing.fake_anthropic import Gate, Pace

    bench = anthropic_bench
    gate = Gate()
    bench.fake.reply_with([Reply("late", pace=Pace(first_byte_after=gate)), "In time."])
    work = bench.assignment()
    result = bench.runner(warms=False, timeout_seconds=0.5).run(work)
    gate.open()
    assert result.content == "In time."
    assert result.details["calls"]["lost"] == 1
    lost_usage, lost_usd = list(work.budget.settled.values())[1]
    assert lost_usage.output_tokens == 1_000
    assert lost_usd == work.budget.most_reserved_usd


def test_the_nodes_own_time_bounds_all_tries(anthropic_bench):
    """An API that stays overloaded is left before the node's time is up."""
    bench = anthropic_bench
    bench.fake.fail(overloaded(), times=None)
    work = bench.assignment(seconds=1.5)
    began = time.monotonic()
    with pytest.raises(ModelUnavailableError, match="node's time"):
        bench.runner(backoff_seconds=0.2).run(work)
    assert time.monotonic() - began < 30
    assert work.budget.outstanding == {}


def test_overload_opens_the_breaker_of_the_model(anthropic_bench, redis_client):
    """Enough failed calls close the gate for everybody; nobody is called behind it."""
    bench = anthropic_bench
    policy = BreakerPolicy(failures=3, of_calls=3, open_seconds=60)
    bench.model_breakers = ModelBreakers(redis_client, policy)
    bench.fake.fail(overloaded(), times=None)
    with pytest.raises(ModelUnavailableError, match="overloaded"):
        bench.runner(warms=False).run(bench.assignment(seconds=20))
    assert len(bench.calls()) == 3
    assert bench.model_breakers.ask(Call(HAIKU, "handoff_2", 1)) > 0


def test_retry_after_holds_the_model_for_everybody(anthropic_bench):
    """What the API asks for is kept by all processes, and a node without that time gives up."""
    bench = anthropic_bench
    bench.fake.fail(rate_limited(retry_after_seconds=120))
    with pytest.raises(ModelUnavailableError, match="rate limit"):
        bench.runner(warms=False).run(bench.assignment(seconds=20))
    assert len(bench.calls()) == 1
    with pytest.raises(ModelUnavailableError, match="rate limit"):
        bench.runner(warms=False).run(bench.assignment(handoff_id="handoff_2", seconds=20))
    assert len(bench.calls()) == 1


def test_rate_limits_are_asked_and_settled(anthropic_bench):
    """A call takes what it may use and gives back what it did not."""
    bench = anthropic_bench
    bench.limit = RateLimit(requests_per_minute=1_000, tokens_per_minute=4_500)
    runner = bench.runner(warms=False)
    for _ in range(2):  # each may use over half of the bucket, and uses less
        runner.run(bench.assignment(seconds=5))
    assert len(bench.answered()) == 2


def test_a_budget_without_room_ends_the_node_before_the_call(anthropic_bench):
    """What the call may cost at most does not fit, so nothing is sent."""
    bench = anthropic_bench
    work = bench.assignment(budget=Budget(usd=Decimal("0.0001")))
    with pytest.raises(OverBudgetError):
        bench.runner().run(work)
    assert bench.calls() == []


def test_an_expired_permit_is_replaced(anthropic_bench):
    """It is settled with nothing, and another is asked for, before anything is sent."""
    bench = anthropic_bench
    work = bench.assignment(expired_permits=3)
    result = bench.runner(warms=False).run(work)
    assert len(bench.answered()) == 1
    assert result.details["calls"]["failed"] == 0  # nor was it waited for
    assert work.budget.outstanding == {}
    assert work.budget.spent[1] == bench.fake.spent_usd


def test_without_redis_nothing_is_sent(anthropic_bench, redis_server):
    """Nobody knows then whether the call may go."""
    bench = anthropic_bench
    runner = bench.runner(warms=False)
    gate = runner._caller._gate

    class Away:
        def ask(self, call):
            raise StoreUnavailableError("Redis did not answer")

        def report(self, call, end):
            raise StoreUnavailableError("Redis did not answer")

    gate._breakers = Away()
    with pytest.raises(StoreUnavailableError):
        runner.run(bench.assignment())
    assert bench.calls() == []


def test_a_tool_call_that_broke_off_is_a_lost_answer(anthropic_bench):
    """Half of a tool's arguments are never carried out."""
    bench = anthropic_bench
    half = Reply(tool_calls=[ToolCall("spawn_workers", {"tasks": ["x" * 200]})], cut=Cut(6))
    bench.fake.reply_with([half, "Whole."])
    work = bench.assignment()
    assert bench.runner(warms=False).run(work).content == "Whole."
    assert work.reach == []


def test_each_cent_of_failing_traffic_is_settled(redis_client):
    """Whatever fails on the way, settled spend is never below the API's bill."""
    from anthropic_bench import AnthropicBench

    fake = FakeAnthropic(prices=PRICES, workspaces={KEY: "ours"}).start()
    bench = AnthropicBench(redis_client, fake)
    try:
        answers = [CUT, overloaded(), "one", rate_limited(0), CUT, "two", server_error(), "three"]
        fake.reply_with(answers)
        budget = Budget()
        for _ in range(3):
            bench.runner().run(bench.assignment(budget=budget))
        assert budget.spent[1] >= fake.spent_usd
        assert budget.outstanding == {}
    finally:
        bench.close()
