"""`baton archive backup`: a copy of the archive's files that fits together, while it is used."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import threading

import pytest

from baton.archive import backup
from baton.archive.backup import back_up
from baton.archive.ledger import Ledger
from baton.archive.segments import Segments
from baton.archive.sqlite_file import SqliteFile
from baton.errors import ColdStoreUnavailableError, InvalidInputError
from baton_command import BatonCommand

NUMBERS = ("CREATE TABLE numbers (number INTEGER PRIMARY KEY) STRICT",)


@pytest.fixture
def folder(tmp_path):
    """An archive's folder with both of its files, and no session."""
    made = tmp_path / "state" / "archive"
    made.mkdir(parents=True)
    for kind, name in ((Ledger, "ledger.sqlite"), (Segments, "segments.sqlite")):
        with contextlib.closing(kind(made / name)) as file:
            file.check()
    return made


def numbers(path) -> list[int]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM numbers")]


def test_backup_has_private_copies_of_what_is_there_and_replaces_older_ones(folder, tmp_path):
    command = BatonCommand(tmp_path, "archive")
    for _ in range(2):
        names = [path.rpartition("/")[2] for path in command.json("backup", "kept")["files"]]
        assert names == ["ledger.sqlite", "segments.sqlite"]
    kept = tmp_path / "kept"
    assert sorted(path.name for path in kept.iterdir()) == names
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.iterdir()} == {0o600}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    for kind, name in ((Ledger, "ledger.sqlite"), (Segments, "segments.sqlite")):
        with contextlib.closing(kind(kept / name)) as file:
            file.check()
    assert b"master keys are not in it" in command("backup", "kept").stderr


def test_copies_are_of_one_instant_while_somebody_writes(tmp_path):
    """What is written to the first file before the second is in neither copy alone."""
    folder = tmp_path / "archive"
    folder.mkdir()
    files = [
        SqliteFile(folder / name, NUMBERS, secure_delete=False)
        for name in ("segments.sqlite", "ledger.sqlite")
    ]
    begun, enough = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not enough.is_set():
            number += 1
            for file in files:  # the ledger names only what is there
                with file.transaction() as connection:
                    connection.execute("INSERT INTO numbers VALUES (?)", (number,))
            begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(30)
        for attempt in range(10):
            target = tmp_path / str(attempt)
            back_up(folder, target)
            stored, named = (numbers(target / file.path.name) for file in files)
            assert named == stored[: len(named)]
            assert len(stored) - len(named) in (0, 1)
    finally:
        enough.set()
        writer.join()
        for file in files:
            file.close()


def test_file_that_somebody_keeps_locked_ends_it_and_leaves_the_old_copy(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(backup, "BUSY_SECONDS", 0.05)
    target = tmp_path / "kept"
    back_up(folder, target)
    before = (target / "ledger.sqlite").read_bytes()
    with contextlib.closing(
        sqlite3.connect(folder / "segments.sqlite", isolation_level=None)
    ) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ColdStoreUnavailableError, match="locked"):
            back_up(folder, target)
    assert (target / "ledger.sqlite").read_bytes() == before


def test_backup_refuses_the_archives_own_folder_a_file_and_a_missing_archive(folder, tmp_path):
    (tmp_path / "file").touch()
    for wrong in (folder, tmp_path / "file"):
        with pytest.raises(InvalidInputError, match="FOLDER"):
            back_up(folder, wrong)
    command = BatonCommand(tmp_path, "archive", BATON_STATE_DIR=str(tmp_path / "empty"))
    assert "an archive" in command.error("backup", "kept", code=2)
