"""The archive tells how it fares, and the doctor mends what its index has lost."""

from __future__ import annotations

import contextlib
import json

import pytest

from archive_bench import FACTS, QUESTIONS, ArchiveBench, essay
from baton.archive.report import KEY, find_report
from baton.archive.requests import Request, do
from baton.errors import IndexUnavailableError
from baton.lifecycle.archiving import ArchivePasses
from baton.lifecycle.checks.archive import ArchiveCheck
from baton.lifecycle.checks.remains import RemainsCheck
from baton.lifecycle.deletions import UnfinishedDeletions
from baton.lifecycle.due_index import DueIndex
from baton.lifecycle.facts import SessionFactsReader
from baton.lifecycle.states import DAY_MS, Durations
from baton.lifecycle.sweep_board import SweepRun
from baton.store.keys import SessionKeys
from baton.store.mending import KeyMending
from baton_command import BatonCommand

# What differs between servers is tested where keys are (test_doctor.py).
pytestmark = pytest.mark.parametrize("redis_server", ["system"], indirect=True)

TEXT = f"{essay(300)}\n{FACTS[0]}\n{essay(300)}"


@pytest.fixture
def bench(redis_client, tmp_path, embedder):
    made = ArchiveBench(redis_client, tmp_path / "state", embedder)
    yield made
    made.close()


@pytest.fixture
def passes(bench, redis_client):
    """The archive pool's own passes; they need no audit here."""
    ledger = bench.settings.state_dir / "archive" / "ledger.sqlite"
    facts = SessionFactsReader(redis_client, Durations())
    return ArchivePasses(lambda: bench.archive, ledger, facts, DueIndex(redis_client), carry=None)


def _ask(bench):
    def ask(kind, **fields):
        found = do(bench.archive, Request(kind, "a", fields))
        return json.loads(json.dumps(found))  # as a pool's answer is

    return ask


def _check(bench):
    return ArchiveCheck(bench.client, _ask(bench), lambda: True)


def _remains(bench):
    mending = KeyMending(bench.client, bench.store.backstop_ms)
    deletions = UnfinishedDeletions(bench.client, mending)
    return RemainsCheck(bench.client, mending, deletions, _ask(bench), lambda: True)


def _index_rows(bench):
    return bench.archive.check_index().rows


def _lose_rows(bench, session_id, count):
    (record,) = bench.archive.ledger.of_session(session_id)
    index = bench.archive._index
    index.delete(sorted(index.ids(record.shelf))[:count])


def test_content_beside_a_tombstone_goes_if_the_archive_has_the_copy(bench):
    """Whether it can be restored is what the archive says, not the tombstone."""
    keys = SessionKeys.of("s")
    bench.store.put("s", TEXT, agent_id="a")
    stored = {key: bench.client.dump(key) for key in (keys.manifests, keys.chunk(0))}
    bench.archive.archive("s")
    assert list(_remains(bench).find()) == []
    for key, value in stored.items():
        bench.client.restore(key, DAY_MS, value)
    shelf = bench.client.hget(keys.base, "shelf")
    bench.client.hset(keys.base, "shelf", "another")
    (left,) = _remains(bench).find()
    assert left.mend is None
    bench.client.hset(keys.base, "shelf", shelf)
    (found,) = _remains(bench).find()
    assert found.mend() is True
    assert list(_remains(bench).find()) == []
    assert not bench.client.exists(keys.manifests, keys.chunk(0))
    bench.archive.restore("s")
    assert bench.store.get("s").content == TEXT


def test_settle_tells_how_the_archive_fares(bench, passes, redis_client):
    """Nothing before there is an archive; then what is in it, whatever becomes of the sweep."""
    assert passes.settle(SweepRun("settle", 300)) == 0
    assert find_report(redis_client) is None
    bench.store.put("s", TEXT, agent_id="a")
    bench.store.put("t", TEXT, agent_id="a")
    archived = bench.archive.archive("s")
    bench.archive.archive("t")
    bench.archive.hold("s", "case 7", agent_id="a")
    bench.archive.restore("t")
    passes.settle(SweepRun("settle", 300))
    report = find_report(redis_client)
    assert (report.archived, report.copied, report.held, report.waiting) == (1, 1, 1, 0)
    assert report.passages == report.rows == 2 * archived.passages
    assert (report.healthy, report.problem, report.period_ms) == (True, None, 300_000)
    assert report.free_bytes > 0
    assert not report.is_late(report.checked_at_ms + 900_000)
    assert report.is_late(report.checked_at_ms + 900_001)
    assert redis_client.pttl(KEY) > 0
    bench.archive.release("s", agent_id="a")


def test_settle_that_fails_tells_all_the_same(bench, passes, redis_client, monkeypatch):
    """The report is not from before the fault."""
    bench.store.put("s", TEXT, agent_id="a")
    bench.archive.archive("s")

    def fail(*_, **__):
        raise IndexUnavailableError("the disk is full")

    monkeypatch.setattr(bench.archive, "settle", fail)
    with pytest.raises(IndexUnavailableError):
        passes.settle(SweepRun("settle", 300))
    assert find_report(redis_client).archived == 1


def test_archive_without_its_model_says_so(redis_client, tmp_path):
    """Content went first; that nothing of it can be found is no old report but a fresh one."""
    missing = str(tmp_path / "no-model")
    bench = ArchiveBench(
        redis_client, tmp_path / "state", None, embedding_model=missing, archive_index_later=True
    )
    with contextlib.closing(bench):
        bench.store.put("s", TEXT, agent_id="a")
        bench.archive.archive("s")
        report = bench.archive.report()
        assert (report.archived, report.waiting, report.rows) == (1, 1, None)
        assert missing in report.problem
        (finding,) = _check(bench).find()
        assert (finding.kind, finding.mend) == ("broken_index", None)


def test_copy_that_was_erased_is_not_missed(bench):
    """A purge that died leaves a tombstone; the next `settle` takes it away."""
    bench.store.put("s", TEXT, agent_id="a")
    bench.archive.archive("s")
    (record,) = bench.archive.ledger.of_session("s")
    bench.archive._eraser.erase(record)
    assert list(_check(bench).find()) == []
    assert bench.archive.settle() == 1
    assert not bench.store.exists("s")


def test_missing_rows_are_embedded_again(bench, redis_client):
    """Of one session alone; then it is found again, and the report has no problem."""
    bench.store.put("s", TEXT, agent_id="a")
    bench.store.put("t", TEXT, agent_id="a")
    archived = bench.archive.archive("s")
    bench.archive.archive("t")
    assert list(_check(bench).find()) == []
    _lose_rows(bench, "s", archived.passages - 1)
    assert "passages" in bench.archive.report().problem
    (finding,) = _check(bench).find()
    assert (finding.kind, finding.subject) == ("missing_rows", "s")
    assert f"1 of {archived.passages} passages" in finding.problem
    assert finding.mend() is True
    assert list(_check(bench).find()) == []
    assert find_report(redis_client).problem is None
    assert _index_rows(bench) == 2 * archived.passages


def test_broken_index_is_made_anew(bench):
    """An index whose probe is gone; the sweep leaves it, the doctor makes it anew."""
    bench.store.put("s", TEXT, agent_id="a")
    archived = bench.archive.archive("s")
    bench.archive._index.delete(["probe"])
    report = bench.archive.report()
    assert (report.healthy, report.rebuild) == (False, True)
    assert "baton archive reindex" in report.problem
    (finding,) = _check(bench).find()
    assert (finding.kind, finding.subject) == ("broken_index", "the index")
    assert finding.mend() is True
    assert list(_check(bench).find()) == []
    assert _index_rows(bench) == archived.passages
    assert bench.archive.search(QUESTIONS[0], limit=1)[0].session_id == "s"


def test_tombstone_of_a_lost_copy_is_told_and_left(bench, redis_client):
    """The archive's folder was put back from an older backup: nothing can mend that."""
    bench.store.put("s", TEXT, agent_id="a")
    bench.store.put("t", TEXT, agent_id="a")
    bench.archive.archive("s")
    bench.archive.archive("t")
    redis_client.hset(SessionKeys.of("t").base, "copy", "00ff")
    (finding,) = _check(bench).find()
    assert (finding.kind, finding.subject) == ("tombstone_without_copy", "t")
    assert finding.mend is None
    assert "backup" in finding.mending


def test_archive_that_gives_no_answer_is_a_finding(bench, redis_client):
    """What else was found is not lost for it."""

    def ask(*_, **__):
        raise IndexUnavailableError("no answer in 30 s")

    (finding,) = ArchiveCheck(redis_client, ask, lambda: True).find()
    assert (finding.kind, finding.mend) == ("archive_away", None)
    assert "no answer in 30 s" in finding.problem


def test_command_mends_the_index(bench, redis_server, redis_client, tmp_path):
    """`baton doctor --fix` opens the archive where no pool runs, and tells before it mends."""
    bench.store.put("s", TEXT, agent_id="a")
    archived = bench.archive.archive("s")
    _lose_rows(bench, "s", 1)
    bench.close_archive()
    baton = BatonCommand(tmp_path, "doctor", BATON_REDIS_URL=redis_server.url)
    assert [each["kind"] for each in baton.json(code=3)["findings"]] == ["missing_rows"]
    told = baton("--fix").stdout.decode().splitlines()
    assert told[0].startswith("missing_rows: s has ")
    assert told[1:] == [
        "  embeds the passages that are missing",
        "Found 1 missing_rows; 1 mended, 0 left.",
    ]
    assert baton.json()["found"] == 0
    assert _index_rows(bench) == archived.passages
