"""Differences of text: exact hunks, and unified diffs that `git apply` and `patch` take."""

import os
import random
import shutil
import subprocess

import pytest

from baton.errors import InvalidInputError
from baton.merge.ranges import TextRange
from baton.merge.text_difference import TextHunk, diff_text

LINES = [
    "",
    "a",
    "b",
    "c",
    "}",
    "\r",
    "CR LF\r",
    "-- a",
    "++ b",
    "@@ -1 +1 @@",
    "é\u2028x\x0c",
    "\\",
]
EDGES = [
    ("", "a\n"), ("a\n", ""), ("", "a"), ("a", ""), ("a", "a\n"), ("a\n", "a"), ("a", "b"),
    ("a\nb", "a\nb\nc"), ("a\r\nb\r\n", "a\nb\n"), ("\n", ""), ("x\n" * 9 + "a", "x\n" * 9 + "a\n"),
]  # fmt: skip


def tool(name):
    binary = shutil.which(name)
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is missing; CI must have it")
        pytest.skip(f"{name} is missing")
    return binary


def pairs(seed, count):
    rng = random.Random(seed)
    yield from EDGES
    for _ in range(count):
        old = rng.choices(LINES, k=rng.choice([0, 1, 5, 30, 200]))
        new = old.copy()
        for _ in range(rng.choice([1, 2, 8])):
            place = rng.randint(0, len(new))
            new[place : place + rng.randint(0, 3)] = rng.choices(LINES, k=rng.randint(0, 3))
        texts = ["\n".join(side) + rng.choice(["", "\n"]) for side in (old, new)]
        if texts[0] != texts[1]:
            yield texts


# Not git without context: it then loses line ends at the end of a file, from its own diffs too.
@pytest.mark.parametrize(
    ("program", "context_lines"), [("git", 1), ("git", 3), ("patch", 0), ("patch", 1), ("patch", 3)]
)
def test_unified_diff_applies_to_the_new_text(tmp_path, program, context_lines):
    """300 files with any line ends and none, empty ones too: patched they are the new ones."""
    binary = tool(program)
    patch, expected = [], {}
    for number, (old, new) in enumerate(pairs(f"{context_lines}", 300)):
        name = f"file {number}" if number % 2 else f"file{number}"
        (tmp_path / name).write_bytes(old.encode())
        difference = diff_text(old, new)
        patch.append(difference.unified(f"a/{name}", f"b/{name}", context_lines))
        expected[name] = new.encode()
    command = {
        "git": ["apply", "--whitespace=nowarn"],
        "patch": ["--strip=1", "--binary", "--fuzz=0", "--batch", "--silent"],
    }[program]
    done = subprocess.run(
        [binary, *command],
        cwd=tmp_path,
        input="".join(patch).encode(),
        capture_output=True,
        check=False,
        # In a repository around this folder, git would look for the files there.
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    for name, new in expected.items():
        path = tmp_path / name
        # For git a file that a bare diff empties is deleted.
        found = path.read_bytes() if path.exists() or new else b""
        assert found == new, name


def test_hunks_name_lines_and_bytes():
    """Ranges from 0, half-open, of whole lines; an insertion's old range is a place."""
    difference = diff_text("a\né\nc\nd\n", "a\nB\nc\nd\ne")
    assert difference.hunks == (
        TextHunk(TextRange(1, 2, 2, 5), TextRange(1, 2, 2, 4), "é\n", "B\n"),
        TextHunk(TextRange(4, 4, 9, 9), TextRange(4, 5, 8, 9), "", "e"),
    )


def test_unified_diff_of_close_and_distant_changes():
    """Changes whose context meets share a section; counts of one are left out, as in git."""
    old = "".join(f"{number}\n" for number in range(30))
    new = old.replace("\n3\n", "\nthree\n").replace("\n8\n", "\n").replace("\n25\n", "\n25\nnew\n")
    assert diff_text(old, new).unified("a/x", "b/x", 2) == (
        "--- a/x\n+++ b/x\n"
        "@@ -2,10 +2,9 @@\n 1\n 2\n-3\n+three\n 4\n 5\n 6\n 7\n-8\n 9\n 10\n"
        "@@ -25,4 +24,5 @@\n 24\n 25\n+new\n 26\n 27\n"
    )
    assert diff_text("a", "b").unified("old", "new") == (
        "--- old\n+++ new\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n"
        "+b\n\\ No newline at end of file\n"
    )


def test_equal_texts_have_no_difference():
    """No hunks, and an empty diff rather than a bare header."""
    for text in ("", "a", "a\n"):
        assert (diff_text(text, text).hunks, diff_text(text, text).unified("a", "b")) == ((), "")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [(("a\n+b", "b"), "old_name"), (("a", ""), "new_name"), (("a", "b", -1), "context_lines")],
)
def test_unified_diff_refuses_what_would_forge_its_lines(arguments, field):
    """Names are one printable line; also where nothing changed."""
    with pytest.raises(InvalidInputError, match=f"^{field}: "):
        diff_text("a", "a").unified(*arguments)


def test_long_texts_are_compared_around_their_changes_only():
    """10 MB with a few changes: hunks at their places, little to show."""
    lines = [f"line {number} {'.' * 80}\n" for number in range(100_000)]
    new = lines.copy()
    new[500] = "changed\n"
    del new[60_000]
    difference = diff_text("".join(lines), "".join(new))
    assert [hunk.old_range.start_line for hunk in difference.hunks] == [500, 60_000]
    assert len(difference.unified("a/x", "b/x").splitlines()) == 2 + 2 + 6 + 6 + 3


def test_a_lone_surrogate_is_no_reason_to_fail():
    """Stored contexts hold none; a difference of other texts still comes out."""
    assert diff_text("\ud800\n", "b\n").hunks[0].removed == "\ud800\n"
