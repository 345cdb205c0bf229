"""What holds for any allocations of a window and any uses of it."""

import math

from hypothesis import given
from hypothesis import strategies as st

from baton.agents.token_budget import DEFAULT_THRESHOLDS, TokenBudget
from baton.errors import InvalidInputError, TokenBudgetExceededError

weights = st.lists(st.integers(0, 1_000), min_size=1, max_size=8).filter(any)
totals = st.integers(1, 10**15)
steps = st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 60)), max_size=60)


@given(totals, weights)
def test_limits_add_up_to_the_total(total_tokens, weights):
    """Each is within a token of its share, and none is negative."""
    shares = {f"a{index}": weight / sum(weights) for index, weight in enumerate(weights)}
    limits = TokenBudget(total_tokens, shares=shares).limits
    assert sum(limits.values()) == total_tokens
    for name, limit in limits.items():
        assert limit >= 0
        assert math.isclose(limit, shares[name] * total_tokens, abs_tol=1.001, rel_tol=1e-12)


@given(steps)
def test_uses_and_releases_conserve_tokens(steps):
    """Used and left make each limit at every step; a refusal changes nothing."""
    crossed, expected, above = [], [], set()
    budget = TokenBudget(
        100,
        callbacks={
            each.action: lambda c: crossed.append(c.threshold) for each in DEFAULT_THRESHOLDS
        },
    )
    model = dict.fromkeys(budget.limits, 0)
    for uses, index, tokens in steps:
        name = list(model)[index]
        allowed = tokens <= (budget.limits[name] - model[name] if uses else model[name])
        try:
            (budget.use if uses else budget.release)(name, tokens)
        except (TokenBudgetExceededError, InvalidInputError):
            assert not allowed
        else:
            assert allowed
            model[name] += tokens if uses else -tokens
        now = {each for each in DEFAULT_THRESHOLDS if sum(model.values()) > each.percent}
        expected += sorted(now - above, key=lambda each: each.percent)
        above = now
        assert {each: budget.used(each) for each in model} == model
        assert all(budget.left(each) == budget.limits[each] - model[each] for each in model)
        assert budget.position.used_tokens == sum(model.values())
    assert crossed == expected
