"""Faults of the design's list that no other test brings about: lost tails, bit rot, backups."""

from __future__ import annotations

import ast
import json
import random
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot

from baton.content.chunking import CHUNK_LIMIT_BYTES
from baton.errors import BatonError, ContextTooLargeError
from baton.key_providers.environment import EnvKeyProvider
from baton.scripts import Script
from baton.settings import MIB
from baton.store.audit_anchors import FileAnchor
from baton.store.audit_entries import Caller
from baton.store.contexts import ContextStore
from baton.store.data_keys import KeyRotation
from baton.store.drain import AccessDrain
from baton.store.keys import SessionKeys
from baton.swarm.registry import AgentRegistry

FLIPS = 1_000
CANARY = b"the canary sings at the seventh gate"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def durable(redis_server):
    """A private server of the same kind that keeps an append-only file, each write synced."""
    folder = Path(tempfile.mkdtemp(prefix="baton-test-"))
    server = type(redis_server)(redis_server.binary, folder, appendonly=True)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("appendfsync", "always")
        client.config_set("auto-aof-rewrite-percentage", 0)
    yield server
    server.stop(signal.SIGKILL)
    shutil.rmtree(folder)


@pytest.fixture
def provider():
    return EnvKeyProvider(f"k1:{bytes(range(32)).hex()}")


def log_of(server) -> Path:
    """The file that the server appends to: 7.0 has a folder of them, and 6.2 one."""
    return max(server.folder.rglob("*.aof"), key=lambda path: path.stat().st_size)


def restarted(server, damage) -> redis.Redis:
    """A client of the server, killed, its log damaged, and started again."""
    server.stop(signal.SIGKILL)
    path = log_of(server)
    path.write_bytes(damage(path.read_bytes()))
    server.start()
    return redis.Redis.from_url(server.url)


# --- what Redis loses (B4, B5) -----------------------------------------------------------------


def test_log_cut_where_a_write_was_answered_holds_all_that_was_answered(durable):
    """With `appendfsync always` a power cut keeps at least the log as it was at each answer."""
    sizes, texts = [], []
    with redis.Redis.from_url(durable.url) as client:
        store = ContextStore(client)
        for number in range(30):
            texts.append("".join(f"{number} {line}\n" for line in range(500)))
            store.put("s", texts[-1], agent_id="a")
            sizes.append(log_of(durable).stat().st_size)
        versions = [record.version for record in reversed(store.history("s"))]
        store.close()
    cut = 17
    with restarted(durable, lambda log: log[: sizes[cut]]) as client:
        store = ContextStore(client)
        assert store.get("s").version == versions[cut]
        for version, text in zip(versions[: cut + 1], texts, strict=False):
            assert store.get("s", version).content == text


@pytest.mark.parametrize("lost_bytes", [700, 3_001, 20_002])
def test_log_that_lost_its_tail_holds_whole_versions_and_the_anchor_tells_of_the_rest(
    durable, tmp_path, lost_bytes
):
    """Redis drops what is cut off in silence; nothing is torn, and the audit says what is gone."""
    anchor = FileAnchor(tmp_path / "audit")
    texts = {}
    with redis.Redis.from_url(durable.url) as client:
        store = ContextStore(client, audit_anchor=anchor)
        for number in range(20):
            text = "".join(f"{number} {line}\n" for line in range(300))
            texts[store.put("s", text, agent_id="a").version] = text
            store.seal_audit("s")
        store.close()
    with restarted(durable, lambda log: log[:-lost_bytes]) as client:
        store = ContextStore(client, audit_anchor=anchor)
        history = store.history("s")
        for record in history:
            assert store.get("s", record.version).content == texts[record.version]
        store.close()
        verdict = store.verify_audit("s")
        assert not verdict.ok
        assert verdict.problems


# --- bit rot (B6) ------------------------------------------------------------------------------


def test_a_thousand_bits_flipped_in_the_log_serve_no_wrong_byte(durable):
    """One in each session's part of the log; Redis loads it, and a read is right or refused."""
    texts = {f"s{n}": "".join(f"{n} {line}\n" for line in range(40)) for n in range(FLIPS)}
    with redis.Redis.from_url(durable.url) as client:
        # Compressed forms would find most flips by themselves.
        store = ContextStore(client, compression="none")
        client.config_set("appendfsync", "no")
        for name, text in texts.items():
            store.put(name, text, agent_id="a")
        store.close()
    generator = random.Random(6)
    with restarted(durable, lambda log: with_flips(log, generator)) as client:
        store = ContextStore(client)
        refused = sum(not serves(store, name, text) for name, text in texts.items())
        store.close()
    assert FLIPS // 10 < refused <= FLIPS


def with_flips(log: bytes, generator: random.Random) -> bytes:
    """The log with one bit flipped in a value of each session: a chunk, a manifest, a field."""
    damaged = bytearray(log)
    places: dict[bytes, list[int]] = {}
    for start, end, name in values_of(log):
        places.setdefault(name, []).append(generator.randrange(start, end))
    assert len(places) == FLIPS
    for found in places.values():
        damaged[generator.choice(found)] ^= 1 << generator.randrange(8)
    return bytes(damaged)


def values_of(log: bytes):
    """Where the arguments behind the key stand in each command of a log, and whose key it is."""
    at = 0
    while at < len(log):
        count_end = log.index(b"\r\n", at)
        count, at = int(log[at + 1 : count_end]), count_end + 2
        words = []
        for _ in range(count):
            size_end = log.index(b"\r\n", at)
            start = size_end + 2
            end = start + int(log[at + 1 : size_end])
            words.append((start, end))
            at = end + 2
        command = log[slice(*words[0])].upper()
        if command in (b"HSET", b"HMSET", b"SET", b"ZADD", b"RPUSH"):
            key = log[slice(*words[1])]
            _, _, rest = key.partition(b"{")
            for start, end in words[2:]:
                if end > start:
                    yield start, end, rest.partition(b"}")[0]


def serves(store, name, text) -> bool:
    """Whether the session is served, which it must be as it was written."""
    try:
        found = store.get(name)
    except BatonError:
        return False
    assert found.content == text
    assert found.session_id == name
    return True


# --- backups, and what compression tells (J6, J14) ---------------------------------------------


def test_log_of_a_sealed_session_holds_nothing_of_it(durable, provider):
    """What Redis writes to its disk, and so every backup of that, is sealed already."""
    text = "".join(f"{number} {CANARY.decode()}\n" for number in range(2_000))
    with redis.Redis.from_url(durable.url) as client:
        store = ContextStore(client, key_provider=provider, compression="none")
        store.put("s", text, agent_id="a", sealed=True, metadata={"note": CANARY.decode()})
        store.append("s", CANARY.decode(), agent_id="a")
        store.put("open", CANARY.decode(), agent_id="a")
        store.close()
        client.save()
    files = [path.read_bytes() for path in durable.folder.rglob("*") if path.is_file()]
    assert len(files) >= 2
    log = log_of(durable).read_bytes()
    assert log.count(CANARY) == 1  # of the open session: the search finds what is there
    assert bytes(range(32)) not in b"".join(files)


def test_a_chunk_compresses_no_text_of_another_session(redis_client, provider):
    """Sizes of one session are the same whatever a stranger writes to his own."""
    store = ContextStore(redis_client, key_provider=provider)
    secret = "".join(f"{number} the pass phrase is heron {number}\n" for number in range(500))
    store.put("s", secret, agent_id="a", sealed=True)
    before = store.show("s").stored_bytes
    guesses = (secret, "the pass phrase is heron", "no such words")
    for number, guess in enumerate(guesses):
        store.put(f"t{number}", guess, agent_id="stranger", sealed=True)
    assert store.show("s").stored_bytes == before
    store.append("s", "more\n", agent_id="a")
    for number, guess in enumerate(guesses):
        assert store.get(f"t{number}").content == guess
        assert redis_client.exists(SessionKeys.of(f"t{number}").chunk(0))
    store.close()


# --- large values (B13) ------------------------------------------------------------------------


def test_no_value_is_larger_than_a_chunk_and_what_is_too_large_is_never_sent(redis_client):
    store = ContextStore(redis_client, compression="none", max_context_bytes=24 * MIB)
    generator = random.Random(3)
    text = "".join(f"{generator.random()}\n" for _ in range(20 * MIB // 20))
    store.put("s", text, agent_id="a")
    chunks = redis_client.keys(f"{SessionKeys.of('s').base}:chunks:*")
    assert max(map(redis_client.strlen, chunks)) <= CHUNK_LIMIT_BYTES
    before = redis_client.info("stats")["total_net_input_bytes"]
    with pytest.raises(ContextTooLargeError):
        store.put("s", text * 2, agent_id="a")
    assert redis_client.info("stats")["total_net_input_bytes"] - before < 10_000
    store.close()


# --- flaws of the seeds that nothing else names ------------------------------------------------


@pytest.mark.parametrize(("begun_sealed", "answer"), [(True, b"sealed"), (False, b"unsealed")])
def test_script_lets_no_plain_version_into_a_sealed_session_nor_the_reverse(
    redis_client, provider, begun_sealed, answer
):
    """Even from a client that has looked at the head and sends what it likes (S32)."""
    store = ContextStore(redis_client, key_provider=provider)
    head = store.put("s", "text", agent_id="a", sealed=begun_sealed)
    keys = SessionKeys.of("s")
    staging = f"{keys.base}:staging:op:"
    redis_client.set(f"{staging}0", b"plain", px=60_000)
    request = {
        "operation": "op", "once": False, "agent": "x", "caller": {}, "base": "", "create": False,
        "audit": "updated", "version": "1.0.1", "etag": "e" * 64, "content_hash": "sha256:0",
        "expected_etag": head.etag, "may_be_unchanged": False, "size_bytes": 5, "size_tokens": 1,
        "expected_next_chunk": int(redis_client.hget(keys.base, "next_chunk")), "chunk_count": 1,
        "content_type": "text/plain", "compression": "none", "backstop_ms": 60_000,
        "data_key": "" if begun_sealed else "another", "wrapped_key": "", "resolves": "",
        "conflict": "", "source": "", "staging": staging, "staged": [5], "referenced": [],
    }  # fmt: skip
    commit = Script("baton.store", "commit")
    manifest = f"{'e' * 64} sha256:0\n{{}}"
    assert commit(redis_client, [keys.base], [json.dumps(request), manifest])[0] == answer
    assert redis_client.hkeys(keys.manifests) == [b"1.0.0"]
    assert not redis_client.exists(f"{staging}0")
    denied = next(store.show_audit("s", 1))
    assert (denied.operation, denied.agent) == ("denied", "x")
    store.close()


def test_sweeps_delete_no_session_whatever_its_name(redis_client, provider):
    """A clean-up of a seed took every session whose id was a UUID for rubbish."""
    names = ["7f2c1a52-5c0f-4b7e-9f5e-0d3a0a4b8a11", "7f2c1a525c0f4b7e9f5e0d3a0a4b8a11", "audit"]
    store = ContextStore(redis_client, key_provider=provider)
    for name in names:
        store.put(name, f"text of {name}", agent_id="a", sealed=name == "audit")
        store.get(name, agent_id="a")
    store.flush_notes()
    AccessDrain(redis_client, store).drain_all()
    store.audit.seal_all()
    AgentRegistry(redis_client).remove_stale(1)
    KeyRotation(redis_client, provider, Caller("host", "client")).rewrap_all("operator")
    assert sorted(store.list()) == sorted(names)
    assert [store.get(name).content for name in names] == [f"text of {name}" for name in names]
    store.close()


def test_what_tells_that_a_session_is_alive_changes_nothing_that_is_hashed(redis_client):
    """A heartbeat of a seed broke the hash of the state that it was written into."""
    store = ContextStore(redis_client)
    before = store.put("s", "text\n", agent_id="a").etag
    stored = redis_client.hgetall(SessionKeys.of("s").manifests)
    store.get("s", agent_id="b")
    store.flush_notes()
    AccessDrain(redis_client, store).drain("s")
    store.refresh_expiry("s")
    assert store.show("s").last_accessed_by == "b"
    assert redis_client.hgetall(SessionKeys.of("s").manifests) == stored
    assert ContextStore(redis_client).get("s").etag == before
    store.close()


def test_keys_of_a_session_share_one_slot(redis_client, provider):
    """Those of a chunk, a conflict, a mark and the audit as well: a script needs them all (S37)."""
    store = ContextStore(redis_client, key_provider=provider)
    store.put("s", "one\ntwo\n", agent_id="a", sealed=True)
    store.put("s", "ONE\ntwo\n", agent_id="a", base_version="1.0.0", operation_id="op")
    store.put("s", "1\ntwo\n", agent_id="b", base_version="1.0.0")
    store.tag("s", "t", agent_id="a")
    store.checkpoint("s", "here", agent_id="a")
    store.pin("s", "p", "1.0.0", agent_id="a", seconds=60)
    store.seal_audit("s")
    redis_client.set(f"{SessionKeys.of('s').staging_prefix('op')}0", b"x", px=60_000)
    found = redis_client.keys("*")
    assert len(found) >= 16
    assert {key_slot(key) for key in found} == {key_slot(b"s")}
    store.close()


def test_nothing_here_reads_a_pickle():
    """Nor what is one by another name: reading it would run what a stranger wrote (S45)."""
    runs_code = {"pickle", "shelve", "marshal", "dill", "cloudpickle", "joblib"}
    found = set()
    for folder in ("src", "tasks", "workers", "config"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                found |= imported(node)
    assert {"json", "redis"} <= found
    assert not found & runs_code


def imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {each.name.partition(".")[0] for each in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    return set()
