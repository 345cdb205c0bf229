"""The offline runner: honest, deterministic, bounded results with exact byte ranges."""

from __future__ import annotations

import re

import pytest
from assignments import PlainAssignment
from hypothesis import given, settings
from hypothesis import strategies as st

from baton.agents.offline import MAX_CHILD_CHARS, MAX_HEADINGS, OfflineRunner
from baton.agents.runner import ChildResult, Runner
from baton.errors import NodeCancelledError

CONTEXT = """# Leases

A lease lasts thirty seconds and is renewed by one thread per process.

## Повторы 🎈

Работник перезапускает узел. TODO: describe the retry rules of the broker.

```
# not a heading: `code`
```

# Sweeps

A sweep re-enqueues every node whose lease lapsed. TODO: say how often the sweep runs.
"""

QUOTE = re.compile(r"^\[bytes (\d+)-(\d+)\]\n(`{3,})text\n(.*?)\n\3$", re.MULTILINE | re.DOTALL)


def run(instruction, context=CONTEXT, **more):
    return OfflineRunner().run(PlainAssignment(instruction, context, **more)).content


def quotes(result):
    return [(int(start), int(end), text) for start, end, _, text in QUOTE.findall(result)]


def test_offline_runner_is_a_runner():
    """It satisfies the contract under the name `offline`, and marks its details as extractive."""
    runner = OfflineRunner()
    assert isinstance(runner, Runner)
    assert runner.name == "offline"
    assert runner.run(PlainAssignment("leases", CONTEXT)).details == {"extractive": True}


def test_offline_runner_says_first_that_it_is_extractive():
    """Whatever is asked, the first line says that no model was used."""
    for instruction in ("outline", "leases", "count", "/x/", "summary"):
        for context in (CONTEXT, ""):
            first = run(instruction, context).splitlines()[0]
            assert first.startswith("> Extractive result")
            assert "no model was used" in first
            assert "session_1@1.0.0" in first


def test_offline_runner_finds_relevant_passages_with_their_bytes():
    """A question is answered by the passages that hold its words, quoted exactly."""
    result = run("What happens when a lease lapsed?")
    assert "**Passages most relevant to `happens lease lapsed`**" in result
    found = quotes(result)
    assert found
    for start, end, text in found:
        assert CONTEXT.encode()[start:end].decode() == text


def test_offline_runner_lists_matches_of_a_regex():
    """Lines that match are counted and quoted."""
    result = run("find all /lease.*(thread|lapsed)/")
    assert "2 lines in all." in result
    assert [text for *_, text in quotes(result)] == [
        "A lease lasts thirty seconds and is renewed by one thread per process.",
        "A sweep re-enqueues every node whose lease lapsed. TODO: say how often the sweep runs.",
    ]


def test_offline_runner_lists_matches_of_a_literal():
    """Quoted text is looked for as it is written, backticks in the context or not."""
    result = run('find every "`code`"')
    assert quotes(result)[0][2] == "# not a heading: `code`"
    assert "No line matches." in run("find `absent`")


def test_offline_runner_bounds_matches_and_tells_the_total():
    """Twenty matches are shown of any number."""
    result = run("grep hit", "hit\n" * 5_000)
    assert "5000 lines in all, the first 20 shown." in result
    assert len(quotes(result)) == 20


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(a)\1", "invalid escape sequence"),
        ("(?=a)", "invalid perl operator: (?="),
        ("(((a{99}){99}){99})", "invalid repetition size"),
        ("(a", "missing ): (a"),
    ],
)
def test_offline_runner_says_which_pattern_it_refuses_and_why(pattern, reason):
    """A pattern that RE2 does not take is a clear statement in the result, not a failure."""
    result = run(f"find /{pattern}/")
    assert f"**Lines matching `/{pattern}/`**\n\nThe pattern was refused: pattern: exp" in result
    assert "(no look-around, no back-references)" in result
    assert reason in result


def test_offline_runner_says_that_classes_know_ascii_only():
    r"""Where `\w` and its like may miss letters of the context, the result says so."""
    note = "know ASCII only"
    assert note in run(r"find /\bж/")
    assert note not in run(r"find /ж|\pL/")
    assert note not in run(r"find /\blease\b/", "a lease")


def test_offline_runner_gives_an_outline():
    """Headings come indented by level, each with the bytes of its title."""
    result = run("Give the outline")
    assert "3 headings in all." in result
    data = CONTEXT.encode()
    rows = re.findall(r"^( *)- (.*) \[bytes (\d+)-(\d+)\]$", result, re.MULTILINE)
    assert [(indent, title) for indent, title, *_ in rows] == [
        ("", "Leases"),
        ("  ", "Повторы 🎈"),
        ("", "Sweeps"),
    ]
    for _, title, start, end in rows:
        assert data[int(start) : int(end)].decode() == title
    assert "no Markdown headings" in run("outline", "plain text")
    many = run("outline", "# h\n" * 1_000)
    assert f"1000 headings in all, the first {MAX_HEADINGS} shown." in many


def test_offline_runner_counts():
    """Counts are exact, in characters and in bytes, and of quoted terms."""
    result = run("How many lines, words, characters, bytes, headings and TODOs are there?")
    assert f"- lines: {CONTEXT.count(chr(10))}" in result
    assert f"- words: {len(CONTEXT.split())}" in result
    assert f"- characters: {len(CONTEXT)}" in result
    assert f"- bytes: {len(CONTEXT.encode())}" in result
    assert "- headings: 3" in result
    assert "- TODOs: 2" in result
    assert "- occurrences of `lease`: 2" in run("how many times does `lease` occur?")
    assert "- lines: 2" in run("count lines", "one\ntwo")


def test_offline_runner_summarises():
    """A summary quotes sentences of the context, in order."""
    found = quotes(run("Summarise it"))
    assert found == sorted(found)
    assert all(text in CONTEXT for *_, text in found)
    assert "no sentences" in run("summary", "x\ny\n")


def test_offline_runner_combines_what_is_asked():
    """One instruction may ask for several things; each has its part."""
    result = run("Outline it, count the lines, and find `TODO`; how are leases renewed?")
    for title in ("**Outline**", "**Counts**", "**Passages most relevant"):
        assert title in result


def test_offline_runner_adds_no_heading_of_its_own():
    """Its parts are titled in bold: a work log sets results below headings of its own."""
    instruction = "Outline, summary, count lines, find `lease` and /sweep/; how are leases renewed?"
    children = (ChildResult("0.0", "task", "ok", "text"),)
    result = QUOTE.sub("", run(instruction, "A lease is swept by a sweep.\n", children=children))
    assert result.count("\n**") == 7
    assert not re.search(r"^#", result, re.MULTILINE)


def test_offline_runner_says_when_nothing_matches():
    """No match is said plainly, and nothing is made up."""
    result = run("xylophones and zeppelins")
    assert "No passage of the context holds any of these words." in result
    assert quotes(result) == []


@pytest.mark.parametrize("context", ["", " \n\t\n"])
def test_offline_runner_says_when_the_context_is_empty(context):
    """Nothing or only white space is said to be empty."""
    assert "The context is empty" in run("outline and leases", context)


def test_offline_runner_adds_its_childrens_results():
    """On a continuation the children follow in their order, with state, and long ones cut."""
    children = (
        ChildResult("0.0", "first\ntask", "ok", "Found ```it```."),
        ChildResult("0.1", "second", "failed", "", "Runner mine failed: ValueError: no"),
        ChildResult("0.2", "third", "ok", "x" * (MAX_CHILD_CHARS + 7)),
    )
    result = run("leases", children=children)
    places = [result.index(text) for text in ("`0.0` ok: first task", "`0.1` failed", "`0.2` ok")]
    assert places == sorted(places)
    assert "````text\nFound ```it```.\n````" in result
    assert "ValueError: no" in result
    assert "Its last 7 characters are left out." in result
    assert "**Results of the children**" in result
    assert "Results of the children" not in run("leases")


def test_offline_runner_stops_when_cancelled():
    """A cancelled node ends between two parts."""
    with pytest.raises(NodeCancelledError):
        run("outline", cancelled=True)


def test_offline_runner_shares_one_index_per_context():
    """Nodes over one context share its index; another context gets its own."""
    runner = OfflineRunner()
    for instruction in ("leases", "sweep"):
        runner.run(PlainAssignment(instruction, CONTEXT))
    assert len(runner._indexes._entries) == 1
    runner.run(PlainAssignment("leases", CONTEXT + "more"))
    assert len(runner._indexes._entries) == 2


INSTRUCTIONS = st.lists(
    st.sampled_from(
        [
            "outline",
            "count",
            "lines",
            "find",
            "`a`",
            "/a+b?/i",
            "summary",
            "повтор",
            "alpha",
            "grep b",
        ]
    ),
    min_size=1,
    max_size=5,
).map(" ".join)


@settings(deadline=None)
@given(INSTRUCTIONS, st.text(max_size=300))
def test_offline_runner_is_deterministic_and_exact_on_any_text(instruction, context):
    """Two runners give the same text, and each quote is at its bytes."""
    result = run(instruction, context)
    assert run(instruction, context) == result
    result.encode()
    data = context.encode()
    for start, end, text in quotes(result):
        assert data[start:end].decode() == text
