"""Runners that fail in every way: each ends as a recorded node, never as an error of the engine."""

from __future__ import annotations

import sys
import threading

import pytest

from baton.agents.runner import RunnerResult, Usage
from baton.errors import NodeCancelledError, RunnerError, SessionBusyError
from baton.handoff.request import Limits, TaskSpec
from handoff_bench import AGENT, SESSION, RawRunner, check_census, endings, node_of, states
from waiting import until


class UnspeakableError(Exception):
    def __str__(self):
        raise ValueError("no text")


def raising(error):
    def run(_assignment):
        raise error

    return run


def by(runner, *instructions):
    return [TaskSpec(instruction=text, runner=runner) for text in instructions or ("it",)]


def test_runner_that_raises_degrades_the_handoff(make_bench):
    """One failed node of two: the handoff is degraded, and the merge says what is missing."""
    bench = make_bench({"bad": raising(ValueError("no such table"))})
    handoff = bench.run("good", *by("bad", "ask it"))
    outcome = handoff.outcome()
    assert (outcome.state, outcome.version) == ("degraded", "1.0.1")
    node = node_of(handoff, "1")
    assert (node.state, node.error_type, node.error) == ("failed", "ValueError", "no such table")
    assert node.attempt == 1
    assert "_No result: this task was failed (ValueError: no such table)._" in handoff.result()
    check_census(bench.client, handoff.handoff_id)


def test_runner_that_fails_everywhere_fails_the_handoff(make_bench):
    """No node ended well: the handoff failed, and the context has no new version."""
    bench = make_bench({"bad": raising(KeyError("x"))})
    outcome = bench.run(*by("bad", "a", "b")).outcome()
    assert (outcome.state, outcome.version, outcome.census["failed"]) == ("failed", None, 2)
    assert bench.store.resolve_version(SESSION) == "1.0.0"


@pytest.mark.parametrize(
    ("error", "error_type", "text"),
    [
        (ValueError("two\nlines \x1b[31m red \ud800"), "ValueError", "two lines ?[31m red ?"),
        (RuntimeError("long " * 100_000), "RuntimeError", "long long"),
        (UnspeakableError(), "UnspeakableError", "<exception str() failed>"),
        (ValueError(), "ValueError", ""),
        (SystemExit(3), "SystemExit", "3"),
        (RecursionError("deep"), "RecursionError", "deep"),
        (MemoryError(), "MemoryError", ""),
        (RunnerError("the model said no"), "RunnerError", "the model said no"),
        (NodeCancelledError("not really"), "NodeCancelledError", "not really"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.parametrize("kind", ["function", "raw"])
def test_runner_error_is_told_in_one_bounded_line(make_bench, kind, error, error_type, text):
    """Whatever is raised is recorded: its type, and one printable line of bounded length."""

    def throw():
        raise error

    bench = make_bench({"bad": raising(error) if kind == "function" else RawRunner(throw)})
    node = node_of(bench.run(*by("bad")))
    assert (node.state, node.error_type) == ("failed", error_type)
    assert text in node.error
    assert node.error.isprintable()
    assert len(node.error) <= 1_000


DEEP = {}
for _ in range(3_000):
    DEEP = {"deeper": DEEP}


@pytest.mark.parametrize(
    ("result", "error_type"),
    [
        (None, "RunnerError"),
        (42, "RunnerError"),
        (b"bytes", "RunnerError"),
        (RunnerResult(None), "RunnerError"),
        (RunnerResult("\ud800"), "InvalidTextError"),
        (RunnerResult("x" * 1_001), "InvalidInputError"),
        (RunnerResult("ok", usage={"input_tokens": 3}), "RunnerError"),
        (RunnerResult("ok", usage=Usage(input_tokens=-1)), "RunnerError"),
        (RunnerResult("ok", usage=Usage(input_tokens="many")), "RunnerError"),
        (RunnerResult("ok", cost_usd=float("nan")), "RunnerError"),
        (RunnerResult("ok", cost_usd=-1.0), "RunnerError"),
        (RunnerResult("ok", details={"at": float("inf")}), "RunnerError"),
        (RunnerResult("ok", details={"at": object()}), "RunnerError"),
        (RunnerResult("ok", details={"at": "x" * 100_000}), "RunnerError"),
        (RunnerResult("ok", details=7), "RunnerError"),
    ],
)
def test_runner_that_returns_garbage_fails_its_node(make_bench, result, error_type):
    """A result that could not be stored or counted is refused, also from a runner of one's own."""
    bench = make_bench({"raw": RawRunner(result)}, max_result_bytes=1_000)
    handoff = bench.run(*by("raw"))
    node = node_of(handoff)
    assert (node.state, node.error_type) == ("failed", error_type), node.error
    assert handoff.outcome().state == "failed"
    check_census(bench.client, handoff.handoff_id)


def test_runner_details_deeper_than_json_is_read_do_no_harm(make_bench):
    """Details that one parser can hold and another cannot never reach the server's."""
    bench = make_bench({"raw": RawRunner(RunnerResult("ok", details=DEEP))})
    handoff = bench.run(*by("raw"))
    assert handoff.outcome().ended
    check_census(bench.client, handoff.handoff_id)


def test_runner_figures_come_back_as_given(make_bench):
    """Usage, cost, details and size are kept exactly, empty lists and long numbers included."""
    details = {"ranges": [[0, 10], []], "none": {}, "id": 2**60, "text": "naïve \ud800", "f": 0.1}
    result = RunnerResult(
        "text ü", usage=Usage(1, 2, 0, 2**40), cost_usd=0.1 + 0.2, details=details
    )
    node = node_of(make_bench({"raw": RawRunner(result)}).run(*by("raw")))
    assert node.state == "ok"
    assert node.details == details
    assert node.usage == {"input_tokens": 1, "output_tokens": 2, "cache_read_tokens": 2**40}
    assert node.cost_usd == pytest.approx(0.3)
    assert node.size_bytes == 7


def test_unknown_runner_fails_its_node(bench):
    """A runner that nobody declared is the task's failure."""
    node = node_of(bench.run(*by("nobody")))
    assert (node.state, node.error_type) == ("failed", "RunnerNotFoundError")


def test_runner_that_never_returns_times_out_and_counts_as_stuck(make_bench):
    """Its node fails in time, the process is told, and its late result changes nothing."""
    free = threading.Event()
    bench = make_bench(
        {"hang": lambda given: free.wait(30) and f"late, cancelled: {given.cancelled}"},
        max_stuck=1,
        limits=Limits(lease_seconds=0.5, node_timeout_seconds=0.3),
    )
    handoff = bench.submit(*by("hang"))
    worker = threading.Thread(target=bench.pump)
    worker.start()
    until(lambda: states(handoff)["0"] == "failed")
    node = node_of(handoff)
    assert (node.error_type, node.error) == (
        "TimeoutError",
        "it ran longer than its timeout of 0.3 s",
    )
    assert bench.stuck.wait(10)
    assert (bench.keeper.stuck, bench.keeper.running) == (1, 0)
    free.set()
    worker.join()
    bench.pump()
    assert bench.keeper.stuck == 0
    assert handoff.node_result("0") is None
    assert handoff.outcome().state == "failed"
    assert endings(handoff) == {"0": 1}


def test_runner_that_never_returns_is_timed_out_by_the_sweep_too(make_bench):
    """Where its own process records nothing, the sweep does once the deadline has passed."""
    bench = make_bench(limits=Limits(lease_seconds=0.5, node_timeout_seconds=0.1))
    handoff = bench.submit("a", limits=Limits(lease_seconds=0.5, node_timeout_seconds=0.1))
    bench.claim(handoff)
    until(lambda: bench.engine.sweep() and states(handoff)["0"] == "failed")
    assert node_of(handoff).error == "it ran longer than its timeout of 0.1 s"
    bench.pump()
    assert handoff.outcome().state == "failed"


def test_transient_error_is_tried_again_within_the_attempts(make_bench):
    """Twice busy, then well: the third attempt counts, and its pause is kept by the sweep."""
    attempts = []

    def busy(assignment):
        attempts.append(assignment.attempt)
        if assignment.attempt < 3:
            raise SessionBusyError("later")
        return "at last"

    bench = make_bench({"busy": busy})
    handoff = bench.submit(*by("busy"))
    bench.pump()
    node = node_of(handoff)
    assert (node.state, node.error_type, node.attempt) == ("waiting", "SessionBusyError", 1)
    assert bench.engine.sweep() == 0
    assert bench.recover(handoff).state == "done"
    assert attempts == [1, 2, 3]
    assert node_of(handoff).error == ""


def test_transient_error_is_tried_again_in_spite_of_a_backlog(make_bench):
    """Its message has been handled, so no queue can hold it: the sweep does not wait for one."""
    calls = []

    def busy(assignment):
        calls.append(assignment.attempt)
        if len(calls) == 1:
            raise SessionBusyError("later")
        return "at last"

    bench = make_bench({"busy": busy})
    handoff = bench.submit(*by("busy"))
    bench.pump()
    bench.queue.reported_backlog = 1_000
    bench.pass_time(handoff)
    assert bench.engine.sweep() == 1
    bench.pump()
    assert handoff.outcome().state == "done"


def test_transient_error_in_every_attempt_fails_the_node(make_bench):
    """The last attempt's error is the node's."""
    bench = make_bench({"busy": raising(SessionBusyError("never"))}, limits=Limits(max_attempts=3))
    handoff = bench.submit(*by("busy"))
    bench.pump()
    assert bench.recover(handoff).state == "failed"
    node = node_of(handoff)
    assert (node.attempt, node.error_type, node.error) == (3, "SessionBusyError", "never")


def test_context_that_was_deleted_fails_the_nodes(make_bench):
    """A context that cannot be loaded is the node's failure, with the store's own error."""
    bench = make_bench({"read": lambda given: given.context})
    handoff = bench.submit(*by("read"))
    bench.store.delete(SESSION, agent_id=AGENT)
    bench.pump()
    node = node_of(handoff)
    assert (node.state, node.error_type) == ("failed", "ContextNotFoundError")
    assert handoff.outcome().state == "failed"


def test_progress_is_one_bounded_line_and_never_fails(make_bench):
    """Anything can be said; what a terminal or UTF-8 cannot bear is replaced."""

    def talk(assignment):
        for said in ("half\nway", "\ud800 \x1b[2J", "x" * 5_000, 7, ""):
            assignment.progress(said)
        return "done"

    handoff = make_bench({"talk": talk}).run(*by("talk"))
    said = [event.text for event in handoff.events() if event.type == "progress"]
    assert said == ["half way", "? ?[2J", "x" * 1_000, "7", ""]
    assert node_of(handoff).state == "ok"


def test_deep_recursion_of_a_runner_is_its_own(make_bench):
    """A runner that recurses without end fails like any other."""

    def deeper(assignment):
        return deeper(assignment)

    assert sys.getrecursionlimit() < 100_000
    node = node_of(make_bench({"deep": deeper}).run(*by("deep")))
    assert (node.state, node.error_type) == ("failed", "RecursionError")
