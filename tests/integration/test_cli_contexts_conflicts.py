"""`baton context conflicts` and `resolve`: a write that meets another, to its end."""

from __future__ import annotations

import pytest

from waiting import until

# No server makes a difference here; scripts and commands are tested on both elsewhere.
pytestmark = pytest.mark.one_redis

BASE = "one\ntwo\nthree\nfour\nfive\n"


def conflicting(context, *, base=BASE, ours=None, theirs=None, options=()) -> str:
    """A session `notes` with one pending conflict; its id. Both sides change the first line."""
    ours = base.replace("one", "ONE") if ours is None else ours
    theirs = base.replace("one", "uno").replace("five", "cinque") if theirs is None else theirs
    context("put", "notes", "-", *options, stdin=base.encode())
    context("put", "notes", "-", "--base", "1.0.0", stdin=ours.encode())
    told = context.json(
        *("put", "notes", "-", "--base", "1.0.0", "--agent", "late"), stdin=theirs.encode(), code=3
    )
    return told["conflict_id"]


def content(context) -> str:
    return context("get", "notes").stdout.decode()


def test_conflicts_lists_what_waits(context):
    """As a table and as JSON; empty once it is resolved."""
    name = conflicting(context)
    (pending,) = context.json("conflicts", "notes")["pending"]
    assert (pending["conflict_id"], pending["agent_id"]) == (name, "late")
    assert (pending["base_version"], pending["head_version"]) == ("1.0.0", "1.0.1")
    assert name.encode() in context("conflicts", "notes").stdout
    context("resolve", "notes", "--take", "ours")
    assert context.json("conflicts", "notes") == {"session": "notes", "pending": []}
    assert name.encode() not in context("conflicts", "notes").stdout


def test_conflicts_shows_the_places_of_one(context):
    """Each side as a block of lines, and as what `as_dict` of the conflict gives."""
    name = conflicting(context)
    shown = context("conflicts", "notes", name).stdout.decode()
    assert "1 of 1 place: line 1 of the head\n" in shown
    for side, line in (("base, 1.0.0", "one"), ("head 1.0.1", "ONE"), ("by late", "uno")):
        assert f"{side}:\n    | {line}\n" in shown
    found = context.json("conflicts", "notes", name)
    assert (found["session"], found["conflict_id"], found["head"]) == ("notes", name, "1.0.1")
    (place,) = found["conflicts"]
    sides = (place["kind"], place["base"], place["ours"], place["theirs"])
    assert sides == ("text", "one\n", "ONE\n", "uno\n")
    assert place["ours_range"] == {
        "start_line": 0, "end_line": 1, "start_byte": 0, "end_byte": 4,
    }  # fmt: skip


def test_conflicts_shows_foreign_text_escaped_and_cut(context):
    """Control characters, deleted sides, missing line ends and very long sides are bearable."""
    long = "".join(f"row {number}\n" for number in range(100))
    conflicting(context, base="x\nlast", ours="\x1b[2J evil", theirs=f"{long}{'y' * 1000}\n")
    (pending,) = context.json("conflicts", "notes")["pending"]
    shown = context("conflicts", "notes", pending["conflict_id"]).stdout.decode()
    assert "| \\x1b[2J evil\n    (no line end)" in shown
    assert "(81 more lines; --json has them)" in shown
    assert "y" * 301 not in shown


def test_conflicts_shows_places_of_documents_by_pointer(context):
    """A value that one side has not is not null."""
    name = conflicting(
        context, base='{"a": {"b": 1}}', ours='{"a": {}}', theirs='{"a": {"b": null}}',
        options=("--json-document",),
    )  # fmt: skip
    shown = context("conflicts", "notes", name).stdout.decode()
    assert "1 of 1 place: at /a/b\n" in shown
    assert "head 1.0.1:\n    (nothing)\n" in shown
    assert "by late:\n    | null\n" in shown
    (place,) = context.json("conflicts", "notes", name)["conflicts"]
    assert place == {"kind": "json", "pointer": "/a/b", "base": 1, "theirs": None}


@pytest.mark.parametrize(("side", "first"), [("ours", "ONE"), ("theirs", "uno")])
def test_resolve_takes_a_side_and_merges_the_rest(context, side, first):
    """Only the place in conflict is taken from that side; the other changes are all there."""
    conflicting(context)
    done = context.json("resolve", "notes", "--take", side)
    assert (done["session"], done["version"], done["action"]) == ("notes", "1.0.2", "accepted")
    assert content(context) == f"{first}\ntwo\nthree\nfour\ncinque\n"


def test_resolve_takes_a_file(context):
    """The file's text becomes the next version; standard input does too."""
    name = conflicting(context)
    merged = context.file("merged.md", b"both\n")
    told = context("resolve", "notes", name, "--take", merged, "--agent", "me").stdout
    assert b"1.0.2" in told
    assert content(context) == "both\n"
    (record, *_) = context.json("history", "notes")["versions"]
    assert (record["author"], record["operation"]) == ("me", "resolve")
    assert "no pending conflict" in context.error(
        "resolve", "notes", name, "--take", "-", stdin=b"again", code=4
    )


def test_resolve_with_a_file_merges_with_a_head_that_moved_on(context):
    """What was written since is not lost; where it meets the file, a new conflict waits."""
    conflicting(context)
    moved = BASE.replace("one", "ONE").replace("three", "THREE")
    context("put", "notes", "-", "--base", "1.0.1", stdin=moved.encode())
    file = context.file("merged.md", BASE.replace("one", "1").encode())
    assert context.json("resolve", "notes", "--take", file)["action"] == "merged"
    assert content(context) == BASE.replace("one", "1").replace("three", "THREE")


def test_resolve_that_meets_another_write_is_exit_code_3(context):
    """The merged text and the new head touch one line: it waits again."""
    conflicting(context)
    context("put", "notes", "-", "--base", "1.0.1", stdin=BASE.replace("one", "ONCE").encode())
    file = context.file("merged.md", BASE.replace("one", "1").encode())
    assert context.json("resolve", "notes", "--take", file, code=3)["action"] == "merge_required"
    assert content(context) == BASE.replace("one", "ONCE")


def test_resolve_without_an_id_wants_exactly_one(context):
    """None is exit code 4, several is wrong usage and names them."""
    context("put", "free", "-", stdin=b"text")
    assert "no pending conflict" in context.error("resolve", "free", "--take", "ours", code=4)
    first = conflicting(context)
    other = BASE.replace("one", "eins").encode()
    second = context.json("put", "notes", "-", "--base", "1.0.0", stdin=other, code=3)
    said = context.error("resolve", "notes", "--take", "ours", code=2)
    assert first in said
    assert second["conflict_id"] in said
    context("resolve", "notes", first, "--take", "ours")
    context("resolve", "notes", "--take", "theirs")
    assert content(context).startswith("eins\n")


def test_wrong_arguments_are_told(context):
    """A missing side or file and a malformed id are 2; what is not there is 4."""
    conflicting(context)
    context.error("resolve", "notes", code=2)
    assert "nowhere.md" in context.error("resolve", "notes", "--take", "nowhere.md", code=2)
    context.error("conflicts", "notes", "a b", code=2)
    assert "baton context conflicts notes" in context.error("conflicts", "notes", "other", code=4)
    for command in (["conflicts", "nobody"], ["resolve", "nobody", "--take", "ours"]):
        assert "nobody" in context.error(*command, code=4)


def test_a_conflict_expires(context):
    """BATON_CONTEXT_CONFLICT_SECONDS after the write it is listed no more, nor resolved."""
    context("put", "notes", "-", stdin=b"one")
    context("put", "notes", "-", stdin=b"two")
    old = ("put", "notes", "-", "--base", "1.0.0")
    name = context.json(*old, stdin=b"three", code=3, BATON_CONTEXT_CONFLICT_SECONDS="1")
    until(lambda: context.json("conflicts", "notes")["pending"] == [], what="expiry")
    context.error("resolve", "notes", name["conflict_id"], "--take", "theirs", code=4)
