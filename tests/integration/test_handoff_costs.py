"""What a handoff cost, as `baton handoff show` tells it."""

from __future__ import annotations

import pytest

from baton.agents.cache_report import CacheReport, merge
from baton.agents.runner import ChildTask, RunnerResult, Usage
from baton.handoff.request import TaskSpec
from baton.handoff.totals import Totals
from baton_command import BatonCommand

WARMING = CacheReport(calls=1, writes=1, written_tokens=90_000, saved_nano=-11_250_000)
READ = CacheReport(calls=1, hits=1, read_tokens=90_000, saved_nano=8_100_000)


class Paid:
    """A runner of two nodes; the first one warms."""

    name = "paid"

    def run(self, assignment):
        read = Usage(input_tokens=100, output_tokens=20, cache_read_tokens=90_000)
        if assignment.node_id == "0":
            report, usage = merge([WARMING, READ]), Usage(100, 20, 90_000, 90_000)
            return RunnerResult("ok", usage, 0.01217, {"cache": report.as_dict()})
        return RunnerResult("ok", read, 0.00092, {"cache": READ.as_dict()})


@pytest.fixture
def handoff(make_bench):
    bench = make_bench({"paid": Paid()})
    return bench.run(
        TaskSpec(instruction="one", runner="paid"), TaskSpec(instruction="two", runner="paid")
    )


@pytest.fixture
def baton(tmp_path, redis_server):
    return BatonCommand(tmp_path, "handoff", BATON_REDIS_URL=redis_server.url)


def test_handoff_shows_what_it_cost(baton, handoff):
    """Dollars, tokens, and what the cache did, over all nodes."""
    shown = baton("show", handoff.handoff_id).stdout.decode()
    assert "cost     $0.0131" in shown
    assert "270,200 in (180,000 read from the cache, 90,000 written to it), 40 out" in shown
    assert "2 hit, 1 wrote, 0 missed; saved $0.0050" in shown


def test_handoff_tells_what_it_cost_as_json(baton, handoff):
    """The same, in fields of their own."""
    shown = baton.json("show", handoff.handoff_id)
    assert shown["cost_usd"] == 0.01309
    assert shown["usage"] == {
        "input_tokens": 200, "output_tokens": 40, "cache_write_tokens": 90_000,
        "cache_read_tokens": 180_000,
    }  # fmt: skip
    assert shown["cache"]["saved_usd"] == 0.00495
    assert (shown["cache"]["hits"], shown["cache"]["misses"]) == (2, {})


def test_result_of_all_or_of_one_node_is_printed_as_it_is(handoff, baton):
    """Exit code 4 where there is none, and 2 where there can be no such node."""
    assert baton("result", handoff.handoff_id, "1").stdout == b"ok"
    assert baton.json("result", handoff.handoff_id)["result"] == handoff.result()
    assert "no result of node 7" in baton("result", handoff.handoff_id, "7", code=4).stderr.decode()
    baton.error("result", handoff.handoff_id, "../1", code=2)
    baton.error("result", "handoff_unknown", code=4)


def test_what_a_node_did_before_its_children_counts_with_what_it_did_after(make_bench):
    """The warming call may have been made by a run that ended in waiting."""

    class Lead:
        name = "lead"

        def run(self, assignment):
            if assignment.children:
                return RunnerResult("sum", Usage(), 0.0, {"cache": READ.as_dict()})
            assignment.spawn([ChildTask("child", "work")], then="on")
            report = merge([WARMING, READ])
            return RunnerResult("", Usage(), 0.0, {"cache": report.as_dict(), "calls": {"n": 2}})

    handoff = make_bench({"lead": Lead()}).run(TaskSpec(instruction="one", runner="lead"))
    assert Totals.of(handoff.nodes()).cache == merge([WARMING, READ, READ])
