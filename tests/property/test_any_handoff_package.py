"""Any valid handoff package comes back from its JSON; any single wrong field of it is named."""

from __future__ import annotations

import copy
import json

from hypothesis import given
from hypothesis import strategies as st

from baton.agents.handoff_package import make_package, package_json, read_package
from baton.errors import InvalidInputError

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", fullmatch=True)
VERSIONS = st.tuples(*[st.integers(0, 999_999_999)] * 3).map(lambda v: ".".join(map(str, v)))
COUNTS = st.integers(0, 2**53 - 1)
NOTES = st.lists(st.text(min_size=1, max_size=40), max_size=4)
INSTANTS = st.datetimes().map(lambda at: at.isoformat(timespec="microseconds") + "Z")
USD = st.decimals("0.000001", "9999999", places=6).map(str)
PRECONDITIONS = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("context_at_version"), "version": VERSIONS},
        optional={"session_id": IDS},
    ),
    st.fixed_dictionaries(
        {"kind": st.just("checkpoint_exists"), "checkpoint_id": IDS},
        optional={"session_id": IDS},
    ),
    st.fixed_dictionaries(
        {"kind": st.just("lock_held"), "name": IDS},
        optional={"agent_id": IDS, "fence": COUNTS, "session_id": IDS},
    ),
    st.fixed_dictionaries(
        {"kind": st.just("budget_left"), "tokens": st.integers(1, 10**15)},
        optional={"usd": USD, "handoff_id": IDS},
    ),
    st.fixed_dictionaries({"kind": st.just("not_after"), "at": INSTANTS}),
)
PACKAGES = st.fixed_dictionaries(
    {
        "handoff_id": IDS,
        "from_agent": IDS,
        "to_agent": IDS,
        "session_context": st.fixed_dictionaries(
            {
                "session_id": IDS,
                "context_position": st.floats(0, 100),
                "available_tokens": COUNTS,
            },
            optional={
                "version": VERSIONS,
                "model": st.text(max_size=40),
                "user_language": st.sampled_from(["ko", "en", "pt-BR", "zh-Hant-TW"]),
            },
        ),
        "task_context": st.fixed_dictionaries(
            {"next_step": st.text(min_size=1, max_size=40)},
            optional={
                "spec_id": IDS,
                "current_phase": st.text(max_size=40),
                "completed_steps": NOTES,
                "goal": st.text(max_size=100),
                "decisions": NOTES,
                "open_questions": NOTES,
                "do_not_redo": NOTES,
                "acceptance": NOTES,
            },
        ),
    },
    optional={
        "created_at": INSTANTS,
        "recovery_info": st.fixed_dictionaries(
            {},
            optional={
                "last_checkpoint": st.one_of(IDS, INSTANTS),
                "recovery_tokens_reserved": COUNTS,
                "session_fork_available": st.booleans(),
            },
        ),
        "preconditions": st.lists(PRECONDITIONS, max_size=4),
    },
)


@given(PACKAGES)
def test_any_valid_package_round_trips(fields):
    """Through its JSON, and through the JSON of its fields; and says the same each time."""
    made = make_package(**fields)
    assert read_package(package_json(made)) == made
    assert read_package(json.dumps(fields)) == made
    assert read_package(package_json(made)).digest == made.digest


def leaves(value, path=""):
    """Every path in the package to what is not an object or a list."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from leaves(member, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from leaves(member, f"{path}[{index}]")
    else:
        yield path


def replaced(fields, path, value):
    fields = copy.deepcopy(fields)
    *steps, last = path.replace("[", ".[").split(".")
    at = fields
    for step in steps:
        at = at[int(step[1:-1]) if step.startswith("[") else step]
    at[int(last[1:-1]) if last.startswith("[") else last] = value
    return fields


@given(PACKAGES, st.data())
def test_any_single_wrong_field_is_named(fields, data):
    """A value of a type that no field takes, at any one place."""
    path = data.draw(st.sampled_from(sorted(leaves(fields))), label="path")
    wrong = data.draw(st.sampled_from([["x"], {"x": 1}, "\ud800"]), label="wrong")
    try:
        make_package(**replaced(fields, path, wrong))
    except InvalidInputError as refused:
        assert refused.field == path  # noqa: PT017 - of all errors, this one
    else:
        raise AssertionError(f"{path} took {wrong!r}")


@given(PACKAGES, st.data())
def test_any_single_unknown_field_is_named(fields, data):
    """In any of its objects."""
    places = ["", "session_context.", "task_context."]
    path = data.draw(st.sampled_from(places), label="place") + "surplus"
    try:
        make_package(**replaced(fields, path, 1))
    except InvalidInputError as refused:
        assert refused.field == path  # noqa: PT017 - of all errors, this one
    else:
        raise AssertionError(f"{path} was taken")
