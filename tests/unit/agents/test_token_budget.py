"""The token budget: allocations that add up, and callbacks at 60, 75 and 85 percent."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from baton.agents.token_budget import Threshold, TokenBudget, WindowPosition
from baton.errors import InvalidInputError, PermanentError, TokenBudgetExceededError

ONE = {"all": 1.0}
ACTIONS = ("track_growth", "defer_non_critical", "condense_and_archive")


def recording(total_tokens=100, **options):
    """A budget of one allocation, and the actions it called back for, in order."""
    called = []
    callbacks = {action: lambda each: called.append(each.threshold.action) for action in ACTIONS}
    return TokenBudget(total_tokens, shares=ONE, callbacks=callbacks, **options), called


def test_budget_has_the_seeds_allocations():
    """Of 200,000 tokens: 15,000, 80,000, 50,000 and 55,000."""
    limits = {"system": 15_000, "conversation": 80_000, "reference": 50_000, "reserve": 55_000}
    assert TokenBudget().limits == limits


@pytest.mark.parametrize("last", [0.4999999999, 0.5000000001])
def test_budget_limits_add_up_where_the_shares_nearly_do(last):
    """Shares written to ten places do not lose or make a token of a large total."""
    budget = TokenBudget(10**12, shares={"a": 0.5, "b": last, "c": 0.0})
    assert sum(budget.limits.values()) == 10**12
    assert min(budget.limits.values()) >= 0


def test_budget_has_the_seeds_position():
    """85,000 used of 200,000 leave 115,000, at 42.5 percent."""
    budget = TokenBudget()
    budget.use("conversation", 80_000)
    budget.use("reference", 5_000)
    assert budget.position == WindowPosition(200_000, 85_000)
    assert budget.position.available_tokens == 115_000
    assert budget.position.token_usage_percent == 42.5


def test_budget_takes_all_of_a_use_or_nothing():
    """An allocation that is full refuses, though others have room; the error says what is left."""
    budget = TokenBudget(1_000)
    budget.use("system", 70)
    with pytest.raises(TokenBudgetExceededError, match="system: expected at most 5 tokens, got 6"):
        budget.use("system", 6)
    assert budget.left("system") == 5
    budget.use("system", 5)
    budget.release("system", 75)
    assert budget.position.used_tokens == 0


def test_budget_error_survives_pickling():
    """It crosses a process boundary with its figures."""
    error = pickle.loads(pickle.dumps(TokenBudgetExceededError("system", 6, 5)))  # noqa: S301
    assert (error.allocation, error.tokens, error.left_tokens) == ("system", 6, 5)
    assert isinstance(error, PermanentError)


def test_threshold_calls_back_above_it_and_once():
    """Exactly 60 percent is not above; more use above it does not call again."""
    budget, called = recording()
    budget.use("all", 60)
    assert called == []
    budget.use("all", 1)
    budget.use("all", 10)
    assert called == ["track_growth"]


def test_threshold_calls_back_again_after_the_usage_fell_to_it():
    """Falling within the range above it does not count."""
    budget, called = recording()
    budget.use("all", 70)
    budget.release("all", 9)
    budget.use("all", 9)
    assert called == ["track_growth"]
    budget.release("all", 10)
    budget.use("all", 1)
    assert called == ["track_growth"] * 2


def test_one_use_over_all_thresholds_calls_each_lowest_first():
    """A jump skips none, and each is told the same position."""
    positions = []
    callbacks = dict.fromkeys(ACTIONS, positions.append)
    TokenBudget(100, shares=ONE, callbacks=callbacks).use("all", 86)
    assert [each.threshold.percent for each in positions] == [60, 75, 85]
    assert {each.position for each in positions} == {WindowPosition(100, 86)}


def test_callback_may_use_and_release():
    """It runs outside the lock: condensing at 85 percent frees tokens at once."""

    def condense(_crossing):
        budget.release("all", 50)

    budget = TokenBudget(100, shares=ONE, callbacks={"condense_and_archive": condense})
    budget.use("all", 90)
    assert budget.used("all") == 40


def test_callback_that_raises_stops_no_other_and_undoes_nothing():
    """Its error passes through to the caller of `use`."""
    budget, called = recording()
    budget._callbacks["track_growth"] = lambda _: 1 / 0
    with pytest.raises(ZeroDivisionError):
        budget.use("all", 90)
    assert called == ["defer_non_critical", "condense_and_archive"]
    assert budget.used("all") == 90


def test_racing_threads_take_no_more_than_there_is_and_cross_once():
    """8 threads race for 1,000 tokens, one at a time."""
    budget, called = recording(1_000)
    start = threading.Barrier(8)

    def take():
        start.wait(10)
        taken = 0
        for _ in range(200):
            try:
                budget.use("all", 1)
            except TokenBudgetExceededError:
                break
            taken += 1
        return taken

    with ThreadPoolExecutor(8) as pool:
        assert sum(future.result() for future in [pool.submit(take) for _ in range(8)]) == 1_000
    assert sorted(called) == sorted(ACTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"total_tokens": 0}, "total_tokens"),
        ({"shares": {}}, "shares that add up to 1"),
        ({"shares": {"a": 0.5, "b": 0.4}}, "shares that add up to 1"),
        ({"shares": {"a": 1.5, "b": -0.5}}, r"shares\.a: expected 0 to 1"),
        ({"shares": {"a": float("nan")}}, r"shares\.a: expected 0 to 1"),
        ({"thresholds": [Threshold("late", 100)]}, r"thresholds\.late"),
        ({"thresholds": [Threshold("a", 1), Threshold("a", 2)]}, "an action of its own"),
        ({"callbacks": {"panic": print}}, "actions of track_growth"),
    ],
    ids=["empty", "no-shares", "too-little", "negative", "nan", "at-100", "twice", "unknown"],
)
def test_budget_refuses_what_cannot_be_one(options, message):
    """Shares that do not add up, thresholds out of range or doubled, callbacks for nothing."""
    with pytest.raises(InvalidInputError, match=message):
        TokenBudget(**options)


def test_budget_refuses_uses_and_releases_that_make_no_sense():
    """Unknown allocations, parts of tokens, and giving back what was not taken."""
    budget = TokenBudget()
    with pytest.raises(InvalidInputError, match="one of system, conversation"):
        budget.use("other", 1)
    with pytest.raises(InvalidInputError, match="a whole number"):
        budget.use("system", -1)
    with pytest.raises(InvalidInputError, match="at most the 0 in use"):
        budget.release("system", 1)
