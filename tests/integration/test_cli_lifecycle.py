"""`baton lifecycle …` over a real Redis; what is archived is too sensitive to need a model."""

from __future__ import annotations

import contextlib
import re
from dataclasses import fields

import pytest

from baton import ContextStore
from baton.lifecycle.due_index import DueIndex
from baton.lifecycle.sweep_board import SweepBoard
from baton.lifecycle.sweeps import Periods
from baton.swarm.keys import INDEX as AGENTS_INDEX
from baton.swarm.registry import AgentRegistry
from baton_command import BatonCommand

pytestmark = pytest.mark.parametrize("redis_server", ["system"], indirect=True)

SHORT = {"BATON_LIFECYCLE_ACTIVE_SECONDS": "0.001", "BATON_LIFECYCLE_ARCHIVE_SECONDS": "0.001"}


def names_of_sweeps() -> list[str]:
    return [field.name.removesuffix("_seconds") for field in fields(Periods)]


@pytest.fixture
def lifecycle(tmp_path, redis_server, redis_client):
    return BatonCommand(tmp_path, "lifecycle", BATON_REDIS_URL=redis_server.url)


@pytest.fixture
def sensitive(redis_client):
    """Writes sessions that are archived without an index."""
    with contextlib.closing(ContextStore(redis_client)) as store:

        def write(*session_ids: str) -> None:
            for session_id in session_ids:
                store.put(session_id, "text", agent_id="a")
                store.set_flag(session_id, "sensitive", agent_id="a")

        yield write


def test_status_of_a_session(lifecycle, context):
    """Its state, what comes next, and its durations; as JSON with instants as everywhere."""
    context("put", "notes", "-", stdin=b"one")
    shown = lifecycle.json("status", "notes")
    assert (shown["state"], shown["version"], shown["hold"]) == ("active", "1.0.0", None)
    assert (shown["active_seconds"], shown["archive_after_seconds"]) == (86_400, 604_800)
    assert shown["last_accessed_at"].endswith("Z")
    assert shown["last_accessed_at"][10] == "T"
    assert b"7.0 days without access" in lifecycle("status", "notes").stdout
    assert lifecycle.json("status", "notes", **SHORT)["due_for_archive"]
    assert b"inactive, due" in lifecycle("status", "notes", **SHORT).stdout
    assert "baton audit show nobody" in lifecycle.error("status", "nobody", code=4)
    lifecycle.error("status", "a b", code=2)


def test_status_of_the_sweeps(lifecycle, redis_client):
    """How many sessions wait, and of each sweep how it went last; one that failed is not `ok`."""
    assert lifecycle.json("status") == {
        "sessions_known": 0, "waiting_for_archive": 0, "sweeps": [],
    }  # fmt: skip
    DueIndex(redis_client).archive({"notes": 1})
    board = SweepBoard(redis_client)
    board.run("age", 60, lambda _run: 3)
    with pytest.raises(ValueError, match="boom"):
        board.run("purge", 60, lambda _run: int("boom"))
    shown = lifecycle.json("status")
    assert shown["waiting_for_archive"] == 1
    assert {each["name"]: each["result"] for each in shown["sweeps"]} == {"age": 3, "purge": None}
    lines = lifecycle("status").stdout.decode().splitlines()
    assert any(line.startswith("age ") and " ok " in line for line in lines)
    assert any(line.startswith("purge ") and " failed " in line for line in lines)


def test_durations_of_one_session(lifecycle, context):
    """Given, shown, taken away; what makes no sense is refused, and names what it was."""
    context("put", "notes", "-", stdin=b"one")
    given = ("--active", "5", "--archive-after", "10", "--keep", "20")
    shown = lifecycle.json("durations", "notes", *given)
    names = ("active_seconds", "archive_after_seconds", "keep_seconds")
    assert [shown[name] for name in names] == [5, 10, 20]
    shown = lifecycle.json("durations", "notes", "--default")
    assert shown["archive_after_seconds"] == 604_800
    assert "archive_seconds" in lifecycle.error(
        "durations", "notes", "--archive-after", "5", code=2
    )
    assert "--default" in lifecycle.error("durations", "notes", code=2)
    assert "--default" in lifecycle.error("durations", "notes", "--default", *given, code=2)
    lifecycle.error("durations", "nobody", "--keep", "5", code=4)
    lifecycle.error("durations", "a b", "--keep", "5", code=2)


def test_hold_and_release(lifecycle, context):
    """Twice is told; a held session is not deleted, and an unknown one is an error."""
    context("put", "notes", "-", stdin=b"one")
    assert b"is held" in lifecycle("hold", "notes", "case 7").stderr
    assert lifecycle.json("hold", "notes", "case 7") == {
        "session": "notes", "held": True, "changed": False,
    }  # fmt: skip
    assert "reason" in lifecycle.error("hold", "notes", "", code=2)
    assert lifecycle.json("status", "notes")["hold"] == "case 7"
    assert b"never" in lifecycle("status", "notes").stdout
    assert "baton lifecycle release notes" in context.error("delete", "notes", "--yes", code=4)
    lifecycle("release", "notes")
    assert b"was released already" in lifecycle("release", "notes").stderr
    lifecycle.error("hold", "nobody", "case 7", code=4)
    lifecycle.error("release", "nobody", code=4)
    assert not (lifecycle.place / "state" / "archive").exists()


def test_a_sweep_archives_what_is_due(lifecycle, sensitive, context, embedder):
    """A dry one tells which; one archives them all, and again there is nothing to do."""
    sensitive("one", "two")
    context("put", "busy", "-", stdin=b"text")
    lifecycle("hold", "busy", "case 7")
    lifecycle("durations", "busy", "--archive-after", "1000000")
    dry = lifecycle.json("sweep", "--dry-run", **SHORT)
    assert (dry["dry_run"], dry["sessions"], sorted(dry["due"])) == (True, 3, ["one", "two"])
    assert not (lifecycle.place / "state" / "archive").exists()
    swept = lifecycle.json("sweep", **SHORT)
    assert sorted(swept["archived"]) == ["one", "two"]
    assert (swept["kept"], swept["failed"]) == ({}, {})
    assert {each["session_id"] for each in context.json("list")["archived"]} == {"one", "two"}
    assert re.search(rb"^due +0$", lifecycle("sweep", **SHORT).stdout, re.MULTILINE)
    lifecycle("release", "busy")


def test_a_sweep_does_all_that_beat_sends(lifecycle, context, sensitive, redis_client):
    """Each sweep of the schedule, but those whose result is told by itself, is in the answer."""
    sensitive("old")
    registry = AgentRegistry(redis_client, dead_after_seconds=60)
    silent = registry.register("haiku_worker", context_capacity=1_000)
    redis_client.zincrby(AGENTS_INDEX, -600_000, silent.agent_id)
    redis_client.set("context:claude_max:{notes}:staging:op:0", "x")
    context("get", "old", "--agent", "reader")
    swept = lifecycle.json("sweep", **SHORT)
    assert swept["archived"] == ["old"]
    assert swept["skipped"] == {}
    told = {"reconcile", "age", "archive", "settle", "purge"}
    assert swept["done"].keys() | told == set(names_of_sweeps())
    done = swept["done"]
    assert (done["nodes"], done["agents"], done["access"], done["collect"]) == (0, 1, 1, 1)
    assert done["audit"] >= 2
    assert done["audit_carry"] == 1
    assert registry.get(silent.agent_id).state == "dead"
    again = lifecycle.json("sweep", **SHORT)["done"]
    assert (again["agents"], again["access"], again["collect"]) == (0, 0, 0)


def test_a_sweep_that_cannot_be_done_is_skipped_and_told(lifecycle, sensitive):
    """A broker that is away keeps nothing from being archived; exit code 3."""
    sensitive("old")
    swept = lifecycle.json("sweep", code=3, **SHORT, BATON_BROKER_URL="redis://127.0.0.1:1/0")
    assert list(swept["skipped"]) == ["nodes"]
    assert "127.0.0.1:1" in swept["skipped"]["nodes"]
    assert swept["archived"] == ["old"]


def test_a_sweep_archives_nothing_that_was_used_since(lifecycle, sensitive, redis_client, context):
    """What the index still takes for due is looked at again."""
    sensitive("used")
    DueIndex(redis_client).archive({"used": 1})
    swept = lifecycle.json("sweep")
    assert (swept["due"], swept["archived"]) == ([], [])
    assert DueIndex(redis_client).to_archive(10) == []
    assert context.json("show", "used")["version"] == "1.0.0"


def test_what_cannot_be_archived_is_exit_code_3(lifecycle, sensitive, redis_client, embedder):
    """The others are; why is told, in the answer with --json and on standard error without."""
    sensitive("good", "bad")
    (chunk,) = redis_client.scan_iter(match="context:claude_max:{bad}:chunks:*")
    redis_client.setrange(chunk, 12, b"\xff\xfe")
    swept = lifecycle.json("sweep", code=3, **SHORT)
    assert (swept["archived"], list(swept["failed"])) == (["good"], ["bad"])
    DueIndex(redis_client).archive({"bad": 1})
    done = lifecycle("sweep", code=3, **SHORT)
    assert b"bad: " in done.stderr
    assert re.search(rb"^failed +1$", done.stdout, re.MULTILINE)
