"""Audit trails are carried to the archive's file, verified there, trimmed in Redis, kept a year."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from archive_bench import ArchiveBench
from baton.archive import audit_carry
from baton.archive.audit_carry import AuditCarry
from baton.archive.audit_file import AuditFile
from baton.archive.opening import audit_path
from baton.archive.whole_trail import WholeTrail
from baton.coordinator import RedisSwarmCoordinator
from baton.errors import ColdStoreCorruptError, ContextNotFoundError
from baton.failpoints import FAILPOINTS
from baton.settings import DAY_SECONDS, ClientSettings
from baton.store import audit_reading
from baton.store.audit import AuditTrail
from baton.store.audit_anchors import FileAnchor
from baton.store.audit_export import verify_chains, verify_export
from baton.store.audit_seals import decode_seal
from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys
from virtual_clock import VirtualClock, on_virtual_clock

NAME = "carried"
KEYS = SessionKeys.of(NAME)
KEEP_SECONDS = 366 * DAY_SECONDS


class Bench:
    """A store, a trail and its file, over a clock of the test's."""

    def __init__(self, client, folder, clock):
        self.client = client
        self.clock = clock
        self.path = folder / "archive" / "audit.sqlite"
        self.store = ContextStore(client)
        self.anchor = FileAnchor(folder / "audit")
        self.trail = AuditTrail(client, self.anchor)
        self.file = AuditFile(self.path)
        self.carry = AuditCarry(
            client, self.file, self.trail, keep_seconds=KEEP_SECONDS, now_ms=self.now_ms
        )
        self.whole = WholeTrail(client, self.file, self.anchor, keep_seconds=KEEP_SECONDS)

    def now_ms(self):
        return round(self.clock.now * 1000)

    def write(self, count=1, session_id=NAME):
        """Versions, one entry each, then a seal of them."""
        for _ in range(count):
            self.store.put(session_id, os.urandom(8).hex(), agent_id="writer")
        self.trail.seal(session_id)

    def run(self):
        return self.carry.run(progress=lambda _done: None, stop=lambda: False)

    def pass_days(self, days):
        """A day at a time, as the sweep runs all the time."""
        for _ in range(days):
            self.clock.pass_seconds(DAY_SECONDS)
            self.run()

    def shown(self, session_id=NAME):
        return [entry.seq for entry in self.whole.show(session_id)]

    def problems(self):
        return [problem[:2] for problem in self.whole.verify(NAME).problems]

    def in_redis(self):
        return self.client.llen(KEYS.audit)

    def lose(self):
        self.client.delete(KEYS.audit, KEYS.audit_state, KEYS.audit_seals)

    def sql(self, *statement):
        """As somebody would who has the file."""
        self.file.close()
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(*statement).fetchall()

    def close(self):
        self.file.close()
        self.store.close()


@pytest.fixture
def clock(redis_client, monkeypatch):
    """The time of seals, of trims and of the file."""
    monkeypatch.setattr(audit_reading, "_LOOK", on_virtual_clock(audit_reading._LOOK))
    return VirtualClock(redis_client)


@pytest.fixture
def bench(redis_client, tmp_path, clock):
    bench = Bench(redis_client, tmp_path, clock)
    yield bench
    bench.close()


# --- carrying ----------------------------------------------------------------------------------


def test_what_is_sealed_is_carried_once(bench):
    """Sealed segments only, each once, whoever runs how often; Redis keeps them for 30 days."""
    bench.write(3)
    bench.write(2)
    bench.store.put(NAME, "not sealed", agent_id="writer")
    assert bench.run() == 2
    assert bench.run() == 0
    (chain,) = bench.file.chains(NAME)
    assert (chain.segments, chain.last_seq) == (2, 5)
    first, second = bench.file.segments(NAME, chain.chain)
    assert first.entries() + second.entries() == bench.client.lrange(KEYS.audit, 0, 4)
    assert [first.seal, second.seal] == bench.client.lrange(KEYS.audit_seals, 0, -1)
    bench.pass_days(29)
    assert bench.in_redis() == 6
    assert bench.shown() == [6, 5, 4, 3, 2, 1]
    found = bench.whole.verify(NAME)
    assert (found.ok, found.entries, found.unsealed_entries) == (True, 6, 1)


def test_after_a_month_redis_lets_go_of_what_was_carried(bench):
    """The chain verifies over file and Redis as one, and by Redis alone with the anchor's word."""
    bench.write(3)
    bench.run()
    bench.pass_days(20)
    bench.write(2)
    bench.pass_days(12)
    assert bench.in_redis() == 2
    assert bench.shown() == [5, 4, 3, 2, 1]
    assert [entry.seq for entry in bench.whole.show(NAME, 3)] == [5, 4, 3]
    whole = bench.whole.verify(NAME)
    assert (whole.ok, whole.entries, whole.trimmed_entries, whole.anchored_segments) == (
        True, 5, 0, 2,
    )  # fmt: skip
    alone = bench.trail.verify(NAME)
    assert (alone.ok, alone.entries, alone.trimmed_entries) == (True, 2, 3)
    bench.write(4)
    bench.pass_days(40)
    assert bench.in_redis() == 0
    assert bench.shown() == list(range(9, 0, -1))
    assert bench.whole.verify(NAME).ok


def test_many_trails_and_long_ones_are_carried_in_batches(bench, monkeypatch):
    """More sessions and segments than one transaction takes; a run that must stop goes on later."""
    monkeypatch.setattr(audit_carry, "AT_ONCE", 3)
    for number in range(4):
        for _ in range(4):
            bench.write(1, f"s{number}")
    told = []
    assert bench.carry.run(progress=told.append, stop=lambda: len(told) == 2) == 6
    assert told == [3, 6]
    assert bench.run() == 10
    for number in range(4):
        assert bench.whole.verify(f"s{number}").entries == 4
        assert bench.file.chains(f"s{number}")[0].segments == 4


def test_without_an_anchor_everything_is_carried_and_nothing_trimmed(bench, caplog):
    """Nobody could tell a trimmed front from one that was cut off."""
    bench.carry = AuditCarry(
        bench.client,
        bench.file,
        AuditTrail(bench.client),
        keep_seconds=KEEP_SECONDS,
        now_ms=bench.now_ms,
    )
    bench.write(3)
    bench.pass_days(60)
    assert bench.in_redis() == 3
    assert bench.shown() == [3, 2, 1]
    assert caplog.text.count("stays in Redis too") == 1


def test_a_trail_that_was_exported_and_trimmed_by_hand_goes_on(bench):
    """What was taken out before it was carried is not in the file, and the anchor says why."""
    bench.write(3)
    bench.write(2)
    bench.trail.trim(NAME, through_segment=1, older_than_seconds=0)
    assert bench.run() == 2
    assert bench.shown() == [5, 4]
    found = bench.whole.verify(NAME)
    assert (found.ok, found.entries, found.trimmed_entries) == (True, 2, 3)
    bench.pass_days(32)
    assert bench.in_redis() == 0
    assert bench.whole.verify(NAME).ok


def test_seals_that_were_carried_go_with_their_entries(bench):
    """A session that is used for years has a month of seals in Redis; the chain holds all along."""
    for _ in range(70):
        bench.write(1)
        bench.clock.pass_seconds(DAY_SECONDS)
        bench.run()
    assert bench.client.llen(KEYS.audit_seals) <= 33
    assert bench.client.llen(KEYS.audit) <= 32
    for found in (bench.whole.verify(NAME), bench.trail.verify(NAME)):
        assert (found.ok, found.segments, found.anchored_segments) == (True, 70, 70)
    assert bench.whole.verify(NAME).entries == 70
    bench.write(1)
    assert bench.whole.verify(NAME).anchored_segments == 71
    for view in (bench.whole, bench.trail):
        lines = list(view.export(NAME))
        assert verify_export(lines, bench.anchor).segments == 71
        assert verify_export(lines, bench.anchor).ok
        del lines[1]  # the first seal
        assert not verify_export(lines, bench.anchor).ok


@pytest.fixture
def months(bench):
    """Seals 1 to 9 are in the file alone, 10 is the first in Redis."""
    for _ in range(10):
        bench.write(1)
    bench.pass_days(20)
    for _ in range(3):
        bench.write(1)
    bench.pass_days(12)
    assert bench.client.llen(KEYS.audit_seals) == 4
    assert bench.whole.verify(NAME).ok
    return bench


@pytest.mark.parametrize(
    ("tamper", "alone", "whole"),
    [
        # Another takes one more off the front, with its number or without.
        ([("lpop", KEYS.audit_seals), ("hincrby", KEYS.audit_state, "seals_gone", 1)], 11, None),
        ([("lpop", KEYS.audit_seals)], 10, 10),
        ([("hset", KEYS.audit_state, "seals_gone", 8)], 9, 9),
        ([("hdel", KEYS.audit_state, "seals_gone")], 1, 1),
        ([("hset", KEYS.audit_state, "seals_gone", "many")], 1, 1),
        ([("lset", KEYS.audit_seals, 0, b"{}")], 10, 10),
    ],
)
def test_seals_that_somebody_else_takes_off_the_front_are_missed(months, tamper, alone, whole):
    """By Redis and the anchor; what the file has of them too is not lost."""
    for command, *arguments in tamper:
        getattr(months.client, command)(*arguments)
    assert alone in [each.number for each in months.trail.verify(NAME).problems]
    found = [each.number for each in months.whole.verify(NAME).problems]
    assert (whole in found) if whole else found == []


def test_seals_that_the_file_lost_as_well_are_missed(months):
    """A hole, or the front; where the whole file is gone, the anchor knows why Redis has less."""
    months.sql("DELETE FROM segments WHERE segment = 4")
    assert ("seal", 5) in months.problems()
    months.sql("DELETE FROM segments WHERE segment < 4")
    assert ("seal", 5) in months.problems()
    months.file.close()
    months.path.unlink()
    assert months.problems() == []
    months.run()
    assert {each[0] for each in months.problems()} == {"entry"}, "what it had is lost, and told"


# --- one trail for whoever asks ----------------------------------------------------------------


def exported(bench, session_id=NAME):
    return list(bench.whole.export(session_id))


def test_the_python_api_reads_the_whole_trail(bench, redis_client, caplog):
    """A store that is given the file shows and verifies what Redis has let go of; others say so."""
    bench.write(3)
    bench.run()
    bench.pass_days(20)
    bench.write(2)
    bench.pass_days(12)
    with closing(ContextStore(redis_client, audit_view=bench.whole)) as store:
        shown = store.show_audit(NAME)
        assert [entry.seq for entry in shown] == [5, 4, 3, 2, 1]
        assert shown.missing == 0
        assert store.verify_audit(NAME).entries == 5
    assert not caplog.messages
    alone = bench.store.show_audit(NAME)
    assert [entry.seq for entry in bench.store.show_audit(NAME, 2)] == [5, 4]
    assert not caplog.messages, "nothing was cut off that was asked for"
    assert [entry.seq for entry in alone] == [5, 4]
    assert alone.missing == 3
    assert "had 3 more entries, which are not here" in caplog.text


def test_a_coordinator_reads_the_whole_trail_of_its_state_folder(bench, redis_server, tmp_path):
    """Its settings name the folder; where no archive is there, it reads Redis and says so."""
    bench.write(3)
    bench.run()
    bench.pass_days(32)
    for folder, entries, missing in ((tmp_path, 3, 0), (tmp_path / "elsewhere", 0, 3)):
        settings = ClientSettings(state_dir=folder, _env_file=None)
        with RedisSwarmCoordinator(redis_url=redis_server.url, settings=settings) as coordinator:
            shown = coordinator.store.show_audit(NAME)
            assert (len(list(shown)), shown.missing) == (entries, missing)


def test_an_export_holds_the_whole_trail(bench):
    """What Redis has and what was carried, and chains that Redis has lost; it verifies alone."""
    bench.write(3)
    bench.pass_days(32)
    assert bench.in_redis() == 0
    bench.write(2)
    bench.store.put(NAME, "not sealed", agent_id="writer")
    found = verify_export(exported(bench), bench.anchor)
    assert (found.ok, found.entries, found.trimmed_entries, found.segments) == (True, 6, 0, 2)
    bench.trail.seal(NAME)
    bench.run()
    bench.lose()
    bench.write(2)
    lines = exported(bench)
    chains = verify_chains(lines, bench.anchor)
    assert [(each.ok, each.entries, each.segments) for each in chains] == [
        (True, 6, 3), (True, 2, 1),
    ]  # fmt: skip
    assert verify_export(lines, bench.anchor).entries == 8
    bench.lose()
    assert verify_export(exported(bench)[: len(lines)]).entries == 6, "of the file alone"


@pytest.mark.parametrize("cut", [-4, -3, -2, -1, 1, 3])
def test_an_export_of_two_chains_from_which_a_line_was_taken_does_not_verify(bench, cut):
    """The header of the second, a seal, an entry: of either chain."""
    bench.write(3)
    bench.run()
    bench.lose()
    bench.write(2)
    lines = exported(bench)
    assert verify_export(lines).ok
    del lines[cut % len(lines)]
    assert not verify_export(lines).ok


def test_an_export_that_ends_after_its_first_chain_does_not_verify(bench):
    """Each header says how many chains follow it."""
    bench.write(3)
    bench.run()
    bench.lose()
    bench.write(2)
    first, _ = verify_chains(exported(bench))
    (verdict,) = verify_chains(exported(bench)[: 1 + first.segments + first.entries])
    assert [each.text for each in verdict.problems] == ["of a later chain is gone"]


def test_an_export_says_that_an_entry_of_the_file_cannot_be_read(half_trimmed):
    """It stands there as an empty line."""
    half_trimmed.sql("UPDATE segments SET entries = x'00' WHERE segment = 2")
    found = verify_export(exported(half_trimmed), half_trimmed.anchor)
    assert found.problems[0][:2] == ("entry", 3)


def test_a_chain_that_neither_redis_nor_the_file_has_is_missed(bench):
    """Although there is an older one in the file."""
    bench.write(2)
    bench.run()
    bench.lose()
    bench.write(2)
    bench.lose()
    assert bench.problems() == [("anchor", 1)]


# --- what Redis loses --------------------------------------------------------------------------


def test_a_trail_that_redis_lost_is_shown_and_verified_from_the_file(bench):
    """Of what was sealed after the last run, the anchor says that it is gone."""
    bench.write(3)
    bench.run()
    bench.lose()
    assert bench.shown() == [3, 2, 1]
    assert bench.whole.verify(NAME).ok
    bench.write(2)
    bench.run()
    assert bench.shown() == [2, 1, 3, 2, 1]
    found = bench.whole.verify(NAME)
    assert (found.ok, found.entries, found.segments, found.anchored_segments) == (True, 5, 2, 2)
    bench.write(1)
    bench.lose()
    assert bench.problems() == [("anchor", 2)]


def test_entries_that_redis_lost_alone_are_shown(bench):
    """The verification tells that Redis has them no more."""
    bench.write(3)
    bench.run()
    bench.client.delete(KEYS.audit)
    assert bench.shown() == [3, 2, 1]
    assert bench.problems() == [("entry", 1)]


def test_the_audit_of_a_purged_session_is_kept_a_year(bench):
    """Long after Redis let it expire, with the receipt; then it is dropped, as a whole."""
    bench.write(2)
    bench.pass_days(60)
    bench.store.delete(NAME, agent_id="admin")
    bench.trail.seal(NAME)
    bench.pass_days(130)
    bench.lose()
    assert [entry.operation for entry in bench.whole.show(NAME)] == [
        "deleted", "updated", "created",
    ]  # fmt: skip
    assert bench.whole.verify(NAME).ok
    bench.pass_days(366 - 190)
    assert bench.shown() == [3, 2, 1]
    bench.pass_days(1)
    assert bench.shown() == [3], "each entry has its own year"
    found = bench.whole.verify(NAME)
    assert (found.ok, found.trimmed_entries, found.anchored_segments) == (True, 2, 2)
    bench.pass_days(60)
    with pytest.raises(ContextNotFoundError):
        bench.whole.show(NAME)
    assert bench.sql("SELECT count(*) FROM segments") == [(0,)]


@pytest.mark.parametrize("redis_server", ["system"], indirect=True)
def test_a_purge_leaves_the_audit_with_its_receipt(redis_client, tmp_path, notes_wait):
    """The archive erases what was stored, in Redis and in its own files, and not what was done."""
    pytest.importorskip("chromadb")
    bench = ArchiveBench(redis_client, tmp_path, None)
    anchor = FileAnchor(tmp_path / "audit")
    trail = AuditTrail(redis_client, anchor)
    file = AuditFile(audit_path(bench.settings))
    carry = AuditCarry(redis_client, file, trail, keep_seconds=KEEP_SECONDS)
    bench.store.put(NAME, "secret text", agent_id="writer")
    bench.store.set_flag(NAME, "sensitive", agent_id="writer")
    bench.archive.archive(NAME)
    trail.seal(NAME)
    carry.run(progress=lambda _done: None, stop=lambda: False)
    bench.archive.purge(NAME, agent_id="admin")
    trail.seal(NAME)
    carry.run(progress=lambda _done: None, stop=lambda: False)
    redis_client.flushdb()
    whole = WholeTrail(redis_client, file, anchor, keep_seconds=KEEP_SECONDS)
    shown = list(whole.show(NAME))
    assert [entry.operation for entry in shown] == ["purged", "archived", "flagged", "created"]
    assert (shown[0].agent, shown[0].details["key"]) == ("admin", "destroyed")
    assert whole.verify(NAME).ok
    assert b"secret text" not in bench.files()
    file.close()
    bench.close()


def test_a_clock_that_jumps_drops_nothing_for_a_day(bench):
    """Whoever sees it has that long to set it right."""
    bench.write(2)
    bench.run()
    bench.clock.pass_seconds(400 * DAY_SECONDS)
    bench.run()
    assert bench.shown() == [2, 1]
    bench.clock.pass_seconds(-400 * DAY_SECONDS)
    bench.pass_days(3)
    assert bench.shown() == [2, 1]
    assert bench.whole.verify(NAME).ok


def test_the_file_is_small_and_private(bench):
    """Compressed, and readable by its owner alone; it needs none of the archive's packages."""
    bench.write(200)
    bench.run()
    assert bench.path.stat().st_mode & 0o777 == 0o600
    assert bench.path.parent.stat().st_mode & 0o777 == 0o700
    plain_bytes = sum(map(len, bench.client.lrange(KEYS.audit, 0, -1)))
    ((packed_bytes,),) = bench.sql("SELECT sum(length(entries)) FROM segments")
    assert packed_bytes < plain_bytes / 4
    script = """
import sys
import baton.archive.audit_carry, baton.archive.whole_trail, baton.cli.audit
assert not {"chromadb", "numpy", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


# --- tampering ---------------------------------------------------------------------------------


@pytest.fixture
def half_trimmed(bench):
    """Segments 1 and 2, of two entries each, are in the file alone, 3 in Redis too."""
    bench.write(2)
    bench.write(2)
    bench.pass_days(25)
    bench.write(2)
    bench.pass_days(8)
    assert bench.in_redis() == 2
    assert bench.whole.verify(NAME).ok
    return bench


def forged(bench, segment):
    """The segment's entries with another agent."""
    (found,) = bench.file.segments(NAME, bench.file.chains(NAME)[0].chain, segment, segment)
    seal = decode_seal(found.seal)
    return (
        type(found).of(seal, [raw.replace(b"writer", b"nobody") for raw in found.entries()]).packed
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("DELETE FROM segments WHERE segment = 1", ("entry", 1)),
        ("DELETE FROM segments WHERE segment = 2", ("entry", 3)),
        ("DELETE FROM segments", ("entry", 1)),
        ("UPDATE segments SET entries = NULL WHERE segment = 1", ("entry", 1)),
        ("UPDATE segments SET entries = NULL, sealed_at_ms = 1 WHERE segment = 1", ("entry", 1)),
        ("UPDATE segments SET entries = x'00' WHERE segment = 2", ("entry", 3)),
        ("UPDATE segments SET entries = x'00' WHERE segment = 3", ("archive", 3)),
        ("UPDATE segments SET seal = x'7b7d' WHERE segment = 2", ("archive", 2)),
        ("UPDATE segments SET last_seq = 1 WHERE segment = 1", ("entry", 2)),
    ],
    ids=str,
)
def test_a_change_of_the_file_is_found(half_trimmed, change, problem):
    """Where it is all there is, by seals in Redis; where Redis has it too, by comparison."""
    half_trimmed.sql(change)
    assert half_trimmed.problems()[0] == problem


@pytest.mark.parametrize(("segment", "problem"), [(2, ("entry", 3)), (3, ("archive", 3))])
def test_a_forged_entry_in_the_file_is_found(half_trimmed, segment, problem):
    """However well it is packed."""
    half_trimmed.sql(
        "UPDATE segments SET entries = ? WHERE segment = ?",
        (forged(half_trimmed, segment), segment),
    )
    assert half_trimmed.problems() == [problem]
    half_trimmed.lose()
    assert half_trimmed.problems() == [("entry", 2 * segment - 1)]


def test_the_end_of_a_chain_that_only_the_file_has_is_missed_by_the_anchor(half_trimmed):
    half_trimmed.lose()
    half_trimmed.sql("DELETE FROM segments WHERE segment = 3")
    assert half_trimmed.problems() == [("anchor", 3)]
    half_trimmed.sql("DELETE FROM segments WHERE segment = 1")
    assert ("seal", 1) in half_trimmed.problems()


def test_entries_that_redis_alone_has_are_verified_as_before(half_trimmed):
    half_trimmed.client.lset(KEYS.audit, 0, "{}")
    assert half_trimmed.problems() == [("entry", 5)]
    half_trimmed.client.rpop(KEYS.audit_seals)
    assert ("seal", 3) in half_trimmed.problems()


def test_what_was_changed_in_redis_is_carried_as_it_is_and_never_trimmed(bench, caplog):
    """It may be evidence; what is untouched beside it is carried all the same."""
    bench.write(2)
    bench.write(2)
    bench.client.lset(KEYS.audit, 0, bench.client.lindex(KEYS.audit, 0).replace(b"wr", b"WR"))
    bench.write(1, "other")
    assert bench.run() == 3
    bench.pass_days(40)
    assert bench.in_redis() == 4
    assert bench.client.llen(SessionKeys.of("other").audit) == 0
    assert "the audit of session carried is carried, and stays in Redis too" in caplog.text
    assert bench.problems() == [("entry", 1), ("archive", 1)]
    bench.lose()
    assert bench.problems() == [("entry", 1)]


def test_nothing_is_trimmed_that_the_file_has_otherwise(bench, caplog):
    """The file is read again before each trim, however long ago it was written."""
    bench.write(2)
    bench.write(2)
    bench.run()
    bench.sql("UPDATE segments SET entries = ? WHERE segment = 2", (forged(bench, 2),))
    bench.pass_days(33)
    assert bench.in_redis() == 2, "what is before it goes"
    bench.pass_days(3)
    assert bench.in_redis() == 2
    assert "has another segment 2 than Redis" in caplog.text


def test_damaged_seals_stop_no_others(bench, caplog):
    bench.write(1)
    bench.write(1)
    bench.write(1)
    bench.client.lset(KEYS.audit_seals, 1, b"{}")
    bench.write(1, "other")
    assert bench.run() == 3
    assert "seal 2 of the audit of session carried is damaged" in caplog.text
    assert ("seal", 2) in bench.problems()


def test_a_damaged_file_is_named_and_nothing_is_trimmed(bench):
    bench.write(2)
    bench.run()
    bench.file.close()
    bench.path.write_bytes(b"no database" * 1_000)
    bench.clock.pass_seconds(40 * DAY_SECONDS)
    with pytest.raises(ColdStoreCorruptError, match=r"audit\.sqlite"):
        bench.run()
    assert bench.in_redis() == 2


# --- crashes -----------------------------------------------------------------------------------

KILLED = """
import sys, redis
from pathlib import Path
from baton import failpoints
from baton.archive.audit_carry import AuditCarry
from baton.archive.audit_file import AuditFile
from baton.store.audit import AuditTrail
from baton.store.audit_anchors import FileAnchor
socket, folder, now_ms, point = sys.argv[1:]
failpoints.arm(f"{point}=kill")
client = redis.Redis(unix_socket_path=socket)
trail = AuditTrail(client, FileAnchor(Path(folder) / "audit"))
file = AuditFile(Path(folder) / "archive" / "audit.sqlite")
# Age shows by the server's own clock in this process: nothing need be old to be trimmed.
carry = AuditCarry(
    client, file, trail, keep_seconds=366 * 86_400, trim_after_seconds=-86_400,
    now_ms=lambda: int(now_ms),
)
run = lambda: carry.run(progress=lambda done: None, stop=lambda: False)
run()
run()
"""


@pytest.mark.parametrize("point", [name for name in FAILPOINTS if name.startswith("audit.")])
def test_killed_anywhere_nothing_is_lost_or_doubled(
    redis_server, redis_client, tmp_path, bench, point
):
    """Every entry is seen once, by whoever looks then, and after the next run."""
    for _ in range(3):
        bench.write(2)
    before = bench.client.lrange(KEYS.audit, 0, -1)
    arguments = [str(redis_server.socket), str(tmp_path), str(bench.now_ms()), point]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert killed.returncode == -9

    def check():
        entries = list(bench.whole.show(NAME)) if bench.file.exists() else bench.trail.show(NAME)
        assert [entry.seq for entry in entries] == [6, 5, 4, 3, 2, 1]
        found = bench.whole.verify(NAME) if bench.file.exists() else bench.trail.verify(NAME)
        assert (found.ok, found.entries, found.trimmed_entries) == (True, 6, 0)

    check()
    bench.run()
    check()
    (chain,) = bench.file.chains(NAME)
    kept = [raw for each in bench.file.segments(NAME, chain.chain) for raw in each.entries()]
    assert kept == before
    assert [json.loads(raw)["seq"] for raw in kept] == [1, 2, 3, 4, 5, 6]


def test_a_file_put_back_from_a_backup_goes_on(bench, tmp_path):
    """What it lacks and Redis still has is carried again; what neither has is named."""
    bench.write(2)
    bench.run()
    bench.file.close()
    shutil.copy(bench.path, tmp_path / "backup")
    bench.write(2)
    bench.run()
    bench.file.close()
    shutil.copy(tmp_path / "backup", bench.path)
    assert bench.run() == 1
    assert bench.whole.verify(NAME).ok
    bench.pass_days(40)
    bench.file.close()
    shutil.copy(tmp_path / "backup", bench.path)
    assert bench.shown() == [2, 1]
    assert bench.problems() == [("entry", 3)]
