"""Sealed sessions: nothing of them is in Redis in clear, and nothing opens out of its place."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import logging
import os
import threading
import zlib

import pytest

from baton.errors import (
    BatonError,
    KeyNotFoundError,
    SealBrokenError,
    SealedError,
)
from baton.key_providers.environment import EnvKeyProvider
from baton.key_providers.file import FileKeyProvider
from baton.store.audit_entries import Caller
from baton.store.cache import ContextCache
from baton.store.contexts import ContextStore
from baton.store.data_keys import KeyRotation
from baton.store.keys import SessionKeys

CANARY = "the canary sings at the seventh gate"
TEXT = "".join(f"{number} {CANARY} {number * 7919}\n" for number in range(8_000))


@pytest.fixture
def provider(tmp_path):
    return FileKeyProvider.create(tmp_path / "master.keys")


@pytest.fixture
def store(redis_client, provider):
    store = ContextStore(redis_client, key_provider=provider)
    yield store
    store.close()


def everything(client) -> bytes:
    """All keys and values of the server, as they are and decompressed wherever they can be."""
    found = []
    for key in client.keys("*"):
        for value in (key, *values_of(client, key)):
            found.append(value)
            found.extend(opened(value))
    return b"\0".join(found)


def values_of(client, key: bytes) -> list[bytes]:
    match client.type(key):
        case b"string":
            return [client.get(key)]
        case b"hash":
            return list(itertools.chain.from_iterable(client.hgetall(key).items()))
        case b"list":
            return client.lrange(key, 0, -1)
        case b"zset":
            return client.zrange(key, 0, -1)
    return []


def opened(value: bytes) -> list[bytes]:
    texts = []
    for unpack in (gzip.decompress, zlib.decompress):
        try:
            texts.append(unpack(value))
        except (OSError, EOFError, zlib.error):
            continue
    return texts


def hashes_of(text: str) -> list[bytes]:
    data = text.encode()
    return [
        hashlib.new(name, data).hexdigest().encode() for name in ("sha256", "blake2b", "sha1")
    ] + [hashlib.blake2b(data, digest_size=32).hexdigest().encode()]


def test_sealed_context_reads_back_and_nothing_of_it_is_in_redis(store, redis_client, caplog):
    """Every life of a sealed text: written, appended, merged, conflicting, forked, resumed."""
    caplog.set_level(logging.DEBUG)
    texts = [TEXT, TEXT + "appended canary sings\n", TEXT.replace("5 the", "5 one")]
    store.put("s", texts[0], agent_id="a", sealed=True, metadata={"note": CANARY})
    store.append("s", "appended canary sings\n", agent_id="a")
    store.put("s", texts[2], agent_id="b", base_version="1.0.0")
    conflict = store.put("s", TEXT.replace("5 the", "5 other"), agent_id="b", base_version="1.0.0")
    assert conflict.action == "merge_required"
    store.fork("s", "t", agent_id="a")
    store.rollback("s", "1.0.0", agent_id="a")
    store.checkpoint("s", "half way", agent_id="a", byte_position=1000)
    store.flush_notes()
    assert store.get("s").content == TEXT
    assert store.get("s").metadata == {"note": CANARY}
    assert store.get("t").content.endswith("appended canary sings\n")
    assert "5 other" in store.pending_content("s", conflict.conflict_id)
    stored = everything(redis_client)
    for secret in (CANARY.encode(), b"canary", *hashes_of(TEXT), *hashes_of(TEXT[:100])):
        assert secret not in stored
    assert "canary" not in caplog.text
    assert store.show("s").flags == ("encrypted",)


def test_equal_texts_of_two_sealed_sessions_share_no_name_and_no_size(store, redis_client):
    for session_id in ("s", "t"):
        store.put(session_id, TEXT, agent_id="a", sealed=True)
    one, other = (redis_client.hgetall(SessionKeys.of(each).base) for each in ("s", "t"))
    assert one[b"head_etag"] != other[b"head_etag"]
    assert one[b"head_hash"] != other[b"head_hash"]
    assert one[b"data_key"] != other[b"data_key"]
    sizes = [
        sorted(redis_client.strlen(key) for key in redis_client.keys(f"*{{{each}}}:chunks:*"))
        for each in ("s", "t")
    ]
    assert sizes[0] != sizes[1]


def test_sealed_session_stays_sealed_whatever_a_write_says(store, redis_client):
    store.put("s", "first canary", agent_id="a", sealed=True)
    store.put("s", "second canary", agent_id="a", sealed=False)
    store.append("s", " third canary", agent_id="a")
    assert b"canary" not in everything(redis_client)
    assert store.get("s").content == "second canary third canary"


def test_store_without_the_key_can_neither_read_nor_write_and_is_noted(store, redis_client):
    """Not even what this very process has in its cache."""
    cache = ContextCache(1 << 24)
    holder = ContextStore(redis_client, cache=cache, key_provider=store_provider(store))
    holder.put("s", TEXT, agent_id="a", sealed=True)
    holder.get("s")
    stranger = ContextStore(redis_client, cache=cache)
    for attempt in (
        lambda: stranger.get("s"),
        lambda: stranger.put("s", "plain", agent_id="x"),
        lambda: stranger.put("s", "plain", agent_id="x", base_version="1.0.0"),
        lambda: stranger.append("s", "plain", agent_id="x"),
        lambda: stranger.history("s"),
        lambda: stranger.show("s"),
        lambda: stranger.read_range("s", 0, 5),
        lambda: stranger.put("new", "text", agent_id="x", sealed=True),
    ):
        with pytest.raises(SealedError, match="key provider"):
            attempt()
    assert not stranger.exists("new")
    stranger.flush_notes()
    drained = redis_client.lrange(SessionKeys.of("s").access, 0, -1)
    assert any(b"denied" in note for note in drained)


def reopened(store, client):
    """A store as another process with the same keys would have."""
    return ContextStore(client, key_provider=store_provider(store))


def store_provider(store):
    return store._parts.reader._data_keys._provider


def test_wrong_master_key_opens_nothing_and_says_which_it_needs(store, redis_client, tmp_path):
    store.put("s", "text", agent_id="a", sealed=True)
    other = FileKeyProvider.create(tmp_path / "other.keys")
    with pytest.raises(KeyNotFoundError, match=store_provider(store).current_key_id()):
        ContextStore(redis_client, key_provider=other).get("s")


def test_what_is_sealed_opens_nowhere_else(store, redis_client):
    """Chunks and manifests swapped between versions and sessions never open."""
    store.put("s", TEXT, agent_id="a", sealed=True)
    store.put("t", TEXT[::-1], agent_id="a", sealed=True)
    store.put("s", TEXT.replace("7", "8"), agent_id="a")
    keys = SessionKeys.of("s")
    chunks = sorted(redis_client.keys("context:claude_max:{s}:chunks:*"))
    elsewhere = SessionKeys.of("t").chunk(0).encode()
    for place, other in itertools.permutations((*chunks[:2], elsewhere), 2):
        kept = redis_client.get(place)
        redis_client.set(place, redis_client.get(other), keepttl=True)
        session_id = "t" if place == elsewhere else "s"
        with pytest.raises(SealBrokenError, match=f"session {session_id}"):
            reopened(store, redis_client).get(session_id, "1.0.0")
        redis_client.set(place, kept, keepttl=True)
    stored = redis_client.hget(keys.manifests, "1.0.0")
    redis_client.hset(keys.manifests, "1.0.1", stored)
    redis_client.hset(keys.base, "head_etag", stored[:64])
    with pytest.raises(SealBrokenError):
        reopened(store, redis_client).get("s")


@pytest.mark.parametrize("part", ["chunk", "manifest", "key"])
def test_any_flipped_byte_of_what_is_sealed_is_found(store, redis_client, part):
    store.put("s", "some words " * 50, agent_id="a", sealed=True)
    keys = SessionKeys.of("s")
    stored = {
        "chunk": redis_client.get(keys.chunk(0)),
        "manifest": redis_client.hget(keys.manifests, "1.0.0"),
        "key": redis_client.get(keys.data_key),
    }[part]
    for position in range(0, len(stored), max(1, len(stored) // 40)):
        changed = bytearray(stored)
        changed[position] ^= 4
        if part == "manifest":
            redis_client.hset(keys.manifests, "1.0.0", bytes(changed))
        else:
            key = keys.chunk(0) if part == "chunk" else keys.data_key
            redis_client.set(key, bytes(changed), keepttl=True)
        with pytest.raises(BatonError):
            reopened(store, redis_client).get("s")


def test_merge_from_a_sealed_session_into_a_plain_one_is_refused(store):
    store.put("s", "one\n", agent_id="a", sealed=True)
    store.put("plain", "one\n", agent_id="a")
    with pytest.raises(SealedError, match="plain"):
        store.merge("plain", "s", agent_id="a", base_version="1.0.0")
    store.fork("s", "t", agent_id="a")
    store.append("t", "two\n", agent_id="a")
    assert store.merge("s", "t", agent_id="a").version == "1.0.1"
    assert store.get("s").content == "one\ntwo\n"


def test_rotation_rewraps_every_key_while_readers_go_on(redis_client, provider):
    store = ContextStore(redis_client, key_provider=provider)
    for number in range(5):
        store.put(f"s{number}", f"text {number}", agent_id="a", sealed=True)
    first = provider.current_key_id()
    failures, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                fresh = ContextStore(redis_client, key_provider=provider)
                assert fresh.get("s3").content == "text 3"
            except Exception as error:  # noqa: BLE001 - whatever it is, it fails the test
                failures.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    reports = []
    for _ in range(20):
        provider.add_key()
        rotation = KeyRotation(redis_client, provider, Caller.here())
        reports.append(rotation.rewrap_all("operator"))
    stop.set()
    reader.join()
    assert failures == []
    assert [(r.rewrapped, r.failed) for r in reports] == [(5, {})] * 20
    wrapped = [json.loads(redis_client.get(SessionKeys.of(f"s{n}").data_key)) for n in range(5)]
    assert {each["key_id"] for each in wrapped} == {provider.current_key_id()} != {first}
    again = KeyRotation(redis_client, provider, Caller.here()).rewrap_all("operator")
    assert (again.rewrapped, again.current) == (0, 5)
    assert "rewrapped" in {entry.operation for entry in store.show_audit("s0")}


def test_session_whose_master_key_is_lost_fails_alone(redis_client, tmp_path):
    old = FileKeyProvider.create(tmp_path / "old.keys")
    new = FileKeyProvider.create(tmp_path / "new.keys")
    ContextStore(redis_client, key_provider=old).put("lost", "x", agent_id="a", sealed=True)
    store = ContextStore(redis_client, key_provider=new)
    store.put("well", "y", agent_id="a", sealed=True)
    new.add_key()
    report = KeyRotation(redis_client, new, Caller.here()).rewrap_all("operator")
    assert (report.rewrapped, list(report.failed)) == (1, ["lost"])
    assert store.get("well").content == "y"


def test_deletion_destroys_the_data_key_and_a_new_session_has_another(store, redis_client):
    store.put("s", "one", agent_id="a", sealed=True)
    before = redis_client.get(SessionKeys.of("s").data_key)
    store.delete("s", agent_id="a")
    assert redis_client.get(SessionKeys.of("s").data_key) is None
    store.put("s", "two", agent_id="a", sealed=True)
    assert redis_client.get(SessionKeys.of("s").data_key) != before
    assert store.get("s").content == "two"


def test_another_process_reads_and_writes_with_the_key_in_its_environment(redis_client):
    key = os.urandom(32).hex()
    for number in range(3):
        fresh = ContextStore(redis_client, key_provider=EnvKeyProvider(key))
        fresh.append("s", f"line {number}\n", agent_id="a") if number else fresh.put(
            "s", "line 0\n", agent_id="a", sealed=True
        )
    assert fresh.get("s").content == "line 0\nline 1\nline 2\n"


def test_use_of_a_key_is_audited(store, redis_client):
    store.put("s", "text", agent_id="a", sealed=True)
    fresh = reopened(store, redis_client)
    fresh.get("s", agent_id="b")
    fresh.flush_notes()
    notes = redis_client.lrange(SessionKeys.of("s").access, 0, -1)
    assert any(b"key_used" in note for note in notes)


def test_compression_comes_before_sealing(store):
    """Sealed bytes do not compress: the other order would store everything in full."""
    store.put("s", "the same words again and again\n" * 20_000, agent_id="a", sealed=True)
    assert store.show("s").stored_bytes < 60_000
