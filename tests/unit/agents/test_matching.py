"""Matching lines: totals, quotes with exact bytes, long lines, cancellation."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.agents.line_regex import LineRegex
from baton.agents.matching import MAX_LINE_CHARS, LiteralPattern, matching_lines
from baton.errors import NodeCancelledError


def find(text, pattern, limit=20):
    return matching_lines(text, pattern, limit=limit, check=lambda: None)


@given(
    st.text(st.sampled_from("ab\n\r é🎈"), max_size=60), st.sampled_from(["a", "ab", "é", "🎈b"])
)
def test_matching_lines_finds_each_line_that_holds_a_literal(text, literal):
    """Total and quotes are those of splitting the text into lines, and the bytes agree."""
    lines = [line.removesuffix("\r") for line in text.split("\n") if literal in line]
    found = find(text, LiteralPattern(literal))
    assert found.total == len(lines)
    assert [item.text for item in found.shown] == lines
    for item in found.shown:
        assert text.encode()[item.start_byte : item.end_byte].decode() == item.text


@given(
    st.text(st.sampled_from("ab\n1 "), max_size=60), st.sampled_from(["^$", "a$", "^b", "[ab]1"])
)
def test_matching_lines_anchors_a_regex_at_each_line(text, pattern):
    """`^` and `$` are the ends of a line, and empty lines count."""
    expected = [line for line in text.split("\n") if re.search(pattern, line)]
    assert find(text, LineRegex(pattern)).total == len(expected)


def test_matching_lines_quotes_no_more_than_its_limit():
    """The total is told in full; the quotes are the first."""
    found = find("hit\n" * 1_000, LiteralPattern("hit"), limit=3)
    assert (found.total, [item.start_byte for item in found.shown]) == (1_000, [0, 4, 8])


@pytest.mark.parametrize("place", [0, 150, 5_000, 9_997])
def test_matching_lines_cuts_a_long_line_around_its_match(place):
    """A line of ten thousand characters is quoted in part, and the part holds the match."""
    text = "first\n" + "é" * place + "hit" + "é" * (9_997 - place) + "\nlast"
    for pattern in (LiteralPattern("hit"), LineRegex("h.t")):
        (item,) = find(text, pattern).shown
        assert "hit" in item.text
        assert len(item.text) == MAX_LINE_CHARS
        assert text.encode()[item.start_byte : item.end_byte].decode() == item.text


def test_matching_lines_stops_when_its_check_raises():
    """A cancelled node does not search to the end."""

    def cancelled():
        raise NodeCancelledError("stop")

    with pytest.raises(NodeCancelledError):
        matching_lines("a\n" * 10, LiteralPattern("a"), limit=1, check=cancelled)
