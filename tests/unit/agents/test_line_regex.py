"""Line regexes: RE2 behind our bounds, in linear time, with its refusals as typed errors."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baton.agents.line_regex import MAX_PATTERN_CHARS, LineRegex
from baton.errors import InvalidInputError

ATOMS = [
    "a",
    "b",
    "_",
    " ",
    ".",
    r"\d",
    r"\w",
    r"\s",
    r"\W",
    "[ab]",
    "[^a]",
    "[a-c1-3]",
    r"\.",
    "é",
]
# Not `\B`: RE2 also finds it between the bytes of one character, and Pythons differ about "".
MARKS = ["^", "$", r"\b"]
TIMES = ["*", "+", "?", "*?", "+?", "{2}", "{1,3}", "{0,2}", "{2,}"]


def patterns():
    atom = st.sampled_from(ATOMS)
    repeated = st.builds("{}{}".format, atom, st.sampled_from(TIMES))
    leaf = st.one_of(atom, repeated, st.sampled_from(MARKS))

    def grow(inner):
        pair = st.builds("{}{}".format, inner, inner)
        either = st.builds("(?:{}|{})".format, inner, inner)
        group = st.builds("({}){}".format, inner, st.sampled_from(["", *TIMES]))
        return st.one_of(pair, either, group)

    return st.recursive(leaf, grow, max_leaves=6)


def find(pattern, text, **options):
    data = text.encode()
    return LineRegex(pattern, **options).find(data, 0, len(data))


@settings(max_examples=400, deadline=None)
@given(
    patterns().filter(lambda pattern: len(pattern) <= 100),
    st.text(st.sampled_from("abc1_ .é-"), min_size=1, max_size=12),
    st.booleans(),
)
def test_line_regex_matches_the_lines_that_re_matches(pattern, line, ignore_case):
    """On what both understand it decides as Python's `re` does with ASCII classes."""
    flags = re.ASCII | (re.IGNORECASE if ignore_case else re.NOFLAG)
    found = find(pattern, line, ignore_case=ignore_case)
    assert (found is not None) == (re.search(pattern, line, flags) is not None)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^.$", "🎈", (0, 4)),
        ("é.ж", "aéюжb", (1, 7)),
        ("[ж-я]+", "x жуть", (2, 10)),
        (r"\pL+", "1é2", (1, 3)),
        (r"\w+", "é", None),
        ("É", "é", None),
        (r"\B", "1é", (2, 2)),
    ],
)
def test_line_regex_reads_utf8(pattern, text, found):
    r"""One `.` is one code point, offsets are in bytes; `\B` may hold within a character."""
    assert find(pattern, text) == found


def test_line_regex_ignores_case_beyond_ascii():
    """The flag holds for all of Unicode."""
    assert find("É[ж-я]", "éЖ", ignore_case=True) == (0, 4)


def test_line_regex_sees_what_surrounds_the_range():
    """A line's ends are line feeds or the text's own ends, not the range's."""
    data = b"ab\ncd\n"
    assert LineRegex("^.").find(data, 1, 5) == (3, 4)
    assert LineRegex(".$").find(data, 0, 1) is None
    assert LineRegex(r"\bb").find(data, 1, 5) is None


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "1 to 200 characters"),
        ("x" * (MAX_PATTERN_CHARS + 1), "1 to 200 characters"),
        ("(a", r"got 'missing \): \(a'"),
        ("a)", r"got 'unexpected \): a\)'"),
        ("[z-a]", "character class range"),
        ("a\\", "trailing"),
        ("*a", "no argument for repetition"),
        ("a**", "bad repetition"),
        (r"(a)\1", "no back-references.*invalid escape"),
        ("(?=a)", "no look-around.*invalid perl operator"),
        ("(?<!a)b", "no look-around.*invalid perl operator"),
        ("((a{99}){99}){99}", "invalid repetition size"),
        (r"(\pL{30}){30}", "pattern too large"),
    ],
)
def test_line_regex_refuses_with_the_reason(pattern, reason, capfd):
    """What RE2 does not take is refused before any text is read, and nothing goes to stderr."""
    with pytest.raises(InvalidInputError, match=reason):
        LineRegex(pattern)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*b", "(a*)*b", "(a|aa)+$b", "a*a*a*a*a*a*b", "(.*)(.*)(.*)(.*)x"]
)
def test_line_regex_does_not_backtrack(pattern):
    """Patterns over which `re` would take for ever end on a line of five million characters."""
    assert find(pattern, "a" * 5_000_000 + "!") is None


def test_line_regex_is_quiet_when_its_memory_runs_out(capfd):
    """A pattern with too many states for the cache goes on more slowly, and tells nobody."""
    text = f"{3**100_000:b}".replace("0", "a").replace("1", "b")
    assert find("(a|b)*a(a|b){90}c", text) is None
    assert capfd.readouterr().err == ""
