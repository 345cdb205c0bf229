"""Readers go on while a session leaves for the archive and comes back, again and again."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from archive_bench import ArchiveBench, essay
from baton import ContextStore
from baton.errors import ContextArchivedError
from baton.ids import new_operation_id
from baton.key_providers.file import FileKeyProvider
from baton.store.keys import SessionKeys
from baton.store.moves import Copy

ROUNDS = 40
DAY_MS = 86_400_000
OLD = "".join(f"line {number} of what was before\n" for number in range(9_000))
NOTE = essay(60)
TEXT = f"{OLD[:120_000]}This is new, and in the middle.\n{OLD[120_000:]}"


def whole_history(store):
    """The versions, from the first to a newest without gaps."""
    found = [each.version for each in reversed(store.history("s"))]
    return found == [f"1.0.{patch}" for patch in range(len(found))] and len(found) >= 2


def exported(store):
    envelope = json.loads(b"".join(store.export_envelope("s", "1.0.0")))
    return [each["label"] for each in envelope["context_envelope"]["checkpoints"]]


# What is read, and what it must be, whenever the session is not in the archive.
READS = {
    "get": (lambda store: store.get("s").content, TEXT),
    "get a version": (lambda store: store.get("s", "1.0.0").content, OLD),
    "read_range": (lambda store: store.read_range("s", 7, 150_000).content, TEXT[7:150_000]),
    "read_chunk": (lambda store: store.read_chunk("s", 0).content, TEXT),
    "diff": (lambda store: bool(store.diff("s", "1.0.0", "1.0.1").text), True),
    "history": (whole_history, True),
    "show": (lambda store: store.show("s").size_bytes, len(TEXT)),
    "tags": (lambda store: store.tags("s"), {"first": "1.0.0", "second": "1.0.1"}),
    "checkpoints": (lambda store: [each.label for each in store.checkpoints("s")], ["half"]),
    "resume": (lambda store: store.resume("s", "cp").content, OLD[7:]),
    "resolve_version": (lambda store: store.resolve_version("s", "1.0.0"), "1.0.0"),
    "find_version_by": (lambda store: store.find_version_by("s", "a"), "1.0.1"),
    "export_envelope": (exported, ["half"]),
    "exists": (lambda store: store.exists("s"), True),
}


def read_on(store, is_over):
    """What came of every read until it is over, by its name and its answer."""
    seen = Counter()
    while not is_over.is_set():
        for name, (read, expected) in READS.items():
            try:
                found = read(store)
                seen[name, "right" if found == expected else "wrong"] += 1
            except ContextArchivedError:
                seen[name, "archived"] += 1
            except Exception as error:  # noqa: BLE001  # any other answer is what must not be
                seen[name, repr(error)] += 1
    return seen


def move(store, rounds):
    """Archive and restore as the archive does, so many times."""
    keys = SessionKeys.of("s")
    for number in range(rounds):
        copy = Copy("shelf1", str(number))
        dump = store.moves.dump(keys, "named")
        chunks = dict(store.moves.chunks(keys, dump.chunk_sizes))
        sealer = store.moves.sealer(keys, dump)
        assert store.moves.let_go(keys, dump, copy, "archivist", 90 * DAY_MS) is not None
        store.moves.bring_back(
            dump, keys, copy, "restorer", new_operation_id(), chunks.items, sealer
        )


@pytest.mark.parametrize("sealed", [False, True], ids=["clear", "sealed"])
def test_a_reader_meets_a_session_whole_or_archived(redis_client, tmp_path, notes_wait, sealed):
    """Whatever is read meanwhile is what was stored, or the answer that the archive has it."""
    provider = FileKeyProvider.create(tmp_path / "keys")
    store = ContextStore(redis_client, key_provider=provider)
    store.put("s", OLD, agent_id="b", sealed=sealed)
    store.checkpoint("s", "half", agent_id="b", byte_position=7, checkpoint_id="cp")
    store.tag("s", "first", agent_id="b")
    store.put("s", TEXT, agent_id="a")
    store.tag("s", "second", agent_id="a")
    is_over = threading.Event()
    # No cache, and for each its own keys: what they read, Redis has.
    readers = [ContextStore(redis_client, key_provider=provider) for _ in range(3)]
    with ThreadPoolExecutor(len(readers)) as threads:
        reading = [threads.submit(read_on, reader, is_over) for reader in readers]
        try:
            move(store, ROUNDS)
        finally:
            is_over.set()
        seen = sum((each.result() for each in reading), Counter())
    for each in (store, *readers):
        each.close()
    assert {what for _, what in seen} <= {"right", "archived"}, seen
    for name in READS:
        assert seen[name, "right"] > 0, seen


@pytest.mark.parametrize("redis_server", ["system"], indirect=True)
def test_a_command_meets_a_session_whole_or_archived(context, redis_client, tmp_path, embedder):
    """`baton context …` beside an archive at work: what was stored, or what brings it back."""
    bench = ArchiveBench(redis_client, tmp_path, embedder)
    bench.store.put("s", NOTE, agent_id="a")
    is_over = threading.Event()

    def archive():
        while not is_over.is_set():
            assert bench.archive.archive("s").outcome == "archived"
            bench.archive.restore("s")

    seen = Counter()
    with ThreadPoolExecutor(1) as threads:
        moving = threads.submit(archive)
        try:
            while min(seen["whole"], seen["archived"]) < 4:
                assert not moving.done(), moving.result()
                seen[show_by(context)] += 1
        finally:
            is_over.set()
        moving.result()
    assert context("get", "s").stdout.decode() == NOTE
    bench.close()


def show_by(context):
    """What `baton context show` said: `whole` or `archived`; anything else fails."""
    try:
        # Not `get`: a session that is read again and again is not archived.
        shown = context.json("show", "s")
    except AssertionError as refused:  # its exit code is not 0; this is what it wrote
        if "baton archive restore s" not in str(refused):
            raise
        return "archived"
    assert shown["size_bytes"] == len(NOTE)
    return "whole"
