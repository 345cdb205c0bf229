"""`baton run --runner anthropic` over real pools, with the real SDK, against the fake endpoint."""

from __future__ import annotations

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
def run(stack, fake, tmp_path):
    """Runs `baton run --runner anthropic` on pools that are set to the fake."""
    pools = stack(
        "agents", "context", "lifecycle", beat=True,
        env={
            "BATON_ANTHROPIC_API_KEY": KEY,
            "BATON_ANTHROPIC_BASE_URL": fake.base_url,
            "BATON_ANTHROPIC_REQUESTS_PER_MINUTE": "10000",
            "BATON_NODE_SWEEP_SECONDS": "0.5",
            "BATON_AGENTS_THREADS": "12",
        },
    )  # fmt: skip
    command = BatonCommand(tmp_path, "run", BATON_REDIS_URL=pools.url)
    context = command.file("context.md", CONTEXT.encode())

    def baton(*tasks, **more):
        return command.json("--context", context, "--runner", "anthropic", *tasks, **more)

    yield baton
    assert KEY not in pools.logs()


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


def test_run_tells_why_the_api_refused(run, fake):
    """The reason is the node's error; after it no call of the handoff is sent."""
    fake.limit_spend("0")
    done = run("alone", code=4)
    assert done["status"] == "failed"
    assert "enforced_spend_limit_reached" in done["nodes"][0]["error"]
    assert KEY not in str(done)
