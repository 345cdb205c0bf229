"""The context store on real servers: versions, conflicts, integrity, expiry, races."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import redis

from baton.errors import (
    ContextArchivedError,
    ContextCorruptError,
    ContextImmutableError,
    ContextNotFoundError,
    ContextTooLargeError,
    InvalidIdError,
    InvalidInputError,
    InvalidTextError,
    InvalidVersionError,
    StoreUnavailableError,
    UnsupportedFormatError,
    VersionNotFoundError,
)
from baton.store.cache import ContextCache
from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys
from baton.store.writing import _COMMIT, _DELETE
from waiting import until

WORDS = ("agent", "handoff", "контекст", "版本", "lease", "fence", "naïve", "🧭", "redis", "merge")


def words_text(size_characters: int, seed: int = 1) -> str:
    generator = random.Random(seed)
    text = ""
    parts = []
    while len(text) < size_characters:
        parts = [generator.choice(WORDS) + str(generator.randrange(1000)) for _ in range(20_000)]
        text += " ".join(parts) + "\n"
    return text[:size_characters]


@pytest.fixture
def store(redis_client):
    store = ContextStore(redis_client)
    yield store
    store.close()


def snapshot(client: redis.Redis) -> dict[bytes, bytes | None]:
    return {key: client.dump(key) for key in client.keys("*")}


def chunk_keys(client: redis.Redis, session_id: str) -> list[bytes]:
    return sorted(client.keys(f"context:claude_max:{{{session_id}}}:chunks:*"))


# --- versions ----------------------------------------------------------------------------------


def test_first_put_creates_version_1_0_0(store):
    commit = store.put("s", "hello", agent_id="a")
    assert (commit.version, commit.action) == ("1.0.0", "accepted")
    context = store.get("s")
    assert (context.content, context.version, context.author) == ("hello", "1.0.0", "a")
    assert context.etag == commit.etag
    assert context.content_hash == commit.content_hash
    assert abs(context.committed_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_put_on_the_head_bumps_and_old_versions_stay_readable(store):
    store.put("s", "one", agent_id="a")
    commits = [
        store.put("s", "two", agent_id="a", base_version="1.0.0"),
        store.put("s", "three", agent_id="a", base_version="1.0.1", bump="minor"),
        store.put("s", "four", agent_id="b", base_version="1.1.0", bump="major"),
        store.put("s", "five", agent_id="b", base_version="2.0.0", version="3.1.4"),
    ]
    assert [c.version for c in commits] == ["1.0.1", "1.1.0", "2.0.0", "3.1.4"]
    texts = [store.get("s", v).content for v in ("1.0.0", "1.0.1", "1.1.0", "2.0.0", "3.1.4")]
    assert texts == ["one", "two", "three", "four", "five"]


def test_put_from_an_old_base_is_rejected_with_the_head_and_stores_nothing(store, redis_client):
    store.put("s", "one", agent_id="a")
    head = store.put("s", "two", agent_id="a", base_version="1.0.0")
    before = snapshot(redis_client)
    commit = store.put("s", "mine", agent_id="b", base_version="1.0.0", policy="reject")
    assert (commit.action, commit.version, commit.etag) == ("rejected", "1.0.1", head.etag)
    assert commit.content_hash == head.content_hash
    assert snapshot(redis_client) == before


def test_put_of_the_heads_own_content_makes_no_version(store):
    store.put("s", "one", agent_id="a")
    same = store.put("s", "one", agent_id="b", base_version="1.0.0")
    late = store.put("s", "one", agent_id="b")
    assert {(c.action, c.version) for c in (same, late)} == {("accepted", "1.0.0")}
    assert len(store.history("s")) == 1


def test_put_of_the_heads_content_from_an_old_base_is_accepted_as_the_head(store):
    store.put("s", "one", agent_id="a")
    store.put("s", "two", agent_id="a", base_version="1.0.0")
    commit = store.put("s", "two", agent_id="b", base_version="1.0.0")
    assert (commit.action, commit.version) == ("accepted", "1.0.1")


def test_put_with_an_explicit_version_makes_one_even_of_equal_content(store):
    store.put("s", "one", agent_id="a")
    assert store.put("s", "one", agent_id="a", version="2.0.0").version == "2.0.0"
    assert [r.version for r in store.history("s")] == ["2.0.0", "1.0.0"]


def test_put_without_base_replaces_the_head_and_is_audited_as_blind(store, redis_client):
    store.put("s", "one", agent_id="a")
    assert store.put("s", "two", agent_id="b").version == "1.0.1"
    entries = [json.loads(e) for e in redis_client.lrange(SessionKeys.of("s").audit, 0, -1)]
    assert [(e["operation"], e["agent"], e["details"]["blind"]) for e in entries] == [
        ("created", "a", False),
        ("updated", "b", True),
    ]


def test_put_based_on_a_session_that_does_not_exist_says_so(store, redis_client):
    with pytest.raises(ContextNotFoundError, match="ghost"):
        store.put("ghost", "text", agent_id="a", base_version="1.0.0")
    assert not redis_client.exists(SessionKeys.of("ghost").base)


def test_put_under_a_name_answers_a_repeat_with_the_first_answer(store):
    first = store.put("s", "one", agent_id="a", operation_id="op")
    store.put("s", "two", agent_id="a")
    again = store.put("s", "something else", agent_id="a", operation_id="op")
    assert (again.version, again.etag) == (first.version, first.etag)
    assert [r.version for r in store.history("s")] == ["1.0.1", "1.0.0"]


def test_history_is_newest_first_and_bounded(store):
    for number in range(5):
        store.put("s", f"text {number}", agent_id=f"agent_{number}")
    records = store.history("s")
    assert [r.version for r in records] == ["1.0.4", "1.0.3", "1.0.2", "1.0.1", "1.0.0"]
    assert [r.parent for r in records] == ["1.0.3", "1.0.2", "1.0.1", "1.0.0", None]
    assert records[0].author == "agent_4"
    instants = [r.committed_at for r in records]
    assert instants == sorted(instants, reverse=True)
    assert len(set(instants)) == len(instants)
    assert [r.version for r in store.history("s", limit=2)] == ["1.0.4", "1.0.3"]


def test_find_version_by_is_the_newest_that_an_agent_wrote(store):
    for author in ("a", "b", "a", "b", "b"):
        store.put("s", f"{author}{random.random()}", agent_id=author)
    assert store.find_version_by("s", "a") == "1.0.2"
    assert store.find_version_by("s", "b") == "1.0.4"
    assert store.find_version_by("s", "c") is None


def test_get_of_what_does_not_exist_says_what_is_missing(store):
    with pytest.raises(ContextNotFoundError, match="nobody"):
        store.get("nobody")
    with pytest.raises(ContextNotFoundError):
        store.show("nobody")
    with pytest.raises(ContextNotFoundError):
        store.history("nobody")
    store.put("s", "one", agent_id="a")
    with pytest.raises(VersionNotFoundError, match=r"9\.9\.9.*1\.0\.0"):
        store.get("s", "9.9.9")


def test_show_tells_sizes_flags_and_expiry_without_content(store):
    text = words_text(300_000)
    store.put("s", text, agent_id="a")
    store.put("s", text + "more", agent_id="b", base_version="1.0.0")
    info = store.show("s")
    assert (info.owner, info.version, info.version_count) == ("a", "1.0.1", 2)
    assert info.size_bytes == len((text + "more").encode())
    assert 0 < info.stored_bytes < info.size_bytes
    assert info.flags == ()
    assert 127 * 86_400 < info.expires_in_seconds <= 128 * 86_400


def test_list_finds_every_session_once(store):
    for number in range(30):
        store.put(f"session-{number}", "x", agent_id="a")
    assert sorted(store.list()) == sorted(f"session-{n}" for n in range(30))


# --- bad input ---------------------------------------------------------------------------------

BAD_IDS = [
    *("", "a:b", "*", "s[12]", "a{b}", "../x", "a\nb", ".x", "-x", "ж", "x" * 129),
    *(None, 7, b"s"),
]


@pytest.mark.parametrize("bad", BAD_IDS, ids=repr)
def test_bad_session_id_is_refused_and_redis_is_unchanged(store, redis_client, bad):
    for call in (
        lambda: store.put(bad, "x", agent_id="a"),
        lambda: store.get(bad),
        lambda: store.delete(bad, agent_id="a"),
    ):
        with pytest.raises(InvalidIdError, match="session_id"):
            call()
    assert redis_client.dbsize() == 0


@pytest.mark.parametrize(
    ("arguments", "error", "field"),
    [
        ({"agent_id": "a b"}, InvalidIdError, "agent_id"),
        ({"agent_id": "a", "base_version": "1.0"}, InvalidVersionError, "base_version"),
        ({"agent_id": "a", "version": "v1.0.0"}, InvalidVersionError, "version"),
        ({"agent_id": "a", "version": "01.0.0"}, InvalidVersionError, "version"),
        ({"agent_id": "a", "version": "1.0.0\n"}, InvalidVersionError, "version"),
        ({"agent_id": "a", "bump": "huge"}, InvalidVersionError, "bump"),
        ({"agent_id": "a", "operation_id": "a:b"}, InvalidIdError, "operation_id"),
    ],
)
def test_bad_argument_is_refused_and_the_session_is_unchanged(
    store, redis_client, arguments, error, field
):
    store.put("s", "one", agent_id="a")
    before = snapshot(redis_client)
    with pytest.raises(error, match=field):
        store.put("s", "two", **arguments)
    assert snapshot(redis_client) == before


@pytest.mark.parametrize("version", ["1.0.0", "0.9.9"])
def test_explicit_version_must_be_above_the_head(store, version):
    store.put("s", "one", agent_id="a")
    with pytest.raises(InvalidVersionError, match=r"above the head 1\.0\.0"):
        store.put("s", "two", agent_id="a", version=version)


def test_lone_surrogate_is_refused_with_its_place(store, redis_client):
    with pytest.raises(InvalidTextError, match="content") as caught:
        store.put("s", "abc\ud800def", agent_id="a")
    assert "3" in str(caught.value)
    assert redis_client.dbsize() == 0


@pytest.mark.parametrize("content", [b"bytes", None, 3, ["a"]], ids=repr)
def test_content_that_is_not_text_is_refused(store, redis_client, content):
    with pytest.raises(InvalidInputError, match="content"):
        store.put("s", content, agent_id="a")
    assert redis_client.dbsize() == 0


def test_content_over_the_limit_is_refused_and_at_the_limit_accepted(redis_client):
    store = ContextStore(redis_client, max_context_bytes=10)
    with pytest.raises(ContextTooLargeError, match="10"):
        store.put("s", "ééééé1", agent_id="a")
    assert redis_client.dbsize() == 0
    store.put("s", "ééééé", agent_id="a")


def test_client_that_decodes_answers_is_refused(redis_server):
    with (
        redis.Redis.from_url(redis_server.url, decode_responses=True) as client,
        pytest.raises(InvalidInputError, match="decode_responses"),
    ):
        ContextStore(client)


def test_unreachable_redis_is_a_store_unavailable_error(tmp_path):
    store = ContextStore(redis.Redis(unix_socket_path=str(tmp_path / "nobody.sock")))
    with pytest.raises(StoreUnavailableError, match=r"nobody\.sock"):
        store.get("s")
    with pytest.raises(StoreUnavailableError):
        store.put("s", "x", agent_id="a")


# --- sessions that take no writes ---------------------------------------------------------------


def test_immutable_session_refuses_writes_and_serves_reads(store, redis_client):
    store.put("s", "one", agent_id="a")
    redis_client.hset(SessionKeys.of("s").base, "immutable", "1")
    with pytest.raises(ContextImmutableError):
        store.put("s", "two", agent_id="a")
    assert store.get("s").content == "one"


def test_archived_session_refuses_reads_and_writes_and_says_how_to_restore(store, redis_client):
    store.put("s", "one", agent_id="a")
    redis_client.hset(SessionKeys.of("s").base, "archived", "1")
    for call in (lambda: store.get("s"), lambda: store.put("s", "two", agent_id="a")):
        with pytest.raises(ContextArchivedError, match="baton archive restore s"):
            call()


# --- storage -----------------------------------------------------------------------------------


def test_large_then_small_then_large_never_mixes_versions(store):
    large, small, larger = words_text(2_000_000, 1), "small", words_text(3_000_000, 2)
    for text in (large, small, larger, "", large):
        store.put("s", text, agent_id="a")
        assert store.get("s").content == text
    assert [store.get("s", f"1.0.{n}").content for n in range(5)] == [
        large, small, larger, "", large,
    ]  # fmt: skip


def test_an_edit_in_the_middle_stores_only_what_changed(store, redis_client):
    text = words_text(4_000_000)
    store.put("s", text, agent_id="a")
    before = len(chunk_keys(redis_client, "s"))
    edited = text[:2_000_000] + "EDIT" * 250 + text[2_001_000:]
    store.put("s", edited, agent_id="a", base_version="1.0.0")
    assert store.get("s").content == edited
    assert before > 20
    assert len(chunk_keys(redis_client, "s")) - before <= 5


def test_repeated_text_is_stored_once(store, redis_client):
    store.put("s", "ok\n" * 1_000_000, agent_id="a")
    assert len(chunk_keys(redis_client, "s")) < 10
    assert store.get("s").content == "ok\n" * 1_000_000


@pytest.mark.parametrize("codec", ["gzip", "zstd", "none"])
def test_every_codec_is_readable_by_a_store_of_another(redis_client, codec):
    text = words_text(500_000)
    ContextStore(redis_client, compression=codec).put("s", text, agent_id="a")
    other = ContextStore(redis_client, compression="zstd" if codec == "gzip" else "gzip")
    assert other.get("s").content == text
    other.put("s", text + "!", agent_id="a", base_version="1.0.0")
    assert other.get("s").content == text + "!"


def test_stores_that_cut_differently_agree_on_the_content(redis_client, store):
    """A writer whose kept base is out of date is told, and commits on the newest."""
    other = ContextStore(redis_client)
    store.put("s", words_text(300_000, 1), agent_id="a")
    for number in range(2, 8):
        writer = (store, other)[number % 2]
        head = writer.get("s").version
        commit = writer.put("s", words_text(300_000, number), agent_id="a", base_version=head)
        assert commit.action == "accepted"
    assert store.get("s").content == other.get("s").content == words_text(300_000, 7)


def test_writer_of_the_heads_content_counts_as_its_author(store):
    """Who writes what another has written meanwhile reads it back, and can go on from there."""
    store.put("s", "x", agent_id="a")
    store.put("s", "y", agent_id="b")
    assert store.put("s", "y", agent_id="a").version == "1.0.1"
    assert store.find_version_by("s", "a") == "1.0.1"


def test_named_write_of_the_heads_content_is_remembered_too(store):
    """Its repeat must not bring the old content back over a newer one."""
    store.put("s", "one", agent_id="a")
    store.put("s", "one", agent_id="a", operation_id="op")
    store.put("s", "two", agent_id="b")
    again = store.put("s", "one", agent_id="a", operation_id="op")
    assert (again.version, store.get("s").content) == ("1.0.0", "two")


def test_named_write_with_an_explicit_version_can_be_repeated(store):
    first = store.put("s", "one", agent_id="a", version="2.0.0", operation_id="op")
    again = store.put("s", "one", agent_id="a", version="2.0.0", operation_id="op")
    assert again == first


def test_base_above_the_head_never_existed(store):
    store.put("s", "one", agent_id="a")
    with pytest.raises(VersionNotFoundError, match=r"no version 9\.9\.9"):
        store.put("s", "two", agent_id="a", base_version="9.9.9")


def test_writing_damaged_content_again_repairs_the_session(redis_client):
    """A new version never refers to a damaged chunk, not even one of equal text."""
    text = words_text(300_000)
    ContextStore(redis_client).put("s", text, agent_id="a")
    damaged = chunk_keys(redis_client, "s")[1]
    redis_client.setrange(damaged, 100, b"\x00\x01\x02")
    fresh = ContextStore(redis_client)
    with pytest.raises(ContextCorruptError):
        fresh.get("s")
    commit = ContextStore(redis_client).put("s", text, agent_id="a")
    assert commit.version == "1.0.1"
    assert fresh.get("s").content == text
    tail = ContextStore(redis_client).put("s", text + "tail", agent_id="a", base_version="1.0.1")
    assert fresh.get("s", tail.version).content == text + "tail"


def test_any_number_of_missing_chunks_is_sent_again_at_once(store, redis_client):
    text = words_text(4_000_000)
    store.put("s", text, agent_id="a")
    redis_client.delete(*chunk_keys(redis_client, "s")[::2])
    assert store.put("s", text + "!", agent_id="a", base_version="1.0.0").version == "1.0.1"
    assert store.get("s").content == text + "!"


def test_versions_without_their_container_are_not_written_over(store, redis_client):
    store.put("s", "one", agent_id="a")
    redis_client.delete(SessionKeys.of("s").base)
    with pytest.raises(ContextCorruptError, match="container is missing"):
        store.put("s", "two", agent_id="a")


@pytest.mark.parametrize(
    ("field", "value"),
    [("head_at", "abc"), ("head", b"\xff"), ("head", "x"), ("head_etag", b"\xfe"), ("state", "?")],
)
def test_damaged_container_is_corruption(store, redis_client, field, value):
    store.put("s", "one", agent_id="a")
    redis_client.hset(SessionKeys.of("s").base, field, value)
    fresh = ContextStore(redis_client)
    for call in (
        lambda: fresh.get("s"),
        lambda: fresh.show("s"),
        lambda: fresh.history("s"),
        lambda: fresh.put("s", "two", agent_id="a"),
    ):
        with pytest.raises(ContextCorruptError, match="session s"):
            call()


def test_repeated_and_late_calls_of_a_deletion_spare_the_session_that_came_after(
    store, redis_client
):
    """A deletion whose reply was lost, or that another finished, does not delete twice."""
    base = SessionKeys.of("s").base
    store.put("s", "old", agent_id="a")
    assert _DELETE(redis_client, [base], ["a", "deletion-1"]) == [1, 0]
    assert _DELETE(redis_client, [base], ["a", "deletion-1"]) == [1, 0]
    store.put("s", "new", agent_id="b")
    assert _DELETE(redis_client, [base], ["a", "deletion-1"]) == [1, 0]
    assert _DELETE(redis_client, [base], ["", ""]) == [1, 0]
    assert store.get("s").content == "new"
    store.delete("s", agent_id="b")
    assert not store.exists("s")


def test_sessions_deleted_and_written_at_once_keep_what_was_accepted_last(redis_client):
    """Deletions of many slices race with writers: an accepted write that nobody deletes stays."""
    for round_number in range(5):
        store = ContextStore(redis_client)
        session = f"race-{round_number}"
        store.put(session, "old", agent_id="a")
        redis_client.hset(SessionKeys.of(session).base, "next_chunk", "20000")
        barrier = threading.Barrier(4)

        def write(number, session=session, barrier=barrier):
            barrier.wait()
            return ContextStore(redis_client).put(session, f"new {number}", agent_id="w").version

        def delete(session=session, store=store, barrier=barrier):
            barrier.wait()
            store.delete(session, agent_id="a")

        with ThreadPoolExecutor(4) as pool:
            deleting = pool.submit(delete)
            writing = [pool.submit(write, number) for number in range(3)]
            deleting.result()
            assert all(each.result() for each in writing)
        late = store.put(session, "last", agent_id="a")
        assert store.get(session).version == late.version


def test_full_server_lets_a_session_be_deleted(store, redis_client):
    store.put("s", words_text(300_000), agent_id="a")
    redis_client.config_set("maxmemory", 1)
    try:
        store.delete("s", agent_id="a")
    finally:
        redis_client.config_set("maxmemory", 0)
    assert not store.exists("s")


def test_session_deleted_and_begun_anew_never_shows_old_chunks(redis_client, store):
    """Another process's memory of the old session must not be built upon."""
    other = ContextStore(redis_client)
    old, new = words_text(400_000, 1), words_text(400_000, 2)
    store.put("s", old, agent_id="a")
    other.get("s")
    store.delete("s", agent_id="a")
    store.put("s", new, agent_id="a")
    commit = other.put("s", old + "tail", agent_id="b", base_version="1.0.0")
    assert commit.action == "accepted"
    assert store.get("s").content == old + "tail"
    assert store.get("s", "1.0.0").content == new


# --- integrity ---------------------------------------------------------------------------------


def test_any_flipped_byte_of_a_chunk_is_found(store, redis_client):
    store.put("s", words_text(20_000), agent_id="a")
    for key in chunk_keys(redis_client, "s"):
        stored = redis_client.get(key)
        places = random.Random(7).sample(range(len(stored)), min(60, len(stored)))
        for place in [0, len(stored) - 1, *places]:
            damaged = bytearray(stored)
            damaged[place] ^= 1 << (place % 8)
            redis_client.set(key, bytes(damaged), keepttl=True)
            with pytest.raises(ContextCorruptError, match="session s version"):
                store.get("s")
        redis_client.set(key, stored, keepttl=True)
    assert store.get("s").content == words_text(20_000)


def test_any_flipped_byte_of_a_manifest_is_found(store, redis_client):
    store.put("s", "some text", agent_id="a")
    key = SessionKeys.of("s").manifests
    stored = redis_client.hget(key, "1.0.0")
    fresh = ContextStore(redis_client)
    for place in range(len(stored)):
        damaged = bytearray(stored)
        damaged[place] ^= 1
        redis_client.hset(key, "1.0.0", bytes(damaged))
        with pytest.raises(ContextCorruptError):
            fresh.get("s")
    redis_client.hset(key, "1.0.0", stored)
    assert fresh.get("s").content == "some text"


def test_missing_swapped_and_foreign_chunks_are_found(store, redis_client):
    store.put("s", words_text(300_000, 1), agent_id="a")
    store.put("t", words_text(300_000, 2), agent_id="a")
    first, second = (redis_client.get(k) for k in chunk_keys(redis_client, "s")[:2])
    first_key, second_key = chunk_keys(redis_client, "s")[:2]
    foreign = redis_client.get(chunk_keys(redis_client, "t")[0])

    def damage(changes):
        for key, value in changes.items():
            if value is None:
                redis_client.delete(key)
            else:
                redis_client.set(key, value, ex=1000)
        with pytest.raises(ContextCorruptError, match="session s"):
            ContextStore(redis_client).get("s")

    damage({first_key: second, second_key: first})
    damage({first_key: foreign, second_key: second})
    damage({first_key: None})
    redis_client.set(first_key, first, ex=1000)
    assert store.get("s").content == words_text(300_000, 1)


def test_manifest_of_another_session_or_version_is_found(store, redis_client):
    store.put("s", "one", agent_id="a")
    store.put("s", "two", agent_id="a")
    store.put("t", "one", agent_id="a")
    s, t = SessionKeys.of("s").manifests, SessionKeys.of("t").manifests
    redis_client.hset(s, "1.0.0", redis_client.hget(t, "1.0.0"))
    with pytest.raises(ContextCorruptError, match="belongs to session t"):
        store.get("s", "1.0.0")
    redis_client.hset(s, "1.0.0", redis_client.hget(s, "1.0.1"))
    with pytest.raises(ContextCorruptError, match=r"version 1\.0\.1"):
        store.get("s", "1.0.0")


def test_missing_head_manifest_is_corruption_for_readers_and_writers(store, redis_client):
    store.put("s", "one", agent_id="a")
    redis_client.hdel(SessionKeys.of("s").manifests, "1.0.0")
    fresh = ContextStore(redis_client)
    for call in (
        lambda: fresh.get("s"),
        lambda: fresh.put("s", "two", agent_id="a"),
        lambda: fresh.put("s", "two", agent_id="a", base_version="1.0.0"),
        lambda: fresh.history("s"),
        lambda: fresh.show("s"),
    ):
        with pytest.raises(ContextCorruptError, match="manifest is missing"):
            call()


def test_manifest_of_a_newer_format_is_refused_by_name(store, redis_client):
    import hashlib

    store.put("s", "one", agent_id="a")
    key = SessionKeys.of("s").manifests
    header, _, body = redis_client.hget(key, "1.0.0").partition(b"\n")
    body = body.replace(b'"format":2', b'"format":3')
    etag = hashlib.sha256(body).hexdigest().encode()
    redis_client.hset(key, "1.0.0", etag + header[64:] + b"\n" + body)
    with pytest.raises(UnsupportedFormatError, match="format 3"):
        ContextStore(redis_client).get("s")


def test_damaged_chunk_of_the_base_does_not_spoil_a_new_write_silently(store, redis_client):
    """A base chunk that is gone is sent again, not referred to."""
    text = words_text(300_000)
    store.put("s", text, agent_id="a")
    gone = chunk_keys(redis_client, "s")[1]
    redis_client.delete(gone)
    commit = store.put("s", text + "tail", agent_id="a", base_version="1.0.0")
    assert commit.action == "accepted"
    assert store.get("s").content == text + "tail"
    with pytest.raises(ContextCorruptError):
        store.get("s", "1.0.0")


# --- the commit script -------------------------------------------------------------------------


def test_commit_that_finds_a_staging_key_missing_has_written_nothing(redis_client):
    """The first try finds one staged chunk evicted; nothing of it shows, and the second lands."""
    after_first_try = []

    class Losing(redis.Redis):
        def pipeline(self, *args, **kwargs):
            pipeline = super().pipeline(*args, **kwargs)
            execute, execute_command = pipeline.execute, pipeline.execute_command

            def lose(*command, **options):
                if command[0] == "EVALSHA" and not after_first_try:
                    pipeline.delete(f"{json.loads(command[4])['staging']}1")
                return execute_command(*command, **options)

            def look(*arguments, **options):
                answers = execute(*arguments, **options)
                if not after_first_try:
                    after_first_try.append((answers[-1], redis_client.keys("*")))
                return answers

            pipeline.execute, pipeline.execute_command = look, lose
            return pipeline

    redis_client.script_load(_COMMIT.source)
    losing = Losing(connection_pool=redis_client.connection_pool)
    store = ContextStore(losing)
    store.put("s", words_text(300_000, 1), agent_id="a")
    answer, keys = after_first_try[0]
    assert answer == [b"missing_staging"]
    assert keys
    assert all(b":staging:" in key for key in keys)
    assert store.get("s").content == words_text(300_000, 1)
    assert [r.version for r in store.history("s")] == ["1.0.0"]
    assert len(redis_client.lrange(SessionKeys.of("s").audit, 0, -1)) == 1


def test_commit_that_finds_a_chunk_missing_has_written_nothing(redis_client):
    """A chunk of the base vanishes before the commit: all but what was staged stays as it was."""
    tries = []

    def state():
        return {
            key: redis_client.dump(key) for key in redis_client.keys("*") if b":staging:" not in key
        }

    class Watching(redis.Redis):
        def pipeline(self, *args, **kwargs):
            pipeline = super().pipeline(*args, **kwargs)
            execute = pipeline.execute

            def look(*arguments, **options):
                answers = execute(*arguments, **options)
                tries.append((answers[-1], state()))
                return answers

            pipeline.execute = look
            return pipeline

    redis_client.script_load(_COMMIT.source)
    store = ContextStore(Watching(connection_pool=redis_client.connection_pool))
    text = words_text(1_000_000, 1)
    store.put("s", text, agent_id="a")
    redis_client.delete(f"{SessionKeys.of('s').base}:chunks:1")
    before = state()
    tries.clear()
    store.put("s", text + "!", agent_id="a", base_version="1.0.0")
    answer, after = tries[0]
    assert answer == [b"missing_chunk", 1]
    assert after == before
    assert store.get("s").content == text + "!"


def test_commit_whose_reply_was_lost_is_recognised(redis_client, store):
    """redis-py repeats the whole pipeline; the second run answers as the first."""
    done = []

    class Repeating(redis.Redis):
        def pipeline(self, *args, **kwargs):
            pipeline = super().pipeline(*args, **kwargs)
            execute = pipeline.execute

            def twice(*arguments, **options):
                commands = list(pipeline.command_stack)
                execute(*arguments, **options)
                pipeline.command_stack = commands
                done.append(1)
                return execute(*arguments, **options)

            pipeline.execute = twice
            return pipeline

    repeating = ContextStore(Repeating(connection_pool=redis_client.connection_pool))
    first = repeating.put("s", "one", agent_id="a")
    second = repeating.put("s", "two", agent_id="a", base_version=first.version)
    assert len(done) == 2
    assert (second.action, second.version) == ("accepted", "1.0.1")
    assert [r.version for r in store.history("s")] == ["1.0.1", "1.0.0"]
    assert len(redis_client.lrange(SessionKeys.of("s").audit, 0, -1)) == 2
    assert not redis_client.keys("*:staging:*")


def test_scripts_forgotten_by_the_server_are_sent_again(store, redis_client):
    for number in range(10):
        redis_client.script_flush()
        store.put("s", f"text {number}", agent_id="a")
    assert store.get("s").content == "text 9"


# --- races -------------------------------------------------------------------------------------


def test_two_racing_writers_from_one_base_one_is_accepted_one_rejected(redis_client):
    stores = [ContextStore(redis_client) for _ in range(2)]
    for round_number in range(20):
        session = f"race-{round_number}"
        stores[0].put(session, "base", agent_id="a")
        barrier = threading.Barrier(2)

        def write(number, session=session, barrier=barrier):
            barrier.wait()
            return stores[number].put(
                session,
                f"by {number}",
                agent_id=f"w{number}",
                base_version="1.0.0",
                policy="reject",
            )

        with ThreadPoolExecutor(2) as pool:
            commits = list(pool.map(write, range(2)))
        assert Counter(c.action for c in commits) == {"accepted": 1, "rejected": 1}
        winner = next(n for n, c in enumerate(commits) if c.action == "accepted")
        assert stores[0].get(session).content == f"by {winner}"


def test_100_agents_append_to_one_context_and_every_line_arrives(redis_client):
    """Each takes the head and appends; what another appended meanwhile is merged."""
    store = ContextStore(redis_client, cache=ContextCache(1 << 26))
    store.put("s", "start\n", agent_id="a")

    def append(number):
        while True:
            head = store.get("s", agent_id=f"agent_{number}")
            text = f"{head.content}line {number}\n"
            commit = store.put("s", text, agent_id=f"agent_{number}", base_version=head.version)
            if commit.action in ("accepted", "merged"):
                return commit.version

    with ThreadPoolExecutor(100) as pool:
        versions = list(pool.map(append, range(100)))
    assert len(set(versions)) == 100
    lines = store.get("s").content.splitlines()
    assert sorted(lines) == sorted(["start", *(f"line {n}" for n in range(100))])
    assert len(store.history("s")) == 101
    store.close()


def test_readers_during_writes_see_whole_versions_only(redis_client):
    """What a reader gets hashes to what it says, and is a text that somebody wrote."""
    store = ContextStore(redis_client)
    texts = [words_text(200_000, seed) + f"#{seed}" for seed in range(6)]
    store.put("s", texts[0], agent_id="a")
    stop = threading.Event()
    seen: Counter[str] = Counter()

    def read():
        reader = ContextStore(redis_client)
        while not stop.is_set():
            content = reader.get("s").content
            assert content in texts
            seen[content[-2:]] += 1
        reader.close()

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for number in range(60):
            store.put("s", texts[number % 6], agent_id="a")
        stop.set()
        for reader in readers:
            reader.result()
    assert sum(seen.values()) > 0


# --- expiry, deletion, notes of reads -----------------------------------------------------------


def test_chunks_outlive_the_names_that_refer_to_them(store, redis_client):
    store.put("s", words_text(300_000), agent_id="a")
    store.put("s", words_text(300_000) + "x", agent_id="a", base_version="1.0.0")
    names = [k for k in redis_client.keys("context:*{s}*") if b":chunks:" not in k]
    names = [k for k in names if b":audit" not in k]
    last_name = max(redis_client.pttl(k) for k in names)
    assert max(redis_client.pttl(k) for k in names) - min(redis_client.pttl(k) for k in names) < 50
    assert all(redis_client.pttl(k) > last_name for k in chunk_keys(redis_client, "s"))


def test_an_untouched_session_runs_out_as_a_whole(redis_client):
    store = ContextStore(redis_client, backstop_seconds=0.3)
    store.put("s", words_text(100_000), agent_id="a")
    until(lambda: not store.exists("s"), what="the session's expiry")
    with pytest.raises(ContextNotFoundError):
        store.get("s")
    left = [k for k in redis_client.keys("context:*") if b":chunks:" not in k]
    assert [k for k in left if b":audit" not in k] == []


def test_a_store_with_a_shorter_backstop_does_not_shorten_a_sessions_chunks(redis_client):
    """A chunk never goes before the names that refer to it, whoever wrote it."""
    ContextStore(redis_client, backstop_seconds=100_000).put("s", "one", agent_id="a")
    ContextStore(redis_client, backstop_seconds=10).put("s", "two", agent_id="a")
    names = redis_client.pttl(SessionKeys.of("s").base)
    assert all(redis_client.pttl(key) >= names for key in chunk_keys(redis_client, "s"))


def test_commit_of_very_many_chunks_leaves_no_key_without_expiry(redis_client):
    """Even if the client dies right behind it: the names get theirs in the commit itself."""
    request = {
        "operation": "op", "once": False, "agent": "a", "caller": {}, "base": "",
        "audit": "updated", "version": "1.0.0", "etag": "e" * 64, "content_hash": "sha256:x",
        "create": False, "expected_etag": "", "expected_next_chunk": 0,
        "may_be_unchanged": False, "size_bytes": 4500,
        "size_tokens": 1, "chunk_count": 4500, "content_type": "text/plain",
        "compression": "none", "backstop_ms": 60_000, "data_key": "", "wrapped_key": "",
        "resolves": "", "conflict": "", "source": "",
        "staging": "context:claude_max:{s}:staging:op:", "staged": [1] * 4500, "referenced": [],
    }  # fmt: skip
    pipeline = redis_client.pipeline(transaction=False)
    for index in range(4500):
        pipeline.set(f"{request['staging']}{index}", b"x", px=60_000)
    pipeline.execute()
    answer = _COMMIT(redis_client, [SessionKeys.of("s").base], [json.dumps(request), "e" * 64])
    assert answer[0] == b"accepted"
    assert [key for key in redis_client.keys("*") if redis_client.pttl(key) == -1] == []


def test_writing_moves_the_expiry_of_every_key_of_the_session(redis_client):
    ContextStore(redis_client, backstop_seconds=5).put("s", words_text(100_000), agent_id="a")
    store = ContextStore(redis_client, backstop_seconds=1000)
    redis_client.hset(SessionKeys.of("s").base, "refreshed_at", "0")
    store.put("s", words_text(100_000) + "!", agent_id="a", base_version="1.0.0")
    keys = [k for k in redis_client.keys("context:*{s}*") if b":staging:" not in k]
    assert all(redis_client.pttl(k) > 900_000 for k in keys)


def test_refresh_of_a_session_with_many_chunks_is_sliced_and_complete(store, redis_client):
    store.put("s", "x", agent_id="a")
    base = SessionKeys.of("s").base
    for chunk_id in range(1, 5000):
        redis_client.set(f"{base}:chunks:{chunk_id}", b"y", ex=50)
    redis_client.hset(base, "next_chunk", "5000")
    store.refresh_expiry("s")
    assert all(redis_client.ttl(k) > 10_000 for k in chunk_keys(redis_client, "s"))


def test_delete_removes_all_but_the_audit(store, redis_client):
    store.put("s", words_text(300_000), agent_id="a")
    store.put("other", "stays", agent_id="a")
    store.delete("s", agent_id="b")
    assert sorted(redis_client.keys("context:*{s}*")) == [
        b"context:claude_max:{s}:audit",
        b"context:claude_max:{s}:audit_state",
        b"context:claude_max:{s}:deleted",
    ]
    last = json.loads(redis_client.lindex(SessionKeys.of("s").audit, -1))
    assert (last["operation"], last["agent"]) == ("deleted", "b")
    assert store.get("other").content == "stays"
    with pytest.raises(ContextNotFoundError):
        store.delete("s", agent_id="b")


def test_deletion_cut_short_is_finished_by_the_next_writer(store, redis_client):
    store.put("s", words_text(300_000), agent_id="a")
    base = SessionKeys.of("s").base
    redis_client.hset(
        base, mapping={"state": "deleting", "deletion": "somebodys", "next_chunk": "5000"}
    )
    assert not store.exists("s")
    with pytest.raises(ContextNotFoundError):
        store.get("s")
    commit = store.put("s", "new life", agent_id="b")
    assert (commit.version, store.get("s").content) == ("1.0.0", "new life")
    assert len(chunk_keys(redis_client, "s")) == 1


def test_a_reader_needs_read_rights_and_rpushx_only(store, redis_client, redis_server):
    """A user without any write command but RPUSHX reads, and its note arrives."""
    store.put("rights", "text", agent_id="writer")
    password = "only-in-this-test"  # noqa: S105
    redis_client.execute_command(
        "ACL", "SETUSER", "reader", "reset", "on", f">{password}", "~context:claude_max:*",
        "+hmget", "+hget", "+hexists", "+mget", "+zscore", "+rpushx",
    )  # fmt: skip
    with redis.Redis(
        unix_socket_path=str(redis_server.socket), username="reader", password=password
    ) as client:
        reader = ContextStore(client)
        assert reader.get("rights", agent_id="r").content == "text"
        reader.flush_notes()
        reader.close()
    redis_client.execute_command("ACL", "DELUSER", "reader")
    assert redis_client.llen(SessionKeys.of("rights").access) == 2


# --- the cache ---------------------------------------------------------------------------------


def test_cached_store_serves_one_string_to_all_and_fetches_once(redis_client):
    cache = ContextCache(1 << 26)
    text = words_text(1_000_000)
    stores = [ContextStore(redis_client, cache=cache) for _ in range(3)]
    stores[0].put("s", text, agent_id="a")
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda n: stores[n % 3].get("s").content, range(100)))
    assert all(content is got[0] for content in got)
    assert got[0] == text
    assert (cache.stats().misses, cache.stats().hits) == (1, 99)


def test_cache_never_serves_a_deleted_session_or_an_old_head(redis_client):
    store = ContextStore(redis_client, cache=ContextCache(1 << 26))
    other = ContextStore(redis_client)
    store.put("s", "one", agent_id="a")
    assert store.get("s").content == "one"
    other.put("s", "two", agent_id="a")
    assert store.get("s").content == "two"
    other.delete("s", agent_id="a")
    with pytest.raises(ContextNotFoundError):
        store.get("s")
