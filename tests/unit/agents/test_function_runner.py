"""The function runner: what a user's function may return and raise."""

from __future__ import annotations

import pytest
from assignments import PlainAssignment

from baton.agents.function import FunctionRunner
from baton.agents.runner import Runner, RunnerResult, Usage
from baton.errors import InvalidInputError, NodeCancelledError, RunnerError, StoreUnavailableError

WORK = PlainAssignment("shout", "text")


def returning(outcome):
    return FunctionRunner("mine", lambda assignment: outcome)


def raising(error):
    def function(assignment):
        raise error

    return FunctionRunner("mine", function)


class MuteError(Exception):
    def __str__(self):
        raise ValueError("no words")


def test_function_runner_is_a_runner():
    """It satisfies the contract and carries the name it was given."""
    assert isinstance(returning(""), Runner)
    assert returning("").name == "mine"


def test_function_runner_gives_its_function_the_assignment():
    """The function sees context and instruction, and its text becomes the result."""
    runner = FunctionRunner("mine", lambda a: f"{a.instruction}: {a.context.upper()} 🎈")
    assert runner.run(WORK) == RunnerResult("shout: TEXT 🎈")


def test_function_runner_passes_a_full_result_on():
    """A RunnerResult comes back as it is, usage, cost and details included."""
    result = RunnerResult("done", Usage(1, 2), 0.5, {"model": "mine"})
    assert returning(result).run(WORK) is result


@pytest.mark.parametrize(
    ("garbage", "named"),
    [
        (None, "NoneType"),
        (b"bytes", "bytes"),
        ({"content": "x"}, "dict"),
        (RunnerResult(None), "NoneType"),
        ("ok\ud800", "surrogate at character 2"),
        (RunnerResult("\udfff"), "surrogate at character 0"),
        (RunnerResult("x", usage={"input_tokens": 1}), "usage of type dict"),
        (RunnerResult("x", cost_usd=float("nan")), "cost_usd nan"),
        (RunnerResult("x", cost_usd=-1), "cost_usd -1"),
        (RunnerResult("x", details={"o": object()}), "details"),
        (RunnerResult("x", details=None), "details"),
    ],
)
def test_function_runner_refuses_garbage_naming_it(garbage, named):
    """Whatever is not a result raises RunnerError with the type or place of the fault."""
    with pytest.raises(RunnerError, match=rf"Runner mine failed: it returned .*{named}"):
        returning(garbage).run(WORK)


@pytest.mark.parametrize("error", [StoreUnavailableError("gone"), NodeCancelledError("stop")])
def test_function_runner_lets_batons_own_errors_pass(error):
    """Transient errors and cancellation reach the engine as they were raised."""
    with pytest.raises(type(error)) as caught:
        raising(error).run(WORK)
    assert caught.value is error


def test_function_runner_wraps_other_exceptions():
    """The message has type and text on one line, and the exception is the cause."""
    error = ValueError("bad\n  thing \x1b[31m \ud800")
    with pytest.raises(RunnerError) as caught:
        raising(error).run(WORK)
    assert str(caught.value) == "Runner mine failed: ValueError: bad thing ?[31m ?"
    assert caught.value.__cause__ is error


def test_function_runner_bounds_messages():
    """A message of a megabyte is cut to 500 characters."""
    with pytest.raises(RunnerError) as caught:
        raising(KeyError("x" * 1_000_000)).run(WORK)
    assert len(str(caught.value)) == len("Runner mine failed: ") + 500


@pytest.mark.parametrize("error", [MuteError(), SystemExit(3)])
def test_function_runner_survives_hostile_exceptions(error):
    """An exception without words and a call of sys.exit() fail the node, not the worker."""
    with pytest.raises(RunnerError, match=type(error).__name__):
        raising(error).run(WORK)


def test_function_runner_lets_an_interrupt_through():
    """Ctrl-C is for the process, not for the node."""
    with pytest.raises(KeyboardInterrupt):
        raising(KeyboardInterrupt()).run(WORK)


async def coroutine_function(assignment):
    return "never"


@pytest.mark.parametrize("function", [coroutine_function, "module:function", None])
def test_function_runner_refuses_what_it_cannot_call(function):
    """An async function or no function at all is refused when the runner is made."""
    with pytest.raises(InvalidInputError, match="function: expected a plain function"):
        FunctionRunner("mine", function)
