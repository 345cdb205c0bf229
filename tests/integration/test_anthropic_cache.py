"""Cache-aware launch of the Anthropic runner: who writes, who reads, what is reserved and saved."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from anthropic_bench import HAIKU, SONNET, AnthropicBench
from baton.agents.anthropic.token_bound import most_tokens
from baton.agents.cache_report import CACHE, CacheReport, merge
from baton.testing.fake_anthropic import Failure, Reply, ToolCall, overloaded
from paid_assignment import Budget

# No server makes a difference here; scripts and commands are tested on both elsewhere.
pytestmark = pytest.mark.one_redis

WORKERS = 50
SHARED_TOKENS = 90_000
CONTEXT = "The lease lasts thirty seconds, and is renewed by a thread. " * 200


def report_of(result):
    return CacheReport.from_dict(result.details[CACHE])


def context_of(bench: AnthropicBench, tokens: int, model: str) -> str:
    """A context with which the shared prefix is `tokens` long, as the fake counts."""
    bench.fake.reply_with(lambda _: "ok")
    bench.runner(model=model).run(bench.assignment(context="word" * 100))
    around = bench.answered()[-1].usage.cache_read_tokens - 100
    return "word" * (tokens - around)


@pytest.mark.parametrize(
    ("model", "cached_usd", "uncached_usd"),
    [(HAIKU, "0.05625", "0.45"), (SONNET, "0.675", "9.00")],
    ids=["haiku", "sonnet"],
)
def test_fifty_workers_write_a_shared_prefix_once(anthropic_bench, model, cached_usd, uncached_usd):
    """One warming call writes, fifty read; it costs what the price list says, under a budget that
    reservations at full price would not fit into."""
    bench = anthropic_bench
    context = context_of(bench, SHARED_TOKENS, model)
    before, spent_before = len(bench.calls()), bench.fake.spent_usd
    budget = Budget(usd=Decimal(cached_usd) * Decimal("1.06"))
    runners = [bench.runner(model=model, max_output_tokens=200) for _ in range(5)]
    works = [
        bench.assignment(instruction=f"Task {n:02}.", context=context, budget=budget)
        for n in range(WORKERS)
    ]
    with ThreadPoolExecutor(WORKERS) as threads:
        results = list(threads.map(lambda n: runners[n % 5].run(works[n]), range(WORKERS)))
    calls = bench.calls()[before:]
    assert [call.cache for call in calls].count("write") == 1
    assert [call.cache for call in calls].count("hit") == WORKERS
    assert len(calls) == WORKERS + 1
    assert calls[0].body["max_tokens"] == 0
    assert calls[0].usage.cache_write_tokens == SHARED_TOKENS
    spent = bench.fake.spent_usd - spent_before
    assert budget.spent[1] == spent
    assert float(spent) == pytest.approx(float(cached_usd), rel=0.01)
    cache = merge(report_of(result) for result in results)
    assert (cache.hits, cache.writes, cache.misses) == (WORKERS, 1, {})
    assert float(cache.saved_usd) == pytest.approx(
        float(uncached_usd) - float(cached_usd), rel=0.01
    )


def test_prefix_is_counted_once_for_a_process(anthropic_bench):
    """Of many nodes at once one asks the API how long the prefix is."""
    bench = anthropic_bench
    runner = bench.runner()
    works = [bench.assignment(context=CONTEXT) for _ in range(10)]
    with ThreadPoolExecutor(10) as threads:
        list(threads.map(runner.run, works))
    assert [call.endpoint for call in bench.fake.calls].count("count_tokens") == 1


def test_without_a_count_the_estimate_is_reserved(anthropic_bench):
    """An API that counts nothing now is no failure."""
    bench = anthropic_bench
    bench.fake.fail(overloaded(), times=None, endpoint="count_tokens")
    work = bench.assignment(context=CONTEXT)
    bench.runner().run(work)
    assert work.budget.spent[1] == bench.fake.spent_usd


def test_reservations_are_never_below_what_is_used(anthropic_bench):
    """Of every call: what it settles is within what it reserved."""
    bench = anthropic_bench
    work = bench.assignment(context=CONTEXT)
    reserved, reserve = {}, work.reserve

    def noted(tokens, usd, *, seconds):
        permit = reserve(tokens, usd, seconds=seconds)
        reserved[permit.permit_id] = (tokens, usd)
        return permit

    work.reserve = noted
    read = Reply(tool_calls=[ToolCall("read_context", {"start": 0, "end": 5_000})])
    bench.fake.reply_with([read, read, "Done."])
    bench.runner().run(work)
    assert len(reserved) == 5  # count, warm, three turns
    for permit_id, (usage, usd) in work.budget.settled.items():
        prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        assert prompt + usage.output_tokens <= reserved[permit_id][0]
        assert usd <= reserved[permit_id][1]


def test_a_short_prefix_is_neither_marked_nor_warmed(anthropic_bench):
    """Below the model's minimum the API would silently cache nothing; the details say why."""
    bench = anthropic_bench
    runner = bench.runner(model="claude-haiku-4-5")
    cache = report_of(runner.run(bench.assignment()))
    (call,) = bench.calls()
    assert "cache_control" not in str(call.body["system"])
    assert (cache.hits, cache.writes, cache.misses) == (0, 0, {"below_minimum": 1})
    assert cache.saved_usd == 0


def test_an_entry_that_went_is_written_again_and_told(anthropic_bench):
    """A node that should have read but wrote says so, and the next one reads."""
    bench = anthropic_bench
    runner = bench.runner()
    runner.run(bench.assignment(context=CONTEXT))
    bench.fake.forget_cache()
    cache = report_of(runner.run(bench.assignment(context=CONTEXT)))
    assert (cache.writes, cache.misses) == (1, {"expired_or_evicted": 1})
    assert cache.saved_usd < 0
    assert report_of(runner.run(bench.assignment(context=CONTEXT))).hits == 1


def test_an_endpoint_without_warming_calls_is_used_without(anthropic_bench):
    """A gateway that refuses `max_tokens=0` costs the saving, not the work."""
    bench = anthropic_bench
    runner = bench.runner()
    bench.fake.fail(Failure(400, "invalid_request_error", "max_tokens: 1 or more"))
    result = runner.run(bench.assignment(context=CONTEXT))
    assert report_of(result).misses == {"not_warmed": 1}
    assert result.content.startswith("echo")


def test_equal_contexts_of_two_sessions_share_an_entry(anthropic_bench):
    """Nothing before the breakpoint tells them apart, also where the context goes as a view."""
    bench = anthropic_bench
    for options in ({}, {"max_context_tokens": 3_000}):
        writes = len([call for call in bench.calls() if call.cache == "write"])
        for session in ("session_1", "session_2"):
            work = bench.assignment(context=CONTEXT, session_id=session, context_version="7.0.1")
            bench.runner(**options).run(work)
        assert len([call for call in bench.calls() if call.cache == "write"]) == writes + 1


@pytest.mark.parametrize(
    "text",
    ["Plain prose, of words.\n" * 99, "x = {'a': [1, 2.5e-9], **b}\n" * 99, "多数人\n" * 99,
     "0123456789" * 99, "", " \t\n" * 99, "🎈é" * 99],
    ids=["prose", "code", "chinese", "digits", "empty", "space", "emoji"],
)  # fmt: skip
def test_token_bound_is_above_three_bytes_a_token(text):
    """Denser than the densest figure that is known of usual text."""
    assert most_tokens(text) >= len(text) / 3
    assert most_tokens(text) <= len(text.encode()) + 1


def prose(tokens):
    """Text that a view can cut, of so many tokens as the fake counts."""
    part = "The agent read the file, found the retry rule, and wrote it down for the others.\n\n"
    text = "".join(f"# Part {n}\n\n{part * 5}" for n in range(tokens // 90))
    return text[: 4 * tokens]


def test_a_context_just_above_a_price_cliff_is_packed_under_it(anthropic_bench):
    """All workers share one view below the cliff, at a fifth of the price, and are told so."""
    bench = anthropic_bench
    context = prose(108_000)
    works = [bench.assignment(instruction=f"Task {n}.", context=context) for n in range(4)]
    results = [bench.runner().run(work) for work in works]
    prompts = {call.usage.prompt_tokens > 100_000 for call in bench.calls()}
    assert prompts == {False}
    assert [call.cache for call in bench.calls()] == ["write", "hit", "hit", "hit", "hit"]
    told = results[0].details["context"]
    assert told["packed_under_tokens"] == 100_000
    assert 0 < told["left_out_bytes"] < 0.2 * len(context)


@pytest.mark.parametrize(
    ("tokens", "options"),
    [(108_000, {"most_left_out_share": 0.0}), (150_000, {}), (60_000, {})],
    ids=["forbidden", "far-above", "below"],
)
def test_a_context_is_sent_whole_where_packing_is_not_worth_it(anthropic_bench, tokens, options):
    """Too much would be left out, or nothing need be."""
    bench = anthropic_bench
    result = bench.runner(**options).run(bench.assignment(context=prose(tokens)))
    assert result.details["context"] == {"left_out_bytes": 0, "packed_under_tokens": None}
