"""The handoff package: what it takes, and how it names what it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from baton.agents.condensing import condense
from baton.agents.handoff_package import (
    MAX_ITEMS,
    MAX_PACKAGE_BYTES,
    HandoffPackage,
    make_package,
    package_json,
    read_package,
)
from baton.agents.package_schema import schema_text
from baton.agents.preconditions import (
    KINDS,
    BudgetLeft,
    CheckpointExists,
    ContextAtVersion,
    LockHeld,
    NotAfter,
)
from baton.errors import (
    ContextTooLargeError,
    InvalidIdError,
    InvalidInputError,
    UnsupportedFormatError,
)
from handoff_packages import FIELDS, package, package_fields

COMMITTED = Path(__file__).parents[3] / "docs" / "handoff_package.schema.json"
ALL_KINDS = [
    {"kind": "context_at_version", "version": "1.0.3"},
    {"kind": "checkpoint_exists", "checkpoint_id": "cp_001", "session_id": "session_2"},
    {"kind": "lock_held", "name": "build", "agent_id": "haiku_worker_0a1b2c3d", "fence": 7},
    {"kind": "budget_left", "tokens": 20_000, "usd": "0.25"},
    {"kind": "not_after", "at": "2030-01-01T00:00:00Z"},
]


def view_of(text, session="session_1", version="1.0.0"):
    return condense(text, session_id=session, version=version).model_dump()


def test_seeds_example_is_a_package():
    """As the seed writes it, with nothing of ours."""
    ours = {"goal", "decisions", "open_questions", "do_not_redo", "acceptance"}
    task = {name: value for name, value in FIELDS["task_context"].items() if name not in ours}
    made = make_package(**{**FIELDS, "task_context": task})
    assert made.session_context.context_position == 42.5
    assert made.task_context.completed_steps == ("spec_complete", "architecture_defined")
    assert made.recovery_info.last_checkpoint == "2025-11-12T10:25:00Z"
    assert made.recovery_info.checkpoint_id is None
    assert made.session_context.version is None


def test_every_kind_of_precondition_is_read_as_its_own():
    """By its `kind`."""
    made = package(preconditions=ALL_KINDS)
    types = [ContextAtVersion, CheckpointExists, LockHeld, BudgetLeft, NotAfter]
    assert [type(each) for each in made.preconditions] == types
    assert [each.kind for each in made.preconditions] == list(KINDS)
    assert made.preconditions[3].usd == Decimal("0.25")


def test_package_survives_its_json():
    """With all that it can hold."""
    made = package(
        preconditions=ALL_KINDS,
        session_context={"version": "1.0.0", "view": view_of("A short text.\n")},
        recovery_info={"last_checkpoint": "cp_001"},
        created_at="2026-01-01T00:00:00+01:00",
    )
    assert read_package(package_json(made)) == made
    assert read_package(package_json(made)).digest == made.digest
    assert made.recovery_info.checkpoint_id == "cp_001"


def test_package_without_id_gets_a_new_one():
    """Each its own; one that is read must have one."""
    fields = package_fields()
    del fields["handoff_id"]
    assert make_package(**fields).handoff_id != make_package(**fields).handoff_id
    with pytest.raises(InvalidInputError, match="handoff_id: expected a value"):
        read_package(json.dumps(fields))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("from_agent", "a b"),
        ("to_agent", ""),
        ("handoff_id", "x}"),
        ("created_at", "today"),
        ("session_context.session_id", 3),
        ("session_context.version", "1.0"),
        ("session_context.model", "m" * 257),
        ("session_context.context_position", 100.5),
        ("session_context.context_position", "42"),
        ("session_context.available_tokens", -1),
        ("session_context.available_tokens", 1.5),
        ("session_context.user_language", "Korean!"),
        ("session_context.view", 5),
        ("task_context.spec_id", "SPEC 1"),
        ("task_context.current_phase", 1),
        ("task_context.completed_steps", "spec_complete"),
        ("task_context.completed_steps[1]", ""),
        ("task_context.next_step", ""),
        ("task_context.goal", "g" * 20_001),
        ("task_context.decisions[0]", "d" * 4_001),
        ("task_context.open_questions", ["q"] * (MAX_ITEMS + 1)),
        ("task_context.do_not_redo[0]", None),
        ("task_context.acceptance[0]", "\ud800"),
        ("task_context.unknown", 1),
        ("recovery_info.last_checkpoint", "2025-11-12 10:25"),
        ("recovery_info.recovery_tokens_reserved", True),
        ("recovery_info.session_fork_available", "yes"),
        ("preconditions", {}),
        ("preconditions", ALL_KINDS * 21),
        ("preconditions[0].kind", "moon_is_full"),
        ("preconditions[0].version", "v1"),
        ("preconditions[1].checkpoint_id", "*"),
        ("preconditions[1].session_id", "s}"),
        ("preconditions[2].name", ""),
        ("preconditions[2].fence", "7"),
        ("preconditions[3].tokens", 0),
        ("preconditions[3].usd", "0.0000001"),
        ("preconditions[3].usd", float("inf")),
        ("preconditions[3].usd", -1),
        ("preconditions[4].at", "2030-02-30T00:00:00Z"),
        ("preconditions[4].more", 1),
        ("format", "1"),
    ],
    ids=str,
)
def test_wrong_field_is_named_by_its_path(path, value):
    """Whatever else the package holds."""
    fields = package_fields(preconditions=[dict(each) for each in ALL_KINDS])
    *steps, last = path.replace("[", ".[").split(".")
    at = fields
    for step in steps:
        at = at[int(step[1:-1]) if step.startswith("[") else step]
    at[int(last[1:-1]) if last.startswith("[") else last] = value
    with pytest.raises(InvalidInputError) as refused:
        make_package(**fields)
    assert refused.value.field == path


@pytest.mark.parametrize(
    "path", ["from_agent", "session_context", "session_context.available_tokens", "task_context"]
)
def test_missing_field_is_named(path):
    """The seed's fields that a receiver cannot do without."""
    fields = package_fields()
    *steps, last = path.split(".")
    at = fields
    for step in steps:
        at = at[step]
    del at[last]
    with pytest.raises(InvalidInputError, match="expected a value, got <nothing>") as refused:
        make_package(**fields)
    assert refused.value.field == path


def test_budget_precondition_demands_something():
    """Neither tokens nor dollars would always hold."""
    with pytest.raises(InvalidInputError) as refused:
        package(preconditions=[{"kind": "budget_left"}])
    assert refused.value.field == "preconditions[0].tokens"


@pytest.mark.parametrize("wrong", [{"session": "session_2"}, {"version": "1.0.1"}], ids=str)
def test_view_must_be_of_the_packages_context(wrong):
    """Else the receiver would expand another text than it was told of."""
    with pytest.raises(InvalidInputError) as refused:
        package(session_context={"version": "1.0.0", "view": view_of("text\n", **wrong)})
    assert refused.value.field == "session_context.view.source"


def test_damaged_view_is_refused():
    """It says nothing that its own parts do not bear out."""
    damaged = view_of("text\n")
    damaged["shown"] = []
    with pytest.raises(InvalidInputError) as refused:
        package(session_context={"version": "1.0.0", "view": damaged})
    assert refused.value.field == "session_context.view"


def test_package_of_another_format_is_refused_as_such():
    """Not as a wrong field: it may be right for the Baton that wrote it."""
    with pytest.raises(UnsupportedFormatError, match="format 2; this Baton reads 1"):
        package(format=2)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", InvalidInputError, "package: expected a JSON document"),
        ("[]", InvalidInputError, "package: expected an object"),
        ('{"format": 1, "format": 1}', InvalidInputError, "package"),
        ('{"format": NaN}', InvalidInputError, "package"),
        (" " * (MAX_PACKAGE_BYTES + 1), ContextTooLargeError, "at most 4194304 bytes"),
    ],
    ids=["empty", "list", "twice", "nan", "long"],
)
def test_text_that_is_no_package_is_refused(text, error, message):
    """Strictly: what two readers could read differently is none."""
    with pytest.raises(error, match=message):
        read_package(text)


def test_package_above_four_mebibytes_is_refused():
    """Even where each of its fields is within bounds."""
    notes = ["d" * 4_000] * MAX_ITEMS
    with pytest.raises(ContextTooLargeError, match="package: expected at most 4194304 bytes"):
        package(task_context={"decisions": notes, "acceptance": notes})


def test_wrong_id_is_an_invalid_id_error():
    """The type of the refusal says what was wrong."""
    with pytest.raises(InvalidIdError):
        package(from_agent="a/b")


def test_package_is_frozen():
    """Who validated it and who hands it over mean the same."""
    with pytest.raises(ValueError, match="frozen"):
        package().to_agent = "another"


def test_committed_schema_is_the_models():
    """`python -m baton.agents.package_schema > docs/handoff_package.schema.json` after a change."""
    assert COMMITTED.read_text(encoding="utf-8") == schema_text()


def test_schema_module_prints_the_schema():
    """As the test above tells its reader."""
    command = [sys.executable, "-m", "baton.agents.package_schema"]
    printed = subprocess.run(command, capture_output=True, check=True, encoding="utf-8")
    assert printed.stdout == schema_text()


def test_schema_requires_what_the_model_requires():
    """And closes every object."""
    schema = json.loads(schema_text())
    assert set(schema["required"]) == {
        "handoff_id", "from_agent", "to_agent", "session_context", "task_context",
    }  # fmt: skip
    assert set(schema["properties"]) == set(HandoffPackage.model_fields)
    objects = [each for each in schema["$defs"].values() if each["type"] == "object"]
    assert all(each["additionalProperties"] is False for each in objects)
