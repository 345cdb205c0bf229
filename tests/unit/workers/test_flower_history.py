"""The journal of task events that Flower remembers."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("flower")

from workers.flower_history import Journal


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path)
    yield journal
    journal.close()


def event(number: int, **more) -> dict:
    return {
        "type": "task-received",
        "uuid": f"u{number}",
        "hostname": "agents@h",
        "timestamp": 1.0 * number,
        "local_received": 1.0 * number,
        "clock": number,
        **more,
    }


def test_journal_gives_back_what_was_appended(journal, tmp_path):
    """In order, also to another process while it is open, from files of their owner alone."""
    for number in range(10):
        journal.append(event(number))
    assert [got["uuid"] for got in Journal(tmp_path).read()] == [f"u{n}" for n in range(10)]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_journal_is_bounded(tmp_path):
    """It keeps the newest events in two files of a given size each."""
    journal = Journal(tmp_path, file_bytes=2_000)
    for number in range(200):
        journal.append(event(number))
    journal.close()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 2_200
    kept = [got["uuid"] for got in journal.read()]
    assert kept == [f"u{n}" for n in range(200 - len(kept), 200)]


def test_journal_survives_damage(journal, tmp_path):
    """Cut lines, garbage and what is no event are skipped; the next event begins a new line."""
    journal.append(event(1))
    journal.close()
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b"\x80\x04garbage\n[1]\n{}\n" + json.dumps(event(9, uuid=7)).encode())
        file.write(b'\n{"type":"task-rec')
    journal.append(event(2))
    assert [got["uuid"] for got in journal.read()] == ["u1", "u2"]


def test_journal_holds_no_content_that_it_reads(journal):
    """Whoever wrote it, an event comes out by reference."""
    journal.append(event(1, kwargs="{'content': 'hunter2'}", extra="hunter2"))
    assert "hunter2" not in repr(list(journal.read()))
