"""Time travel: differences, rollback, forks, tags, checkpoints, parts of a version, retention."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from baton.content.wire_chunks import chunk_context
from baton.errors import (
    CheckpointNotFoundError,
    ContextCorruptError,
    ContextNotFoundError,
    InvalidInputError,
    SessionExistsError,
    TagExistsError,
    TagNotFoundError,
    VersionNotFoundError,
)
from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys
from waiting import until

MIB = 1 << 20
TEXT = "naïve café ☕ " * 3 + "CHECKPOINT rest"


@pytest.fixture
def store(redis_client):
    store = ContextStore(redis_client)
    yield store
    store.close()


def some_text(size_characters: int, seed: int = 1) -> str:
    generator = random.Random(seed)
    words = ("agent", "контекст", "版本", "lease", "naïve", "🧭", "merge")
    parts = [f"{generator.choice(words)}{generator.randrange(1000)}" for _ in range(20_000)]
    line = " ".join(parts) + "\n"
    return (line * (size_characters // len(line) + 1))[:size_characters]


def write_versions(store: ContextStore, count: int, session_id: str = "s", size: int = 20_000):
    """Versions 1.0.0 to 1.0.{count-1}, each with another line in the middle."""
    generator = random.Random(7)
    lines = [f"{number} {generator.random()}\n" for number in range(size // 20)]
    texts = []
    for number in range(count):
        lines[(number * 37) % len(lines)] = f"version {number} {generator.random()}\n"
        texts.append("".join(lines))
        store.put(session_id, texts[-1], agent_id="a")
    return texts


def chunk_count(client, session_id: str = "s") -> int:
    return len(client.keys(f"context:claude_max:{{{session_id}}}:chunks:*"))


# --- differences, rollback, fork ----------------------------------------------------------------


def test_diff_is_unified_text_and_hunks(store):
    store.put("s", "one\ntwo\nthree\n", agent_id="a")
    store.put("s", "one\n2\nthree\n", agent_id="a")
    difference = store.diff("s", "1.0.0", "1.0.1")
    assert difference.unified() == (
        "--- s@1.0.0\n+++ s@1.0.1\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
    )
    (hunk,) = difference.text.hunks
    assert (hunk.removed, hunk.added, difference.patch) == ("two\n", "2\n", None)
    assert store.diff("s", "1.0.1", "1.0.1").unified() == ""


def test_diff_of_documents_is_a_json_patch_too(store):
    store.put("s", '{"a": 1, "b": [1]}', agent_id="a", content_type="application/json")
    store.put("s", '{"a": 2, "b": [1, 2]}', agent_id="a")
    patch = store.diff("s", "1.0.0", "1.0.1").patch
    assert {"op": "replace", "path": "/a", "value": 2} in patch


def test_rollback_is_a_new_version_equal_to_the_old_one(store):
    texts = write_versions(store, 3)
    commit = store.rollback("s", "1.0.0", agent_id="b")
    assert (commit.action, commit.version) == ("accepted", "1.0.3")
    assert store.get("s").content == texts[0]
    newest = store.history("s")[0]
    assert (newest.operation, newest.source, newest.parent) == ("rollback", "s@1.0.0", "1.0.2")
    assert store.get("s", "1.0.2").content == texts[2]
    with pytest.raises(VersionNotFoundError):
        store.rollback("s", "1.0.9", agent_id="b")


def test_rollback_sends_no_content(store, redis_client):
    text = some_text(400_000)
    store.put("s", text, agent_id="a")
    store.put("s", "short", agent_id="a")
    before = redis_client.info("stats")["total_net_input_bytes"]
    store.rollback("s", "1.0.0", agent_id="a")
    assert redis_client.info("stats")["total_net_input_bytes"] - before < 32_000
    assert store.get("s").content == text


def test_rollback_to_the_heads_own_content_is_a_version_all_the_same(store):
    store.put("s", "one", agent_id="a")
    assert store.rollback("s", "1.0.0", agent_id="a").version == "1.0.1"


def test_fork_begins_a_session_of_its_own(store):
    write_versions(store, 3)
    commit = store.fork("s", "other", "1.0.1", agent_id="b")
    assert commit.version == "1.0.0"
    assert store.get("other").content == store.get("s", "1.0.1").content
    assert store.history("other")[0].source == "s@1.0.1"
    store.put("other", "changed", agent_id="b")
    assert store.get("s").content != "changed"
    store.delete("s", agent_id="a")
    assert store.get("other", "1.0.0").size_bytes > 0


def test_fork_never_writes_into_a_session_that_is_there(store):
    store.put("s", "one", agent_id="a")
    store.put("other", "two", agent_id="a")
    with pytest.raises(SessionExistsError, match="other"):
        store.fork("s", "other", agent_id="b")
    assert store.get("other").content == "two"
    with pytest.raises(ContextNotFoundError):
        store.fork("ghost", "new", agent_id="b")


# --- tags and checkpoints -----------------------------------------------------------------------


def test_tag_names_a_version_until_it_is_moved_or_removed(store):
    write_versions(store, 3)
    assert store.tag("s", "release", "1.0.1", agent_id="a") == "1.0.1"
    assert store.tag("s", "latest", agent_id="a") == "1.0.2"
    store.tag("s", "release", "1.0.1", agent_id="a")
    with pytest.raises(TagExistsError, match=r"1\.0\.1"):
        store.tag("s", "release", "1.0.2", agent_id="a")
    store.tag("s", "release", "1.0.2", agent_id="a", move=True)
    assert store.tags("s") == {"latest": "1.0.2", "release": "1.0.2"}
    store.untag("s", "release", agent_id="a")
    with pytest.raises(TagNotFoundError, match="release"):
        store.untag("s", "release", agent_id="a")
    with pytest.raises(VersionNotFoundError):
        store.tag("s", "none", "9.9.9", agent_id="a")
    with pytest.raises(ContextNotFoundError):
        store.tag("ghost", "none", agent_id="a")


def test_resume_gives_what_stands_behind_the_byte_of_the_checkpoint(store):
    store.put("s", TEXT, agent_id="a")
    position = TEXT.encode().index(b"CHECKPOINT")
    made = store.checkpoint("s", "after the cafés", agent_id="a", byte_position=position)
    store.put("s", "all else", agent_id="a")
    resumed = store.resume("s", made.checkpoint_id)
    assert (resumed.content, resumed.version) == ("CHECKPOINT rest", "1.0.0")
    assert (resumed.start_byte, resumed.end_byte) == (position, len(TEXT.encode()))


def test_checkpoint_is_never_within_a_character(store):
    store.put("s", TEXT, agent_id="a")
    inside = TEXT.encode().index("☕".encode()) + 1
    with pytest.raises(InvalidInputError, match=f"such as {inside - 1}"):
        store.checkpoint("s", "inside", agent_id="a", byte_position=inside)
    with pytest.raises(InvalidInputError, match="byte_position"):
        store.checkpoint("s", "past the end", agent_id="a", byte_position=10_000)
    for wrong in (-1, None):
        if wrong is not None:
            with pytest.raises(InvalidInputError):
                store.checkpoint("s", "negative", agent_id="a", token_position=wrong)
    assert store.checkpoints("s") == []


@pytest.mark.parametrize("token_position", range(15))
def test_checkpoint_at_a_token_moves_back_to_a_character(store, token_position):
    store.put("s", TEXT, agent_id="a")
    made = store.checkpoint("s", "x", agent_id="a", token_position=token_position)
    data = TEXT.encode()
    assert made.byte_position <= token_position * 4 < made.byte_position + 4
    assert store.resume("s", made.checkpoint_id).content == data[made.byte_position :].decode()


def test_checkpoints_are_listed_in_order_and_made_once_under_a_name(store, redis_client):
    store.put("s", TEXT, agent_id="a")
    for _ in range(2):
        store.checkpoint("s", "first", agent_id="a", byte_position=0, checkpoint_id="cp_001")
    store.checkpoint("s", "the end", agent_id="b")
    first, second = store.checkpoints("s")
    assert (first.checkpoint_id, first.label, first.version) == ("cp_001", "first", "1.0.0")
    assert (second.label, second.byte_position) == ("the end", len(TEXT.encode()))
    assert second.token_position == len(TEXT.encode()) // 4
    assert second.created_at.tzinfo is not None
    stored = json.loads(redis_client.lindex(SessionKeys.of("s").checkpoints, 0))
    assert stored["label"] == "first"
    with pytest.raises(CheckpointNotFoundError, match="cp_404"):
        store.resume("s", "cp_404")
    for label in ("", "two\nlines", "x" * 201, None):
        with pytest.raises(InvalidInputError, match="label"):
            store.checkpoint("s", label, agent_id="a")


# --- parts --------------------------------------------------------------------------------------


def test_ranges_that_follow_each_other_lose_and_repeat_nothing(store):
    text = some_text(150_000)
    store.put("s", text, agent_id="a")
    generator = random.Random(3)
    bounds = sorted(generator.randrange(len(text.encode())) for _ in range(40))
    bounds = [0, *bounds, len(text.encode()) + 5]
    parts = [store.read_range("s", a, b) for a, b in itertools.pairwise(bounds)]
    assert "".join(part.content for part in parts) == text
    assert all(
        part.content.encode() == text.encode()[part.start_byte : part.end_byte] for part in parts
    )


def test_range_fetches_only_the_chunks_it_touches(store, redis_client):
    text = some_text(3_000_000)
    store.put("s", text, agent_id="a")
    reader = ContextStore(redis_client)
    before = redis_client.info("stats")["total_net_output_bytes"]
    part = reader.read_range("s", 1_000_000, 1_000_100)
    received = redis_client.info("stats")["total_net_output_bytes"] - before
    assert part.content == text.encode()[part.start_byte : part.end_byte].decode()
    assert received < 300_000


def test_range_of_a_damaged_chunk_is_never_served(store, redis_client):
    store.put("s", some_text(300_000), agent_id="a")
    reader = ContextStore(redis_client)
    for key in redis_client.keys("context:claude_max:{s}:chunks:*"):
        stored = bytearray(redis_client.get(key))
        stored[len(stored) // 2] ^= 1
        redis_client.set(key, bytes(stored), keepttl=True)
    with pytest.raises(ContextCorruptError, match=r"version 1\.0\.0"):
        reader.read_range("s", 10, 20)


@pytest.mark.parametrize("bounds", [(-1, None), (5, 4), (0, -1)])
def test_range_with_wrong_bounds_is_refused(store, bounds):
    store.put("s", "text", agent_id="a")
    with pytest.raises(InvalidInputError, match="_byte"):
        store.read_range("s", *bounds)


def test_empty_context_has_one_empty_chunk_and_range(store):
    store.put("s", "", agent_id="a")
    assert store.read_range("s").content == ""
    chunk = store.read_chunk("s", 0)
    assert (chunk.content, chunk.count) == ("", 1)


@pytest.mark.parametrize("size", [10, MIB - 1, MIB, MIB + 1, 3 * MIB])
def test_chunks_are_those_of_the_protocol_with_their_overlap(store, size):
    text = ("é" * 7 + "0123456789 \n") * (size // 26) + "x" * (size % 26)
    store.put("s", text, agent_id="a")
    expected = chunk_context(text)
    chunks = [store.read_chunk("s", index) for index in range(len(expected))]
    assert [chunk.count for chunk in chunks] == [len(expected)] * len(expected)
    for chunk, wire in zip(chunks, expected, strict=True):
        assert chunk.start_byte == wire["offset_bytes"]
        assert len(chunk.content.encode()) == wire["size_bytes"] <= MIB
    rebuilt = "".join(c.content.encode()[c.overlap_bytes :].decode() for c in chunks)
    assert rebuilt == text
    assert all(1_990 < chunk.overlap_bytes <= 2_000 for chunk in chunks[1:])
    with pytest.raises(InvalidInputError, match=f"0 to {len(expected) - 1}"):
        store.read_chunk("s", len(expected))


@pytest.mark.parametrize("overlap_tokens", [-1, 200_000, 300_000])
def test_overlap_that_would_never_end_is_refused(store, overlap_tokens):
    store.put("s", "text", agent_id="a")
    with pytest.raises(InvalidInputError, match="overlap_tokens"):
        store.read_chunk("s", 0, overlap_tokens=overlap_tokens)


# --- retention ----------------------------------------------------------------------------------


def test_collect_keeps_the_newest_versions_and_every_kept_one_reads(redis_client):
    store = ContextStore(redis_client, keep_versions=5)
    texts = write_versions(store, 12)
    before = chunk_count(redis_client)
    found = store.collect("s", agent_id="a")
    assert found.versions == tuple(f"1.0.{n}" for n in range(7))
    assert chunk_count(redis_client) == before - found.chunk_count < before
    assert [r.version for r in store.history("s")] == [f"1.0.{n}" for n in range(11, 6, -1)]
    reader = ContextStore(redis_client)
    assert [reader.get("s", f"1.0.{n}").content for n in range(7, 12)] == texts[7:]
    with pytest.raises(VersionNotFoundError):
        reader.get("s", "1.0.0")


def test_dry_run_tells_the_same_and_drops_nothing(redis_client):
    store = ContextStore(redis_client, keep_versions=2)
    write_versions(store, 6)
    planned = store.collect("s", agent_id="a", dry_run=True)
    assert len(store.history("s")) == 6
    done = store.collect("s", agent_id="a")
    assert (planned.versions, planned.chunk_count, planned.stored_bytes) == (
        done.versions, done.chunk_count, done.stored_bytes,
    )  # fmt: skip
    assert planned.dry_run
    assert store.collect("s", agent_id="a").versions == ()


def test_what_is_named_is_kept(redis_client):
    """Tags, checkpoints, pins, pending writes and their bases hold versions."""
    store = ContextStore(redis_client, keep_versions=1)
    texts = write_versions(store, 8)
    store.tag("s", "release", "1.0.0", agent_id="a")
    store.checkpoint("s", "here", agent_id="a", version="1.0.1", checkpoint_id="cp")
    store.pin("s", "handoff-1", "1.0.2", agent_id="a", seconds=60)
    store.put("s", texts[3].replace("version 3", "mine"), agent_id="b", base_version="1.0.3")
    pending = store.put("s", "all mine", agent_id="b", base_version="1.0.4")
    assert pending.action == "merge_required"
    head = store.resolve_version("s")
    dropped = store.collect("s", agent_id="a").versions
    left = {record.version for record in store.history("s")}
    assert {"1.0.0", "1.0.1", "1.0.2", "1.0.4", pending.version, head} <= left
    assert set(dropped).isdisjoint(left)
    assert "1.0.5" in dropped
    assert ContextStore(redis_client).pending_content("s", pending.conflict_id) == "all mine"
    store.untag("s", "release", agent_id="a")
    store.unpin("s", "handoff-1", agent_id="a")
    store.unpin("s", "handoff-1", agent_id="a")
    assert set(store.collect("s", agent_id="a").versions) == {"1.0.0", "1.0.2"}


def test_pin_lets_go_at_its_end(redis_client):
    store = ContextStore(redis_client, keep_versions=1)
    write_versions(store, 3)
    store.pin("s", "brief", "1.0.0", agent_id="a", seconds=0.2)
    assert store.collect("s", agent_id="a", dry_run=True).versions == ("1.0.1",)
    until(lambda: "1.0.0" in store.collect("s", agent_id="a").versions)
    assert [record.version for record in store.history("s")] == ["1.0.2"]
    assert redis_client.hlen(SessionKeys.of("s").pins) == 0


def test_newest_versions_of_living_agents_are_kept(redis_client):
    living = {"alive"}
    store = ContextStore(redis_client, keep_versions=1, live_agents=lambda agents: living)
    for agent in ("alive", "dead", "last"):
        store.put("s", f"by {agent}", agent_id=agent)
    assert store.collect("s", agent_id="a").versions == ("1.0.1",)
    assert store.find_version_by("s", "alive") == "1.0.0"
    assert store.get("s", "1.0.0").content == "by alive"


def test_version_numbers_go_up_across_collection_and_rollback(redis_client):
    store = ContextStore(redis_client, keep_versions=1)
    write_versions(store, 5)
    store.collect("s", agent_id="a")
    store.tag("s", "t", agent_id="a")
    assert store.put("s", "next", agent_id="a").version == "1.0.5"
    assert store.rollback("s", "1.0.4", agent_id="a").version == "1.0.6"


def test_writing_collects_by_itself_but_not_what_is_young(redis_client, monkeypatch):
    """What agents may be writing on top of stays ten minutes, in bounds."""
    store = ContextStore(redis_client, keep_versions=2)
    write_versions(store, 30)
    assert len(store.history("s")) == 30
    monkeypatch.setattr("baton.store.retention.RETRY_SECONDS", 0.0)
    write_versions(ContextStore(redis_client, keep_versions=2), 70)
    assert len(store.history("s")) == 40


def test_writer_on_a_base_whose_chunks_went_sends_them_again(redis_client):
    store = ContextStore(redis_client, keep_versions=1)
    writer = ContextStore(redis_client)
    text = some_text(300_000)
    writer.put("s", text, agent_id="a")
    store.put("s", "short", agent_id="a")
    store.collect("s", agent_id="a")
    commit = writer.put(
        "s", text + "more", agent_id="a", base_version="1.0.0", policy="last_write_wins"
    )
    assert commit.action == "accepted_with_divergence"
    assert ContextStore(redis_client).get("s").content == text + "more"


def test_no_chunk_is_left_that_nothing_refers_to(redis_client):
    store = ContextStore(redis_client, keep_versions=3)
    write_versions(store, 20)
    store.rollback("s", "1.0.5", agent_id="a")
    store.put("s", "mine", agent_id="b", base_version="1.0.7")
    store.append("s", "tail", agent_id="a")
    store.collect("s", agent_id="a")
    reader = ContextStore(redis_client)
    used = set()
    stored = redis_client.hgetall(SessionKeys.of("s").manifests)
    pending = redis_client.hgetall(SessionKeys.of("s").pending)
    for manifest in (*stored.values(), *pending.values()):
        used |= {ref[0] for ref in json.loads(manifest.partition(b"\n")[2])["chunks"]}
    assert chunk_count(redis_client) == len(used)
    assert all(reader.get("s", r.version) for r in reader.history("s"))
