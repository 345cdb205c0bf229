"""Matching lines: totals, quotes with exact bytes, long lines, cancellation."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.agents import matching
from baton.agents.line_regex import LineRegex
from baton.agents.matching import MAX_LINE_CHARS, LiteralPattern, matching_lines
from baton.errors import InvalidTextError, NodeCancelledError


def find(text, pattern, limit=20):
    return matching_lines(text, pattern, limit=limit, check=lambda: None)


@given(
    st.text(st.sampled_from("ab\n\r é🎈"), max_size=60), st.sampled_from(["a", "ab", "é", "🎈b"])
)
def test_matching_lines_finds_each_line_that_holds_a_literal(text, literal):
    """Total and quotes are those of splitting the text into lines, and the bytes agree."""
    lines = [line for line in re.split("\r?\n", text) if literal in line]
    found = find(text, LiteralPattern(literal))
    assert found.total == len(lines)
    assert [item.text for item in found.shown] == lines
    for item in found.shown:
        assert text.encode()[item.start_byte : item.end_byte].decode() == item.text


@given(
    st.text(st.sampled_from("ab\n\r1 🎈"), max_size=60),
    st.sampled_from(["^$", "a$", "^b", "[ab]1", "^.$", "[^a]b", r"a\s", r"\bb", "(?s)a.", r"a\W1"]),
    st.integers(0, 9),
)
def test_matching_lines_anchors_a_regex_at_each_line(text, pattern, block_bytes):
    """A match is within one line, with either line end, wherever the text is divided."""
    lines = re.split("\r?\n", text)
    expected = [line for line in lines if re.search(pattern, line, re.ASCII)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(matching, "_BLOCK_BYTES", block_bytes)
        found = find(text, LineRegex(pattern), limit=99)
    assert found.total == len(expected)
    assert [item.text for item in found.shown] == expected
    for item in found.shown:
        assert text.encode()[item.start_byte : item.end_byte].decode() == item.text


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


def test_matching_lines_notices_a_cancel_in_the_middle():
    """With a hostile pattern too, the search ends at the next check, long before the text does."""
    checks = []

    def cancelled_at_the_third():
        checks.append(None)
        if len(checks) == 3:
            raise NodeCancelledError("stop")

    text = ("a" * 1_000 + "!\n") * 1_000
    with pytest.raises(NodeCancelledError):
        matching_lines(text, LineRegex("(a+)+$"), limit=1, check=cancelled_at_the_third)
    assert len(checks) == 3
    find(text, LineRegex("(a+)+$"))


def test_matching_lines_quotes_whole_characters_around_a_match_of_bytes():
    r"""RE2's `\C` ends a match within a character; the quote is cut between characters."""
    text = "é" * 1_000
    (item,) = find(text, LineRegex(r"é{500}\C")).shown
    assert text.encode()[item.start_byte : item.end_byte].decode() == item.text


@pytest.mark.parametrize("pattern", [LiteralPattern("\ud800"), LineRegex("\ud800")])
def test_matching_lines_finds_no_lone_surrogate(pattern):
    """What no text can hold is nowhere, and a text that holds it is refused."""
    assert find("a\n\ufffd", pattern).total == 0
    with pytest.raises(InvalidTextError, match="lone surrogate"):
        find("a\ud800", pattern)
