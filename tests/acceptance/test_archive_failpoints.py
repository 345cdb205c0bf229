"""The archive's process is killed at each of its steps: nothing is lost, doubled or left half."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest

from archive_bench import FACTS, QUESTIONS, ArchiveBench, essay
from archive_processes import killed_at
from baton.errors import ContextArchivedError, ContextNotFoundError
from baton.failpoints import FAILPOINTS
from baton.store.keys import SessionKeys

REPEATS = int(os.environ.get("BATON_FAILPOINT_REPEATS", "1"))
TEXT = f"{essay(150)} {FACTS[0]} {essay(150)}"

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.parametrize("redis_server", ["system"], indirect=True),
    pytest.mark.parametrize("repeat", range(REPEATS)),
]


def points(kind: str) -> list[str]:
    return [name for name in FAILPOINTS if name.startswith(f"{kind}.")]


@pytest.fixture
def make_bench(redis_client, tmp_path, embedder):
    """Makes archives over the test's Redis, one after another."""
    benches = []

    def make():
        for bench in benches:
            bench.close_archive()
        benches.append(ArchiveBench(redis_client, tmp_path, embedder))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


def check_whole(bench: ArchiveBench) -> None:
    """One shelf, whole, with all of its rows and nothing beside them; found by its meaning."""
    (record,) = bench.archive.archived()
    assert bench.archive.verify() == {}
    assert bench.archive._shelves.segments.shelves() == {record.shelf}
    assert bench.archive.check_index().rows == record.passage_count
    assert FACTS[0] in bench.archive.search(QUESTIONS[0], limit=1)[0].snippet
    operations = [entry.operation for entry in bench.store.show_audit("s")]
    assert operations.count("archived") == 1


@pytest.mark.parametrize("point", points("archive"))
def test_killed_while_archiving(make_bench, redis_server, tmp_path, point, repeat, notes_wait):
    """At any time the session can be read or restored; tried again, it is archived once."""
    bench = make_bench()
    bench.store.put("s", TEXT, agent_id="a")
    assert killed_at(point, "archive", redis_server.url, tmp_path, index=True)

    bench = make_bench()
    try:
        assert bench.store.get("s").content == TEXT
        bench.store.flush_notes()
    except ContextArchivedError:
        bench.archive.settle()
        assert [each.session for each in bench.archive.archived()] == ["s"]
    bench.archive.archive("s")
    bench.archive.settle()
    check_whole(bench)
    bench.archive.restore("s")
    assert bench.store.get("s").content == TEXT


@pytest.mark.parametrize("point", points("restore"))
def test_killed_while_restoring(make_bench, redis_server, tmp_path, point, repeat, notes_wait):
    """It is in Redis or in the archive, never in neither; tried again, it is restored once."""
    bench = make_bench()
    bench.store.put("s", TEXT, agent_id="a")
    bench.archive.archive("s")
    bench.close_archive()
    assert killed_at(point, "restore", redis_server.url, tmp_path, index=True)

    bench = make_bench()
    is_here = False
    with suppress(ContextArchivedError):
        is_here = bench.store.get("s").content == TEXT
    bench.archive.settle()
    states = [record.state for record in bench.archive.ledger.all()]
    assert states == ["copied" if is_here else "archived"]
    bench.archive.restore("s")
    assert bench.store.get("s").content == TEXT
    assert [each.version for each in bench.store.history("s")] == ["1.0.1", "1.0.0"]
    operations = [entry.operation for entry in bench.store.show_audit("s")]
    assert operations.count("restored") == 1


@pytest.mark.parametrize("point", points("purge"))
def test_killed_while_purging(
    make_bench, redis_server, redis_client, tmp_path, point, repeat, notes_wait
):
    """Once its key is destroyed it stays erased; the rest is cleared away, and told once."""
    bench = make_bench()
    bench.store.put("s", TEXT, agent_id="a")
    bench.archive.archive("s")
    bench.close_archive()
    assert killed_at(point, "purge", redis_server.url, tmp_path, index=True)

    bench = make_bench()
    with pytest.raises(ContextNotFoundError):
        bench.archive.restore("s")
    bench.archive.settle()
    assert bench.archive.totals().states == {}
    assert bench.archive._shelves.segments.shelves() == set()
    assert bench.archive.check_index().rows == 0
    assert redis_client.exists(SessionKeys.of("s").base) == 0
    operations = [entry.operation for entry in bench.store.show_audit("s")]
    assert operations.count("purged") == 1
