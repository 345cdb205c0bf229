"""What a handoff may ask for."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from baton.errors import InvalidInputError
from baton.handoff.request import Limits, TaskSpec, make_request

FIELDS = {
    "session_id": "s",
    "context_version": "1.0.0",
    "agent_id": "a",
    "tasks": [{"instruction": " do it \n"}],
}


def test_request_strips_instructions_and_fills_in_defaults():
    """What is not said is what the deployment's defaults say."""
    request = make_request(**FIELDS)
    assert request.tasks == (TaskSpec(instruction="do it"),)
    assert (request.merge, request.limits) == ("append", Limits())


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"tasks": []}, "tasks"),
        ({"tasks": [{"instruction": "x"}, {"instruction": "\n"}]}, "tasks.1.instruction"),
        ({"tasks": [{"instruction": "x", "runner": "a b"}]}, "tasks.0.runner"),
        ({"tasks": [{"instruction": "x", "runner": "a\n"}]}, "tasks.0.runner"),
        ({"tasks": [{"instruction": "x", "extra": 1}]}, "tasks.0.extra"),
        ({"merge": "vote"}, "merge"),
        ({"limits": {"lease_seconds": 0}}, "limits.lease_seconds"),
        ({"limits": {"max_depth": 16}}, "limits.max_depth"),
        ({"limits": {"retention_seconds": 59}}, "limits.retention_seconds"),
        ({"limits": {"max_nodes": 1}, "tasks": [{"instruction": "x"}] * 2}, "tasks"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_request_names_the_first_wrong_field(changed, field):
    """The error's field is the path to it."""
    with pytest.raises(InvalidInputError) as refused:
        make_request(**{**FIELDS, **changed})
    assert refused.value.field == field
    assert len(str(refused.value)) < 400


def test_request_cannot_be_changed_after_its_checks():
    """It is frozen all the way down."""
    request = make_request(**FIELDS)
    with pytest.raises(ValidationError):
        request.merge = "none"
    with pytest.raises(ValidationError):
        request.tasks[0].instruction = ""
