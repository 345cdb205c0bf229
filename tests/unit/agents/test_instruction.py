"""Reading instructions: which words ask for what."""

from __future__ import annotations

import pytest

from baton.agents.counting import COUNTERS
from baton.agents.instruction import RegexRequest, read_instruction

ALL = tuple(COUNTERS)


def asked(instruction):
    """The parts of the request that are not empty."""
    request = read_instruction(instruction)
    return {
        name: value
        for name in (
            "regexes", "literals", "outline", "summary", "units", "counted_terms", "query",
        )
        if (value := getattr(request, name))
    }  # fmt: skip


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("How are leases renewed?", {"query": "leases renewed"}),
        ("Give an outline", {"outline": True}),
        ("Table of contents, please", {"outline": True}),
        ("Summarise the document", {"summary": True}),
        ("summary of the retry rules", {"summary": True, "query": "retry rules"}),
        ("What is this about?", {"summary": True}),
        ("Which sections discuss retries?", {"outline": True, "query": "retries"}),
        ("find all `foo bar`", {"literals": ("foo bar",)}),
        ("List every “тест” and 'x y'", {"literals": ("тест", "x y")}),
        ("grep TODO.", {"literals": ("TODO",)}),
        ("grep for /ret(ry|ries)/i", {"regexes": (RegexRequest("ret(ry|ries)", True),)}),
        (r"lines matching /a\/b/", {"regexes": (RegexRequest(r"a\/b", False),)}),
        ("read /usr/lib/python", {"query": "read usr lib python"}),
        ("his and/or hers / theirs / ours", {"summary": True}),
        ("How many words are there?", {"units": ("words",)}),
        ("count lines and bytes", {"units": ("lines", "bytes")}),
        ("Count everything", {"units": ALL}),
        ("count", {"units": ALL}),
        ("how many times does `lease` occur", {"counted_terms": ("lease",)}),
        ("count and find `x`", {"literals": ("x",), "counted_terms": ("x",)}),
        ("count the occurrences of lease", {"counted_terms": ("lease",)}),
        ("How many TODOs are there", {"units": ("TODOs",)}),
        ("How many retries are allowed?", {"query": "retries allowed"}),
        ("How many headings", {"units": ("headings",)}),
        ("Explain `node_sweep` please", {"query": "node sweep"}),
        ("Outline it and count the lines", {"outline": True, "units": ("lines",)}),
    ],
)
def test_read_instruction_decides_by_its_words(instruction, expected):
    """Each instruction asks for exactly what is expected."""
    assert asked(instruction) == expected


def test_read_instruction_bounds_what_it_takes():
    """A hundred quoted terms and patterns are cut to the first five."""
    request = read_instruction("find " + " ".join(f"`t{n}` /r{n}/" for n in range(100)))
    assert request.literals == ("t0", "t1", "t2", "t3", "t4")
    assert [regex.pattern for regex in request.regexes] == ["r0", "r1", "r2", "r3", "r4"]


@pytest.mark.parametrize(
    "text", ["/" * 100_000, '"' * 99_999, "`a" * 50_001, "'a " * 50_000, " /a" * 50_000]
)
def test_read_instruction_is_linear_on_hostile_text(text):
    """Slashes and quotes without end are read in one pass."""
    assert read_instruction(text)
