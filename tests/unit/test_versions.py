"""Semantic versions of a context: what is parsed, what comes next, where they end."""

from __future__ import annotations

import pytest

from baton.errors import InvalidInputError, InvalidVersionError
from baton.versions import (
    FIRST,
    Version,
    next_version,
    parse_version,
    resolve_version_conflict,
)

NAN, INFINITY = float("nan"), float("inf")
END = 999_999_999


@pytest.mark.parametrize("text", ["0.0.0", "1.4.0", f"{END}.{END}.{END}"])
def test_version_is_parsed_and_printed_alike(text):
    """What is accepted comes back as it was."""
    assert str(parse_version(text)) == text


@pytest.mark.parametrize("value", ["1.0", "01.0.0", "1.0.0-rc1", "1.0.1000000000", "1.0.0\n", 1])
def test_version_refuses_what_is_not_three_numbers(value):
    """With the field's name."""
    with pytest.raises(InvalidVersionError, match=r"^base: expected MAJOR\.MINOR\.PATCH"):
        parse_version(value, "base")


@pytest.mark.parametrize(
    ("bump", "expected"), [("major", "2.0.0"), ("minor", "1.5.0"), ("patch", "1.4.3")]
)
def test_bump_raises_its_part_and_clears_those_behind_it(bump, expected):
    """By number."""
    assert str(Version(1, 4, 2).bumped(bump)) == expected


@pytest.mark.parametrize(
    ("bump", "head"), [("patch", (1, 0, END)), ("minor", (1, END, 0)), ("major", (END, 0, 0))]
)
def test_bump_refuses_to_go_past_the_end_of_a_part(bump, head):
    """It would make a version that no later call can parse; another part can still go up."""
    with pytest.raises(InvalidVersionError, match=f"a {bump} below {END}"):
        Version(*head).bumped(bump)
    other = "minor" if bump == "patch" else "patch"
    assert parse_version(str(Version(*head).bumped(other)))


@pytest.mark.parametrize("head", [None, FIRST])
@pytest.mark.parametrize("explicit", [None, Version(2, 0, 0)])
def test_next_version_refuses_an_unknown_bump(head, explicit):
    """At the first write and beside an explicit version too, where it would not be needed."""
    with pytest.raises(InvalidVersionError, match=r"^bump: "):
        next_version(head, explicit, "huge")


def test_next_version_only_goes_up():
    """An explicit version counts if it is above the head."""
    assert next_version(None, None) == FIRST
    assert next_version(FIRST, Version(1, 1, 0)) == Version(1, 1, 0)
    with pytest.raises(InvalidVersionError, match=r"a version above the head 1\.0\.0"):
        next_version(FIRST, FIRST)


@pytest.mark.parametrize(
    ("incoming", "at", "current_at", "expected"),
    [
        (("1.0.2", "new"), 2.0, 1.0, ("1.0.2", "new", "accepted_with_divergence")),
        (("1.9.0", "new"), 2, 1.5, ("1.9.0", "new", "accepted_with_divergence")),
        (("2.0.0", "new"), 2.0, 1.0, ("2.0.0", "new", "accepted")),
        (("1.0.2", "old"), 2.0, 1.0, ("1.0.2", "old", "accepted")),
        (("1.0.2", "new"), 1.0, 2.0, ("1.0.1", "old", "rejected")),
        (("1.0.2", "old"), 1.0, 2.0, ("1.0.1", "old", "rejected")),
        (("1.0.2", "old"), 1.0, 1.0, ("1.0.1", "old", "accepted")),
        (("1.0.2", "new"), 1.0, 1.0, (None, None, "merge_required")),
        (("1.0.2", "new"), 10**400, 1.0, ("1.0.2", "new", "accepted_with_divergence")),
        (("1.0.2", "new"), -0.0, 0, (None, None, "merge_required")),
    ],
)
def test_conflict_is_resolved_as_the_protocol_says(incoming, at, current_at, expected):
    """The later write stands; equal times stand or fall by the content."""
    assert resolve_version_conflict(*incoming, at, "1.0.1", "old", current_at) == expected


@pytest.mark.parametrize("other", [1.0, NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize("broken", [NAN, INFINITY, -INFINITY])
def test_a_broken_clock_neither_wins_nor_loses(broken, other):
    """A time that is none asks for a merge, on whichever side; equal contents need none."""
    for times in ((broken, other), (other, broken)):
        asked = resolve_version_conflict("1.0.2", "new", times[0], "1.0.1", "old", times[1])
        assert asked == (None, None, "merge_required")
        same = resolve_version_conflict("1.0.2", "old", times[0], "1.0.1", "old", times[1])
        assert same == ("1.0.1", "old", "accepted")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, "1.0"), (0, None), (3, "v1.0.0"), (1, ""), (1, None), (4, b"old"),
        (2, "2"), (2, True), (2, None), (5, False), (5, 1j),
    ],
    ids=str,
)  # fmt: skip
def test_conflict_refuses_malformed_arguments(place, value):
    """By the argument's name."""
    arguments = ["1.0.2", "new", 2.0, "1.0.1", "old", 1.0]
    arguments[place] = value
    side = "incoming" if place < 3 else "current"
    name = f"{side}_{('version', 'hash', 'timestamp')[place % 3]}"
    with pytest.raises(InvalidInputError) as caught:
        resolve_version_conflict(*arguments)
    assert caught.value.field == name
