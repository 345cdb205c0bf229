"""`baton context` in time: diff, rollback, fork, merge, tags, checkpoints and resuming."""

from __future__ import annotations

import shutil
import subprocess

import pytest

# No server makes a difference here; scripts and commands are tested on both elsewhere.
pytestmark = pytest.mark.one_redis

BASE = "one\ntwo\nthree\nfour\nfive\n"
CHANGED = "one\ntwo\nTHREE\nfour\nfive"


@pytest.fixture
def notes(context):
    """A session `notes` with two versions."""
    context("put", "notes", "-", stdin=BASE.encode())
    context("put", "notes", "-", stdin=CHANGED.encode())
    return context


def test_diff_is_what_patch_takes(notes):
    """A unified diff turns the old file into the new one, byte for byte; no colour in a pipe."""
    diff = notes("diff", "notes", "1.0.0", "1.0.1").stdout
    assert diff.startswith(b"--- notes@1.0.0\n+++ notes@1.0.1\n@@ -1,5 +1,5 @@\n")
    assert b"\x1b" not in diff
    assert notes("diff", "notes", "1.0.1", "1.0.1").stdout == b""
    patch = shutil.which("patch")
    if patch is None:
        pytest.skip("no `patch` here")
    old = notes.place / notes.file("notes.md", BASE.encode())
    subprocess.run([patch, "--quiet", str(old)], input=diff, check=True)
    assert old.read_bytes() == CHANGED.encode()


def test_diff_as_json_has_the_places_and_a_patch_of_documents(notes):
    """Hunks with their ranges; for JSON documents RFC 6902 too, for text null."""
    found = notes.json("diff", "notes", "1.0.0", "1.0.1")
    assert set(found) == {"session", "old_version", "new_version", "hunks", "patch"}
    first, last = found["hunks"]
    assert (first["removed"], first["added"]) == ("three\n", "THREE\n")
    assert last["new_range"] == {"start_line": 4, "end_line": 5, "start_byte": 19, "end_byte": 23}
    assert found["patch"] is None
    notes("put", "plan", "-", "--json-document", stdin=b'{"a": 1}')
    notes("put", "plan", "-", stdin=b'{"a": 2}')
    patch = notes.json("diff", "plan", "1.0.0", "1.0.1")["patch"]
    assert patch == [{"op": "replace", "path": "/a", "value": 2}]


def test_rollback_makes_an_old_version_the_newest(notes):
    """A third version with the first one's content; the second stays."""
    assert notes.json("rollback", "notes", "1.0.0")["version"] == "1.0.2"
    assert notes("get", "notes").stdout == BASE.encode()
    assert notes.json("history", "notes")["versions"][0]["operation"] == "rollback"
    assert notes("get", "notes", "--version", "1.0.1").stdout == CHANGED.encode()


def test_a_fork_is_merged_back(notes):
    """Both sessions' changes are in the head; a session of the name is no place for a fork."""
    forked = notes.json("fork", "notes", "copy", "--version", "1.0.0")
    assert (forked["session"], forked["version"]) == ("copy", "1.0.0")
    notes("append", "copy", "-", stdin=b"six\n")
    assert notes("get", "copy").stdout.decode() == f"{BASE}six\n"
    notes("put", "notes", "-", stdin=BASE.replace("one", "ONE").encode())
    assert notes.json("merge", "notes", "copy")["action"] == "merged"
    assert notes("get", "notes").stdout.decode() == f"{BASE.replace('one', 'ONE')}six\n"
    assert "copy" in notes.error("fork", "notes", "copy", code=4)


def test_merge_that_meets_other_changes_is_exit_code_3(notes):
    """It waits as a conflict like any other write."""
    notes("fork", "notes", "copy")
    notes("put", "copy", "-", stdin=BASE.replace("one", "uno").encode())
    notes("put", "notes", "-", stdin=BASE.replace("one", "eins").encode())
    waiting = notes.json("merge", "notes", "copy", code=3)
    assert waiting["session"] == "notes"
    resolved = notes.json("resolve", "notes", waiting["conflict_id"], "--take", "theirs")
    assert resolved["action"] == "accepted"
    assert notes("get", "notes").stdout.startswith(b"uno\n")


def test_merge_of_no_fork_needs_a_base(notes):
    """Without it, it is wrong usage; with it, and a version of the source, it merges."""
    notes("put", "other", "-", stdin=BASE.replace("one", "ONE").encode())
    notes("put", "other", "-", stdin=b"nothing of it")
    assert "base_version" in notes.error("merge", "notes", "other", code=2)
    options = ("--base", "1.0.0", "--source-version", "1.0.0")
    assert notes.json("merge", "notes", "other", *options)["action"] == "merged"
    assert notes("get", "notes").stdout.decode() == CHANGED.replace("one", "ONE")


def test_tags_name_versions(notes):
    """A tag is put, listed, moved only on purpose, and removed."""
    assert notes.json("tag", "notes", "good", "--version", "1.0.0") == {
        "session": "notes", "tag": "good", "version": "1.0.0",
    }  # fmt: skip
    assert "1.0.0" in notes.error("tag", "notes", "good", code=4)
    assert b"1.0.1" in notes("tag", "notes", "good", "--move").stdout
    assert notes.json("tags", "notes") == {"session": "notes", "tags": {"good": "1.0.1"}}
    assert b"good  1.0.1" in notes("tags", "notes").stdout
    assert notes.json("untag", "notes", "good")["removed"]
    assert notes.json("tags", "notes")["tags"] == {}
    notes.error("untag", "notes", "good", code=4)


def test_a_checkpoint_is_resumed_from(notes):
    """What stands behind it comes back, from its own version, to a pipe and to a file."""
    made = notes.json("checkpoint", "notes", "half", "--byte", "8", "--version", "1.0.0")
    assert (made["version"], made["byte_position"], made["label"]) == ("1.0.0", 8, "half")
    name = made["checkpoint_id"]
    assert notes("resume", "notes", name).stdout == b"three\nfour\nfive\n"
    notes("resume", "notes", name, "-o", "rest.md")
    assert (notes.place / "rest.md").read_bytes() == b"three\nfour\nfive\n"
    found = notes.json("resume", "notes", name)
    assert (found["version"], found["start_byte"], found["end_byte"]) == ("1.0.0", 8, 24)
    (listed,) = notes.json("checkpoints", "notes")["checkpoints"]
    assert listed == {key: value for key, value in made.items() if key != "session"}
    assert b"half" in notes("checkpoints", "notes").stdout


def test_a_checkpoint_is_at_the_end_or_at_a_token(notes):
    """Without a place it is the end; a token's is about four bytes each."""
    assert notes.json("checkpoint", "notes", "all")["byte_position"] == len(CHANGED)
    assert notes.json("checkpoint", "notes", "some", "--token", "2")["byte_position"] == 8
    assert b"baton context resume notes cp_" in notes("checkpoint", "notes", "x").stdout


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        (2, ["diff", "notes", "1.0.0"]),
        (2, ["diff", "notes", "1.0.0", "new"]),
        (4, ["diff", "notes", "1.0.0", "1.0.9"]),
        (4, ["diff", "nobody", "1.0.0", "1.0.1"]),
        (2, ["rollback", "notes"]),
        (2, ["rollback", "notes", "1"]),
        (4, ["rollback", "notes", "0.0.1"]),
        (2, ["fork", "notes", "a b"]),
        (4, ["fork", "notes", "copy", "--version", "9.0.0"]),
        (4, ["fork", "nobody", "copy"]),
        (4, ["merge", "notes", "nobody"]),
        (2, ["tag", "notes", "a b"]),
        (4, ["tag", "notes", "name", "--version", "9.0.0"]),
        (4, ["tags", "nobody"]),
        (4, ["checkpoints", "nobody"]),
        (2, ["checkpoint", "notes", "x", "--byte", "1", "--token", "1"]),
        (2, ["checkpoint", "notes", "x", "--byte", "-1"]),
        (2, ["checkpoint", "notes", "x", "--byte", "1000"]),
        (2, ["checkpoint", "notes", "two\nlines"]),
        (4, ["checkpoint", "notes", "x", "--version", "9.0.0"]),
        (4, ["resume", "notes", "cp_none"]),
    ],
    ids=lambda value: " ".join(value).replace("\n", "-") if isinstance(value, list) else str(value),
)
def test_what_cannot_be_done_is_told(notes, code, wrong):
    """Wrong usage is exit code 2, what is not there 4; nothing comes on standard output."""
    assert "error" in notes.error(*wrong, code=code).lower()
