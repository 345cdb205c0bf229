"""Calls and the limits set on them: what is refused before Redis is asked."""

from __future__ import annotations

import math

import pytest

from baton.agents.breakers import BreakerPolicy
from baton.agents.calls import Call
from baton.agents.keys import breaker_key, handoff_breaker_key, rate_key
from baton.agents.rate_limits import RateLimit
from baton.errors import InvalidIdError, InvalidInputError


def test_two_attempts_are_two_calls():
    """Each has an id of its own."""
    assert Call("m", "h", 1) != Call("m", "h", 1)


@pytest.mark.parametrize(
    "ids", [("m}:x", "h", 1), ("m", "h h", 1), ("m", "h", 1, "")], ids=range(3)
)
def test_call_with_an_id_that_is_none_is_refused(ids):
    """Nothing that a caller gives can leave its place in a key or a script's value."""
    with pytest.raises(InvalidIdError):
        Call(*ids)


@pytest.mark.parametrize("tokens", [-1, 1.5, True, None])
def test_call_of_no_number_of_tokens_is_refused(tokens):
    """Tokens are counted."""
    with pytest.raises(InvalidInputError):
        Call("m", "h", tokens)


def test_keys_of_a_model_share_its_slot():
    """The braces are literal: a cluster hashes what is in them."""
    assert rate_key("m") == "models:{m}:rate"
    assert breaker_key("m") == "models:{m}:breaker"
    assert handoff_breaker_key("h") == "handoff:{h}:breaker"


@pytest.mark.parametrize(
    "options",
    [
        {"requests_per_minute": 0},
        {"tokens_per_minute": 0.5},
        {"burst_seconds": 0.5},
        {"burst_seconds": math.nan},
    ],
    ids=str,
)
def test_limit_out_of_bounds_is_refused(options):
    """A limit of nothing would hold up calls for ever."""
    with pytest.raises(InvalidInputError):
        RateLimit(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"failures": 0},
        {"failures": 21},
        {"of_calls": 1001},
        {"open_seconds": 0},
        {"probe_seconds": math.inf},
    ],
    ids=str,
)
def test_policy_out_of_bounds_is_refused(options):
    """A breaker that never opens, or never closes, is none."""
    with pytest.raises(InvalidInputError):
        BreakerPolicy(**options)
