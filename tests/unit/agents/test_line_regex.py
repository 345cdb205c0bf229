"""The linear regex engine agrees with `re` on which lines match, and cannot be made to blow up."""

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
MARKS = ["^", "$", r"\b", r"\B"]
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


LINES = st.text(st.sampled_from("abc1_ .é-"), min_size=1, max_size=12)


@settings(max_examples=400, deadline=None)
@given(patterns().filter(lambda pattern: len(pattern) <= 100), LINES, st.booleans())
def test_line_regex_matches_the_lines_that_re_matches(pattern, line, ignore_case):
    """On every pattern of its subset it decides as Python's `re` does."""
    flags = re.IGNORECASE if ignore_case else re.NOFLAG
    ours = LineRegex(pattern, ignore_case=ignore_case)
    assert (ours.search(line) is not None) == (re.search(pattern, line, flags) is not None)


@settings(max_examples=200, deadline=None)
@given(patterns().filter(lambda pattern: len(pattern) <= 100), LINES)
def test_line_regex_ends_where_some_match_ends_and_none_ends_sooner(pattern, line):
    """The position it gives is the first at which a match can end."""
    end = LineRegex(pattern).search(line)
    # What `re` finds with the line cut shows which ends are possible, but for assertions.
    if end is not None and not set(pattern) & set("^$\\"):
        assert re.search(pattern, line[:end])
        assert end == 0 or not re.search(pattern, line[: end - 1])


@settings(max_examples=200, deadline=None)
@given(patterns().filter(lambda pattern: len(pattern) <= 100), LINES)
def test_line_regex_literal_is_in_every_matching_line(pattern, line):
    """The text used to skip lines never skips one that matches."""
    regex = LineRegex(pattern)
    if re.search(pattern, line):
        assert regex.literal in line


@pytest.mark.parametrize(
    ("pattern", "literal"),
    [("error.*timeout", "timeout"), ("ab|cd", ""), ("colou?r", "colo"), (r"\bTODO\b", "TODO")],
)
def test_line_regex_knows_a_text_that_matches_must_hold(pattern, literal):
    """The longest run of literal characters at the top level is required."""
    assert LineRegex(pattern).literal in (literal, literal.removesuffix("u"))


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "1 to 200 characters"),
        ("x" * (MAX_PATTERN_CHARS + 1), "1 to 200 characters"),
        ("(a", "complete"),
        ("a)", "balanced"),
        ("[a", "complete"),
        ("[z-a]", "valid class"),
        ("a\\", "complete"),
        ("*a", "something before"),
        ("a**", "repetition of a repetition"),
        ("a*+", "repetition of a repetition"),
        ("a{3}{3}", "repetition of a repetition"),
        ("^*", "no repetition of"),
        (r"(a)\1", "no back-references"),
        (r"\Aa", "no back-references"),
        ("(?=a)", "look-around"),
        ("(?<!a)b", "look-around"),
        ("(?i)a", "inline flags"),
        ("(?P<n>a)", "named groups"),
        ("a{3,2}", "m at most n"),
        ("((a{99}){99}){99}", "at most 500 states"),
        ("((((){999}){999}){999}){999}", "at most 500 states"),
        ("(" * 50 + "a" + ")" * 50, "nested groups"),
    ],
)
def test_line_regex_refuses_with_the_reason(pattern, reason):
    """What it does not support, or not at that size, is refused before any text is read."""
    with pytest.raises(InvalidInputError, match=reason):
        LineRegex(pattern)


@pytest.mark.parametrize(
    "pattern", ["(a|a)*b", "(a*)*b", "(a|aa)+$b", "(?:a+)+b", "a*a*a*a*a*a*b", "(.*)(.*)(.*)(.*)x"]
)
def test_line_regex_does_not_backtrack(pattern):
    """Patterns over which `re` would take for ever are work in proportion to the text."""
    regex = LineRegex(pattern)
    assert regex.search("a" * 200_000) is None
    assert regex._automaton._work < 1_000


def test_line_regex_gives_up_after_a_fixed_amount_of_work(monkeypatch):
    """A pattern that needs a new state at each character ends as a refusal, not as a long wait."""
    from baton.agents import line_regex

    monkeypatch.setattr(line_regex, "MAX_WORK", 100_000)
    monkeypatch.setattr(line_regex, "_MAX_CACHED_PLACES", 20_000)
    regex = LineRegex("(a|b)*a(a|b){90}c")
    text = f"{3**20_000:b}".replace("0", "a").replace("1", "b")
    with pytest.raises(InvalidInputError, match="fewer states"):
        regex.search(text)


def test_line_regex_forgets_states_without_losing_a_match(monkeypatch):
    """A full cache is emptied in the middle of a line, and the answer stays right."""
    from baton.agents import line_regex

    monkeypatch.setattr(line_regex, "_MAX_CACHED_PLACES", 50)
    text = f"{3**500:b}".replace("0", "a").replace("1", "b")
    for pattern in ("a[ab]{6}bab", "(ab|ba){4}", "b{9}", "aaaaaaaaaaaaaaaaaaaa"):
        found = LineRegex(pattern).search(text)
        assert (found is not None) == bool(re.search(pattern, text))


@pytest.mark.parametrize("pattern", ["[[a]", "[a&&b]", "[a||b]", "[]a]", "[^]a]", r"[\]a]", "[a-]"])
def test_line_regex_reads_classes_as_re_does_and_without_warnings(pattern):
    """Classes that `re` warns about, or that hold brackets, mean the same."""
    ours = LineRegex(pattern)
    plain = re.compile(pattern.replace("[[", r"[\[").replace("&&", "&").replace("||", "|"))
    for char in "ab[]&|-^\\x":
        assert (ours.search(char) is not None) == (plain.search(char) is not None)
