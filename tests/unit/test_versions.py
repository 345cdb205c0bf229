"""Semantic versions of a context: what is parsed, what comes next, where they end."""

from __future__ import annotations

import pytest

from baton.errors import InvalidVersionError
from baton.versions import FIRST, Version, next_version, parse_version

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
