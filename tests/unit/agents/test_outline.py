"""Headings: what counts as one in Markdown, and what only looks like it."""

from __future__ import annotations

import pytest

from baton.agents.outline import find_headings


def headings(text):
    return [(heading.level, text[heading.start : heading.end]) for heading in find_headings(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# One\n## Two ##\n###### Six", [(1, "One"), (2, "Two"), (6, "Six")]),
        ("####### seven\n#no space\n#\n# \n", []),
        ("   # Indented\n    # code", [(1, "Indented")]),
        ("Title\n=====\n\nSub\n---\n", [(1, "Title"), (2, "Sub")]),
        ("- item\n---\n> quote\n---\n| a |\n---\n\n---\n", []),
        ("---\nname: x\n---\n# Body\n", [(1, "Body")]),
        ("```\n# code\n```\n# Real\n", [(1, "Real")]),
        ("````\n```\n# code\n````\n# Real\n", [(1, "Real")]),
        ("~~~ python\n# code\n~~~\n# Real\n", [(1, "Real")]),
        ("```inline``` text\n# Real\n", [(1, "Real")]),
        ("# Crlf\r\nTitle\r\n=====\r\n", [(1, "Crlf"), (1, "Title")]),
        ("# Заголовок 🎈\n", [(1, "Заголовок 🎈")]),
        ("# C#\n# a # b #\n", [(1, "C#"), (1, "a # b")]),
        ("===\n---\n", []),
        ("", []),
    ],
)
def test_find_headings_reads_markdown(text, expected):
    """ATX and setext headings are found; code, lists, rules and front matter are not."""
    assert headings(text) == expected


@pytest.mark.parametrize(
    "line", ["# " + " " * 200_000 + "\rx", "#" * 200_000, "=" * 200_000 + "x", "`" * 200_000]
)
def test_find_headings_is_linear_on_hostile_lines(line):
    """Lines built to make a regex backtrack are read once."""
    assert isinstance(headings(f"{line}\n# End\n"), list)
