"""`baton context` put, append, get, read, collect and freeze, against a real Redis."""

from __future__ import annotations

import json

import pytest

from baton.key_providers.file import FileKeyProvider
from baton.store.keys import SessionKeys
from baton.swarm.registry import AgentRegistry

# No server makes a difference here; scripts and commands are tested on both elsewhere.
pytestmark = pytest.mark.one_redis

LINES = b"one\ntwo\nthree\nfour\nfive\n"
COMMIT_KEYS = {
    "session", "version", "action", "etag", "content_hash", "committed_at", "replaced",
    "conflict_id", "conflicts",
}  # fmt: skip


def put(context, content: bytes, *options: str, code: int = 0, **more):
    return context.json("put", "notes", "-", *options, stdin=content, code=code, **more)


def test_two_writers_of_different_lines_are_merged(context):
    """The second, on the base of both, is told that it was merged; the head has both changes."""
    put(context, LINES)
    put(context, LINES.replace(b"one", b"ONE"), "--agent", "first")
    mine = context.file("mine.md", LINES.replace(b"five", b"FIVE"))
    told = context("put", "notes", mine, "--base", "1.0.0").stdout.decode()
    assert "merged: another writer came between" in told
    assert context("get", "notes").stdout == b"ONE\ntwo\nthree\nfour\nFIVE\n"
    assert context.json("show", "notes")["version"] == "1.0.2"


def test_put_answers_with_one_shape_whatever_came_of_it(context):
    """Every outcome is a JSON object of the same keys."""
    accepted = put(context, LINES)
    second = put(context, LINES.replace(b"one", b"ONE"))
    merged = put(context, LINES.replace(b"five", b"FIVE"), "--base", "1.0.0")
    assert [each["action"] for each in (accepted, second, merged)] == [
        "accepted", "accepted", "merged",
    ]  # fmt: skip
    assert {frozenset(each) for each in (accepted, second, merged)} == {frozenset(COMMIT_KEYS)}
    assert (merged["session"], merged["conflict_id"], merged["conflicts"]) == ("notes", None, [])


def test_put_that_needs_a_merge_is_exit_code_3_and_says_what_helps(context):
    """The head stays; id, number of places and both commands are told, or all of it as JSON."""
    put(context, LINES)
    put(context, LINES.replace(b"one", b"ONE"))
    theirs = LINES.replace(b"one", b"uno")
    told = context("put", "notes", "-", "--base", "1.0.0", stdin=theirs, code=3).stdout.decode()
    (pending,) = context.json("conflicts", "notes")["pending"]
    assert "merge required: 1 place" in told
    assert f"baton context conflicts notes {pending['conflict_id']}\n" in told
    assert f"baton context resolve notes {pending['conflict_id']} --take" in told
    assert context("get", "notes").stdout.startswith(b"ONE")
    other = put(context, LINES.replace(b"one", b"eins"), "--base", "1.0.0", code=3)
    assert set(other) == COMMIT_KEYS
    assert (other["action"], other["version"]) == ("merge_required", "1.0.1")
    (place,) = other["conflicts"]
    assert (place["kind"], place["ours"], place["theirs"]) == ("text", "ONE\n", "eins\n")


def test_put_by_last_write_wins_says_what_it_replaced(context):
    """It is accepted with divergence, and the loser stays in the history."""
    put(context, b"one")
    put(context, b"two")
    options = ("--base", "1.0.0", "--policy", "last-write-wins")
    won = put(context, b"three", *options)
    assert (won["action"], won["version"]) == ("accepted_with_divergence", "1.0.2")
    assert won["replaced"] == "1.0.1"
    told = context("put", "notes", "-", *options, stdin=b"four").stdout.decode()
    assert "it replaces 1.0.2" in told
    assert context("get", "notes", "--version", "1.0.1").stdout == b"two"


def test_put_that_is_rejected_is_exit_code_4_and_writes_nothing(context):
    """The message names the head; standard output stays empty."""
    put(context, b"one")
    put(context, b"two")
    options = ("put", "notes", "-", "--base", "1.0.0", "--policy", "reject")
    assert "the head is 1.0.1, not 1.0.0" in context.error(*options, stdin=b"three", code=4)
    said = json.loads(context.error(*options, "--json", stdin=b"three", code=4))
    assert said["error"]["type"] == "WriteRejectedError"
    assert context.json("show", "notes")["version_count"] == 2


def test_put_numbers_versions_as_asked(context):
    """--bump raises a part, --version names it; below the head is wrong usage."""
    assert put(context, b"1", "--version", "2.0.0")["version"] == "2.0.0"
    assert put(context, b"2", "--bump", "minor")["version"] == "2.1.0"
    assert put(context, b"3", "--bump", "major")["version"] == "3.0.0"
    assert "above the head" in context.error(
        "put", "notes", "-", "--version", "2.0.1", stdin=b"4", code=2
    )


def test_put_keeps_metadata(context):
    """It is shown, stays without --meta, and is replaced with it."""
    put(context, b"1", "--meta", "ticket=B-7", "--meta", "note=a=b", "--meta", "n:=[1, null]")
    put(context, b"2")
    assert context.json("show", "notes")["metadata"] == {
        "ticket": "B-7",
        "note": "a=b",
        "n": [1, None],
    }
    assert b"ticket=B-7" in context("show", "notes").stdout
    put(context, b"3", "--meta", "ticket=")
    assert context.json("show", "notes")["metadata"] == {"ticket": ""}


def test_put_of_json_documents_merges_them_as_such(context):
    """Changes of different members of one line combine; what is no JSON is wrong usage."""
    put(context, b'{"a": 1, "b": 1}', "--json-document")
    put(context, b'{"a": 2, "b": 1}')
    assert put(context, b'{"a": 1, "b": 2}', "--base", "1.0.0")["action"] == "merged"
    assert json.loads(context("get", "notes").stdout) == {"a": 2, "b": 2}
    assert context.json("show", "notes")["content_type"] == "application/json"
    context.error("put", "notes", "-", stdin=b"{", code=2)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--meta", "ticket"],
        ["--meta", "=B-7"],
        ["--meta", "a:=B-7"],
        ["--meta", "a=1", "--meta", "a=2"],
        ["--policy", "last_write_wins"],
        ["--bump", "huge"],
        ["--base", ""],
        ["--base", "1.0"],
        ["--version", "1.0.0-rc1"],
    ],
    ids=" ".join,
)
def test_put_refuses_wrong_options(context, wrong):
    """They are exit code 2, and nothing is written."""
    assert context.error("put", "notes", "-", *wrong, stdin=b"text", code=2)
    assert context.json("list") == {"sessions": [], "archived": []}


def test_put_on_a_base_that_is_not_there_is_told(context):
    """A version that the session has not, or a session that is not there, is exit code 4."""
    context.error("put", "notes", "-", "--base", "1.0.0", stdin=b"one", code=4)
    put(context, b"one")
    assert "1.0.7" in context.error("put", "notes", "-", "--base", "1.0.7", stdin=b"two", code=4)


def test_a_sealed_session_needs_its_key(context):
    """With BATON_KEY_FILE it is written and read; without, both are refused and name it."""
    path = context.place / "baton.keys"
    said = context.error("put", "notes", "-", "--sealed", stdin=b"secret", code=4)
    assert "no master key is configured" in said
    assert "BATON_KEY_FILE" in said
    assert "is sealed" not in said
    FileKeyProvider.create(path)
    put(context, b"secret", "--sealed", BATON_KEY_FILE=str(path))
    assert context("get", "notes", BATON_KEY_FILE=str(path)).stdout == b"secret"
    assert context.json("show", "notes", BATON_KEY_FILE=str(path))["flags"] == ["encrypted"]
    assert "BATON_KEY_FILE" in context.error("get", "notes", code=4)
    assert "BATON_KEY_FILE" in context.error("put", "notes", "-", stdin=b"more", code=4)


def test_sealed_content_never_reaches_a_session_in_clear(context):
    """--sealed for a session that is there and is not sealed is refused, and says what helps."""
    key = {"BATON_KEY_FILE": str(FileKeyProvider.create(context.place / "baton.keys").path)}
    put(context, b"open")
    said = context.error("put", "notes", "-", "--sealed", stdin=b"secret", code=4, **key)
    assert "session notes began unsealed" in said
    assert context.json("show", "notes")["version_count"] == 1
    sealed = ("put", "other", "-", "--sealed")
    context(*sealed, stdin=b"secret", **key)
    assert context.json(*sealed, stdin=b"more", **key)["version"] == "1.0.1"


def test_append_adds_behind_the_head(context):
    """Also to a session that is not there, whatever others wrote meanwhile."""
    assert context.json("append", "notes", "-", stdin=b"one\n")["version"] == "1.0.0"
    put(context, b"ONE\n")
    context("append", "notes", context.file("more.md", b"two\n"), "--agent", "me")
    assert context("get", "notes").stdout == b"ONE\ntwo\n"
    assert context.json("history", "notes")["versions"][0]["author"] == "me"
    put(context, b"{}", "--json-document")
    context.error("append", "notes", "-", stdin=b"x", code=2)


def test_read_prints_a_range_and_never_half_a_character(context):
    """Both ends move back to where a character begins; either may be left out."""
    put(context, "aйb🙂c".encode())
    assert context("read", "notes", "--bytes", "2:").stdout == "йb🙂c".encode()
    assert context("read", "notes", "--bytes", ":6").stdout == "aйb".encode()
    assert context("read", "notes", "--bytes", ":").stdout == "aйb🙂c".encode()
    found = context.json("read", "notes", "--bytes", "3:99")
    assert found == {
        "content": "b🙂c", "session_id": "notes", "version": "1.0.0",
        "start_byte": 3, "end_byte": 9, "size_bytes": 9,
    }  # fmt: skip


def test_read_writes_a_part_to_a_file(context):
    """Then --json has no content, and standard output is empty without it."""
    put(context, LINES)
    put(context, b"other")
    old = ("read", "notes", "--bytes", "4:7", "--version", "1.0.0", "-o", "part.txt")
    assert context(*old).stdout == b""
    assert (context.place / "part.txt").read_bytes() == b"two"
    assert "content" not in context.json(*old)


def test_read_gives_chunks_with_their_overlap(context):
    """A chunk begins with the end of the one before: 500 tokens, or as many as asked."""
    text = b"".join(b"line %07d\n" % number for number in range(100_000))
    put(context, text)
    first = context.json("read", "notes", "--chunk", "0")
    second = context.json("read", "notes", "--chunk", "1")
    assert (first["count"], first["overlap_bytes"], second["overlap_bytes"]) == (2, 0, 2000)
    assert first["content"][-2000:] == second["content"][:2000]
    bare = context("read", "notes", "--chunk", "1", "--overlap-tokens", "0").stdout
    assert first["content"].encode() + bare == text
    assert "0 to 1" in context.error("read", "notes", "--chunk", "2", code=2)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--bytes", "0:1", "--chunk", "0"],
        ["--bytes", "1"],
        ["--bytes", "5:2"],
        ["--bytes", "-1:2"],
        ["--bytes", f"{'9' * 5000}:"],
        ["--bytes", "0:1", "--overlap-tokens", "3"],
        ["--chunk", "-1"],
        ["--chunk", "x"],
    ],
    ids=lambda wrong: " ".join(wrong)[:40] or "nothing",
)
def test_read_refuses_wrong_places(context, wrong):
    """Exactly one of range and chunk, and one that can be."""
    put(context, LINES)
    assert context.error("read", "notes", *wrong, code=2)


def test_collect_drops_what_nothing_needs(context):
    """A dry run tells the same and drops nothing; a tagged version stays."""
    few = {"BATON_CONTEXT_KEEP_VERSIONS": "2"}
    for number in range(6):
        put(context, b"text %d" % number)
    context("tag", "notes", "first", "--version", "1.0.0")
    planned = context.json("collect", "notes", "--dry-run", **few)
    assert (planned["dry_run"], planned["kept_versions"]) == (True, 3)
    assert sorted(planned["versions"]) == ["1.0.1", "1.0.2", "1.0.3"]
    assert context.json("show", "notes")["version_count"] == 6
    assert b"would drop" in context("collect", "notes", "--dry-run", **few).stdout
    done = context.json("collect", "notes", **few)
    assert {**done, "dry_run": True} == planned
    assert context.json("show", "notes")["version_count"] == 3
    assert b"no version" in context("collect", "notes", **few).stdout
    context.error("collect", "nobody", code=4)
    context.error("collect", "notes", code=2, BATON_CONTEXT_KEEP_VERSIONS="0")


def test_collect_keeps_what_a_live_agent_wrote_last(context, redis_client):
    """However long ago that was: an agent lives while the registry hears of it."""
    agent = AgentRegistry(redis_client).register("writer", context_capacity=1_000)
    put(context, b"mine", "--agent", agent.agent_id)
    history = SessionKeys.of("notes").history
    (written,) = redis_client.zrange(history, 0, 0)
    redis_client.zincrby(history, -2 * 86_400, written)
    few = {"BATON_CONTEXT_KEEP_VERSIONS": "1"}
    for number in range(3):
        put(context, b"text %d" % number)
    assert sorted(context.json("collect", "notes", **few)["versions"]) == ["1.0.1", "1.0.2"]
    assert context("get", "notes", "--version", "1.0.0").stdout == b"mine"
    AgentRegistry(redis_client).remove_stale(0)
    assert context.json("collect", "notes", **few)["versions"] == ["1.0.0"]


def test_a_frozen_session_takes_no_more_versions(context):
    """Every kind of write is exit code 4; reading and forking go on; freezing again is nothing."""
    put(context, b"one")
    put(context, b"two")
    assert context.json("freeze", "notes") == {"session": "notes", "immutable": True}
    context("freeze", "notes")
    for write in (["put", "notes", "-"], ["append", "notes", "-"], ["rollback", "notes", "1.0.0"]):
        assert "immutable" in context.error(*write, stdin=b"x", code=4)
    assert context("get", "notes").stdout == b"two"
    assert context.json("show", "notes")["flags"] == ["immutable"]
    assert context.json("fork", "notes", "copy")["version"] == "1.0.0"
    context.error("freeze", "nobody", code=4)
