"""`baton run --runner anthropic` over real pools, with the real SDK, against the fake endpoint."""

from __future__ import annotations

import json

import pytest

from anthropic_bench import KEY, PRICES
from baton.testing.fake_anthropic import FakeAnthropic, Reply, ToolCall
from baton_command import BatonCommand

CONTEXT = "# Leases\n\nA lease lasts thirty seconds and is renewed by a thread.\n\n" * 60

pytestmark = pytest.mark.acceptance


@pytest.fixture
def fake():
    with FakeAnthropic(prices=PRICES, workspaces={KEY: "ours"}) as server:
        yield server


@pytest.fixture
def pools(stack, fake):
    """Pools that are set to the fake."""
    made = stack(
        "agents", "context", "lifecycle", beat=True,
        env={
            "BATON_ANTHROPIC_API_KEY": KEY,
            "BATON_ANTHROPIC_BASE_URL": fake.base_url,
            "BATON_ANTHROPIC_REQUESTS_PER_MINUTE": "10000",
            "BATON_NODE_SWEEP_SECONDS": "0.5",
            "BATON_AGENTS_THREADS": "12",
        },
    )  # fmt: skip
    yield made
    assert KEY not in made.logs()


@pytest.fixture
def show(pools, tmp_path):
    """What `baton handoff show` prints."""
    command = BatonCommand(tmp_path, "handoff", "show", BATON_REDIS_URL=pools.url)
    return lambda *arguments: command(*arguments).stdout.decode()


@pytest.fixture
def run(pools, tmp_path):
    """Runs `baton run --runner anthropic` on the pools."""
    command = BatonCommand(tmp_path, "run", BATON_REDIS_URL=pools.url)
    context = command.file("context.md", CONTEXT.encode())

    def baton(*tasks, **more):
        return command.json("--context", context, "--runner", "anthropic", *tasks, **more)

    return baton


def answer(request):
    """Task `parent` spawns two children and sums them up; `look` uses a tool; others echo."""
    task = request.last_text
    if request.tool_results:
        return "It lasts thirty seconds." if "thirty" in task else "Draft."
    if task.endswith("parent"):
        return Reply(
            tool_calls=[ToolCall("spawn_workers", {"tasks": ["one", "two"], "then": "Sum up"})]
        )
    if task.endswith("look"):
        return Reply(tool_calls=[ToolCall("search_context", {"query": "lease"})])
    if task.endswith("Sum up"):
        return Reply(tool_calls=[ToolCall("report", {"result": f"Sum: {task.count('Done: ')}"})])
    return f"Done: {task.rpartition(chr(10))[2]}"


def test_run_with_the_anthropic_runner(run, fake):
    """Tasks, a tool loop and children become one merged result; the prefix is written once."""
    fake.reply_with(answer)
    done = run("alone", "look", "parent")
    assert done["status"] == "done"
    assert done["census"]["ok"] == done["census"]["total"] == 5
    for expected in ("Done: alone", "It lasts thirty seconds.", "Sum: 2"):
        assert expected in done["result"]
    calls = [call for call in fake.calls if call.endpoint == "messages"]
    assert [call.cache for call in calls].count("write") == 1
    assert {call.cache for call in calls} == {"write", "hit"}
    assert KEY not in str(done)


def saved_by(calls):
    """What the cache saved in these calls, in nano-dollars, by the price list of Haiku."""
    nano = 0
    for call in calls:
        used = call.usage
        paid = 100 * used.input_tokens + 125 * used.cache_write_tokens + 10 * used.cache_read_tokens
        without = 100 * used.prompt_tokens if call.body["max_tokens"] else 0
        nano += without - paid
    return nano


def test_run_tells_exactly_what_the_cache_did(run, show, fake):
    """One write and a hit for each worker, what that saved and what all cost, to the last cent;
    and, once the entry has gone, why a call read nothing."""
    done = run(*(f"task {n}" for n in range(8)))
    cache, calls = done["cache"], [call for call in fake.calls if call.endpoint == "messages"]
    assert (cache["calls"], cache["hits"], cache["writes"], cache["misses"]) == (9, 8, 1, {})
    assert cache["written_tokens"] == calls[0].usage.cache_write_tokens
    assert cache["read_tokens"] == 8 * cache["written_tokens"]
    assert round(cache["saved_usd"] * 10**9) == saved_by(calls) > 0
    assert round(done["cost_usd"] * 10**9) == fake.spent_usd * 10**9
    told = show(done["handoff"])
    assert "8 hit, 1 wrote, 0 missed; saved $" in told
    fake.forget_cache()
    again = run("alone")["cache"]
    assert (again["hits"], again["writes"]) == (0, 1)
    assert again["misses"] == {"expired_or_evicted": 1}
    assert again["saved_usd"] < 0


def test_run_tells_why_the_api_refused(run, show, fake):
    """The reason is the node's error; after it no call of the handoff is sent, as `show` says."""
    fake.limit_spend("0")
    done = run("alone", code=4)
    assert done["status"] == "failed"
    assert "enforced_spend_limit_reached" in done["nodes"][0]["error"]
    told = show(done["handoff"])
    assert "no more calls are sent for it: the model's API refused the account: HTTP 429" in told
    assert "enforced_spend_limit_reached" in json.loads(show(done["handoff"], "--json"))["breaker"]
    assert KEY not in str(done) + told
