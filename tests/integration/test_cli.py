"""The `baton` commands that need Redis only, as processes against a private server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from baton.archive.audit_carry import AuditCarry
from baton.archive.audit_file import AuditFile
from baton.archive.report import ArchiveReport, put_report
from baton.embedded import EmbeddedRedis, running_url, server_folder
from baton.handoff.view import HandoffView
from baton.lifecycle.sweep_board import SweepBoard
from baton.store.audit import AuditTrail
from baton.store.audit_anchors import FileAnchor
from baton.swarm.pools import PoolBoard
from baton.swarm.registry import AgentRegistry

POOLS = ("agents", "context", "lifecycle", "archive", "beat")
ODD_TEXT = "\ufeffone\r\ntwo \U0001f642\n\nцепь, no line end"


class Baton:
    """Runs `baton` with a state folder of its own, and only the variables it is given."""

    def __init__(self, place: Path, **variables: str) -> None:
        self.place = place
        self.state_dir = place / "state"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("BATON_")}
        self.environment = kept | {"BATON_STATE_DIR": str(self.state_dir)} | variables

    def __call__(self, *arguments: str, stdin: bytes = b"", code: int = 0, **variables: str):
        done = subprocess.run(
            [sys.executable, "-m", "baton", *arguments],
            input=stdin,
            capture_output=True,
            cwd=self.place,
            env=self.environment | variables,
            check=False,
        )
        assert done.returncode == code, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, code: int = 0, **more):
        return json.loads(self(*arguments, "--json", code=code, **more).stdout)

    def error(self, *arguments: str, code: int, **more) -> str:
        done = self(*arguments, code=code, **more)
        assert done.stdout == b""
        return done.stderr.decode()

    def file(self, name: str, data: bytes) -> str:
        (self.place / name).write_bytes(data)
        return name


@pytest.fixture
def place():
    folder = Path(tempfile.mkdtemp(prefix="baton-test-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server_url():
    """One server for this module: what differs between servers is the store's to test."""
    folder = Path(tempfile.mkdtemp(prefix="baton-test-"))
    with EmbeddedRedis(folder) as url:
        yield url
    shutil.rmtree(folder)


@pytest.fixture
def client(server_url):
    with redis.Redis.from_url(server_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def baton(place, client, server_url):
    return Baton(place, BATON_REDIS_URL=server_url)


@pytest.fixture
def alone(place):
    """Without a Redis URL: on the embedded server."""
    return Baton(place)


def test_context_get_gives_back_every_byte(baton):
    """What `put` read, `get` writes, to a pipe and to a file, line ends and all."""
    data = ODD_TEXT.encode()
    baton("context", "put", "notes", baton.file("in.txt", data))
    assert baton("context", "get", "notes").stdout == data
    baton("context", "get", "notes", "-o", "out.txt")
    assert (baton.place / "out.txt").read_bytes() == data
    assert sorted(path.name for path in baton.place.iterdir()) == ["in.txt", "out.txt"]


def test_context_get_replaces_a_file_only_by_the_whole_answer(baton):
    """A `get` that fails leaves the file that was there."""
    baton.file("out.txt", b"before")
    baton("context", "get", "nobody", "-o", "out.txt", code=4)
    assert (baton.place / "out.txt").read_bytes() == b"before"


def test_context_put_passes_the_head_as_base(baton):
    """Without --base a new version lies on top of the head, from standard input too."""
    baton("context", "put", "notes", "-", stdin=b"one")
    second = baton.json("context", "put", "notes", "-", stdin=b"two")
    assert (second["version"], second["action"]) == ("1.0.1", "accepted")
    versions = baton.json("context", "history", "notes")["versions"]
    assert [(v["version"], v["parent"]) for v in versions] == [("1.0.1", "1.0.0"), ("1.0.0", None)]
    assert baton("context", "get", "notes", "--version", "1.0.0").stdout == b"one"


def test_context_put_can_refuse_an_old_base(baton):
    """A rejected write is exit code 4 with the head's version in the message."""
    baton("context", "put", "notes", "-", stdin=b"one")
    baton("context", "put", "notes", "-", stdin=b"two")
    old = ("context", "put", "notes", "-", "--base", "1.0.0", "--policy", "reject")
    assert "the head is 1.0.1, not 1.0.0" in baton.error(*old, stdin=b"three", code=4)
    assert baton("context", "get", "notes").stdout == b"two"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"ab\xffcd", "byte 0xff at byte offset 2"),
        (b"\x7fELF\0\0", "byte 0x00 at byte offset 4"),
        ("a".encode("utf-16-le"), "byte 0x00 at byte offset 1"),
    ],
)
def test_context_put_refuses_what_is_no_text(baton, data, told):
    """Binary data is wrong usage; the message has the file's name and the byte's offset."""
    said = baton.error("context", "put", "notes", baton.file("data.bin", data), code=2)
    assert "data.bin" in said
    assert told in said
    assert baton.json("context", "list") == {"sessions": [], "archived": []}


def test_context_list_and_show_describe_sessions(baton):
    """`list` has every session, `show` one, without content."""
    baton("context", "put", "a", "-", stdin=b"text")
    baton("context", "put", "b", "-", "--agent", "me", stdin=b"longer text")
    sessions = {info["session_id"]: info for info in baton.json("context", "list")["sessions"]}
    assert {name: info["size_bytes"] for name, info in sessions.items()} == {"a": 4, "b": 11}
    shown = baton.json("context", "show", "b")
    assert (shown["owner"], shown["version"]) == ("me", "1.0.0")
    assert b"1.0.0" in baton("context", "list").stdout
    assert b"11 B" in baton("context", "show", "b").stdout


def test_context_delete_asks_for_yes(baton):
    """Without --yes nothing is deleted; with it the session is gone."""
    baton("context", "put", "notes", "-", stdin=b"one")
    assert "--yes" in baton.error("context", "delete", "notes", code=2)
    assert baton("context", "get", "notes").stdout == b"one"
    baton("context", "delete", "notes", "--yes")
    assert "notes" in baton.error("context", "get", "notes", code=4)


def test_an_error_is_an_object_on_standard_error_with_json(baton):
    """With --json a failure is one JSON object, its type and message, and stdout stays empty."""
    said = json.loads(baton.error("context", "get", "nobody", "--json", code=4))
    assert said["error"]["type"] == "ContextNotFoundError"
    assert "nobody" in said["error"]["message"]


@pytest.mark.parametrize("wrong", [["get"], ["get", "a b"], ["frobnicate"], ["list", "--nope"]])
def test_wrong_usage_is_exit_code_2(baton, wrong):
    """Missing, malformed and unknown arguments are told on standard error."""
    assert baton.error("context", *wrong, code=2)


def test_a_wrong_setting_is_named(baton):
    """A refused variable is exit code 2 and stands in the message."""
    assert "BATON_LEASE_SECONDS" in baton.error("agents", code=2, BATON_LEASE_SECONDS="soon")


def test_an_unreachable_redis_is_no_reason_to_use_another(alone):
    """A URL that nobody answers is exit code 4; no server is started, no password shown."""
    url = "redis://me:s3cret@127.0.0.1:1/0"
    said = alone.error("context", "list", code=4, BATON_REDIS_URL=url)
    assert "does not answer" in said
    assert "s3cret" not in said
    assert not alone.state_dir.exists()


def test_commands_find_each_others_work_on_the_embedded_redis(alone):
    """Without a URL each command starts the embedded server, and stops it, over the same data."""
    alone("context", "put", "notes", "-", stdin=b"kept")
    assert running_url(server_folder(alone.state_dir)) is None
    assert alone("context", "get", "notes").stdout == b"kept"
    assert running_url(server_folder(alone.state_dir)) is None


def test_the_embedded_redis_can_be_forbidden(alone):
    """BATON_EMBEDDED_REDIS=never without a URL: exit code 4, nothing started."""
    assert "never" in alone.error("context", "list", code=4, BATON_EMBEDDED_REDIS="never")
    assert not alone.state_dir.exists()


def test_agents_tells_the_active_from_the_dead(baton, client):
    """An agent silent for longer than the setting is dead, without any sweep."""
    agent = AgentRegistry(client).register("tester", context_capacity=1, session_id="s")
    (listed,) = baton.json("agents")["agents"]
    assert (listed["agent_id"], listed["state"]) == (agent.agent_id, "active")
    (listed,) = baton.json("agents", BATON_AGENT_DEAD_AFTER_SECONDS="0.001")["agents"]
    assert listed["state"] == "dead"
    assert agent.agent_id.encode() in baton("agents").stdout


def submitted(baton, *tasks: str) -> str:
    baton("context", "put", "notes", "-", stdin=b"some text")
    done = baton("handoff", "submit", "notes", *tasks, "--json")
    assert b"no worker pools are up" in done.stderr
    return json.loads(done.stdout)["handoff"]


def test_a_handoff_can_be_submitted_seen_and_cancelled_without_workers(baton):
    """Submit records it and warns; show and list tell where it stands; cancel ends it."""
    handoff = submitted(baton, "one", "two")
    shown = baton.json("handoff", "show", handoff)
    assert set(shown) == {
        "breaker",
        "handoff",
        "status",
        "census",
        "session",
        "version",
        "result",
        "usage",
        "cost_usd",
        "cache",
        "nodes",
        "package",
        "acknowledgement",
    }
    assert [node["instruction"] for node in shown["nodes"]] == ["one", "two"]
    assert baton.json("handoff", "list")["handoffs"][0]["handoff_id"] == handoff
    assert baton.json("handoff", "cancel", handoff)["status"] == "cancelled"
    assert b"2 cancelled" in baton("handoff", "list").stdout
    assert baton.json("handoff", "cancel", handoff)["status"] == "cancelled"


def test_handoff_submitted_again_under_its_key_is_the_same(baton):
    """Whatever was written in between; another request under the key is exit code 2."""
    key = ("--idempotency-key", "order-7")
    first = submitted(baton, "one", "two", *key)
    assert submitted(baton, "one", "two", *key) == first
    assert submitted(baton, "one", "two") != first
    assert "idempotency_key" in baton.error("handoff", "submit", "notes", "else", *key, code=2)


def test_policy_goes_with_a_handoff_or_is_refused(baton, client):
    handoff = submitted(baton, "one", "two", "--policy", "quorum:2")
    assert HandoffView(client).outcome(handoff).policy == "quorum:2"
    for wrong in ("quorum:3", "most"):
        said = baton.error("handoff", "submit", "notes", "one", "two", "--policy", wrong, code=2)
        assert "policy" in said


def test_cancelled_handoff_can_be_retried(baton):
    """It runs again, all its nodes wait; one that has not ended is exit code 2."""
    handoff = submitted(baton, "one", "two")
    baton.error("handoff", "retry", handoff, code=2)
    baton("handoff", "cancel", handoff)
    shown = baton.json("handoff", "retry", handoff, "--node", "1")
    assert (shown["status"], shown["census"]["waiting"]) == ("running", 1)
    assert [node["state"] for node in shown["nodes"]] == ["cancelled", "waiting"]
    baton.error("handoff", "retry", "handoff_unknown", code=4)


def test_watch_replays_an_ended_handoff_with_its_exit_code(baton):
    """Each event is a line, the outcome the last; a cancelled handoff is exit code 5."""
    handoff = submitted(baton, "one")
    baton("handoff", "cancel", handoff)
    lines = baton("handoff", "watch", handoff, "--json", code=5).stdout.splitlines()
    *events, outcome = [json.loads(line) for line in lines]
    assert [event["state"] for event in events] == [
        "running", "cancelling", "cancelled", "cancelled",
    ]  # fmt: skip
    assert outcome["state"] == "cancelled"
    assert b"node 0 cancelled" in baton("handoff", "watch", handoff, code=5).stdout


def test_foreign_text_cannot_act_on_the_terminal(baton):
    """Markup in an instruction is shown as it is, control characters are escaped."""
    handoff = submitted(baton, "[red]x[/red] \x1b[2J\u202e :smile:")
    shown = baton("handoff", "show", handoff).stdout.decode()
    assert "[red]x[/red] \\x1b[2J\\u202e :smile:" in shown


def test_unknown_handoffs_and_blank_tasks_are_told(baton):
    """An unknown id is exit code 4; a malformed one, or a blank task, 2."""
    baton.error("handoff", "show", "handoff_unknown", code=4)
    baton.error("handoff", "watch", "not an id", code=2)
    assert "TASK 2" in baton.error("handoff", "submit", "notes", "one", " ", code=2)
    baton.error("handoff", "submit", "nobody", "one", code=4)


def test_status_tells_what_is_missing_and_starts_nothing(alone):
    """Without Redis it is exit code 1, with versions, and the state folder is not even made."""
    health = alone.json("status", code=1)
    assert not health["redis"]["reachable"]
    assert health["versions"]["celery"]
    assert "baton up" in health["missing"][0]
    assert b"missing: redis" in alone("status", code=1).stdout
    assert not alone.state_dir.exists()


def test_status_shows_pools_with_restarts_and_waits(baton, client):
    """All pools up is exit code 0; one that waits for its restart is 1, and why."""
    board = PoolBoard(client)
    assert "agents" in baton.json("status", code=1)["missing"][0]
    for pool in POOLS:
        board.report(pool, f"{pool}-1", {"pid": 7})
    health = baton.json("status")
    assert health["missing"] == []
    assert health["redis"]["maxmemory_policy"] == "noeviction"
    assert health["redis"]["append_only_file"]
    assert health["warnings"] == []
    watch = {"pid": None, "restarts": 3, "retry_in_seconds": 4.5, "last_exit": "exit code 1"}
    board.supervise("agents", "agents-1", watch)
    shown = baton("status", code=1).stdout.decode()
    assert "backing_off, again in 4.5 s" in shown
    assert "missing: pools: agents not up" in shown


def test_status_shows_sweeps_and_misses_late_ones(baton, client):
    """A sweep that has not succeeded for three periods is exit code 1, and which it is."""
    for pool in POOLS:
        PoolBoard(client).report(pool, f"{pool}-1", {"pid": 7})
    SweepBoard(client).run("nodes", 10, lambda _run: 3)
    health = baton.json("status")
    assert (health["overall_status"], health["probe"]["problem"]) == ("healthy", None)
    assert b"on time" in baton("status").stdout
    for field in ("succeeded_at_ms", "expected_since_ms"):
        client.hincrby("sweep:{nodes}:status", field, -31_000)
    shown = baton("status", code=1).stdout.decode()
    assert "missing: sweep nodes is late (every 10 s; last 3" in shown


def test_status_shows_how_the_archive_fares(baton, client):
    """What it told last; an index that does not find what is in it is missing."""
    board = PoolBoard(client)
    for pool in POOLS:
        board.report(pool, f"{pool}-1", {"pid": 7})
    report = ArchiveReport(
        checked_at_ms=client.time()[0] * 1000, period_ms=300_000, archived=3, copied=2, held=1,
        passages=9, rows=9, healthy=True, reason="", rebuild=False, waiting=1,
        purge_paused_until_ms=0, free_bytes=10 * 2**30,
    )  # fmt: skip
    put_report(client, report)
    shown = baton("status").stdout.decode()
    assert "3 archived (1 held, 1 not yet indexed); searchable, 9 passages; 10.0 GiB" in shown
    put_report(client, replace(report, rows=4))
    assert b"missing: archive: the index has 4 of 9 passages" in baton("status", code=1).stdout


def test_status_never_shows_a_password(alone):
    """Address and problem come without it, as text and as JSON."""
    for more in ([], ["--json"]):
        done = alone("status", *more, code=1, BATON_REDIS_URL="redis://:s3cret@127.0.0.1:1")
        assert b"127.0.0.1:1" in done.stdout
        assert b"s3cret" not in done.stdout + done.stderr


def test_run_refuses_wrong_input_before_anything_is_started(alone):
    """No task, a missing or wrong file, a bad id: exit code 2, the file named, nothing begun."""
    good = alone.file("good.txt", b"text")
    alone.file("bad.txt", b"text\xc3(")
    alone.error("run", "--context", good, code=2)
    alone.error("run", "task", code=2)
    assert "nowhere.txt" in alone.error("run", "--context", "nowhere.txt", "task", code=2)
    said = alone.error("run", "--context", good, "--context", "bad.txt", "task", code=2)
    assert "bad.txt" in said
    assert "byte offset 4" in said
    alone.error("run", "--context", good, "--session", "a b", "task", code=2)
    alone.error("run", "--context", good, "--runner", "a b", "task", code=2)
    alone.error("run", "--context", "-", "--context", "-", "task", code=2)
    alone.error("run", "--context", good, "task", code=2, BATON_MAX_CONTEXT_BYTES="3")
    assert not alone.state_dir.exists()


def test_run_without_the_application_says_so(alone):
    """With only the library installed, exit code 4 says what to do; the server is stopped again."""
    library = alone.place / "a" / "lib"
    shutil.copytree(Path(__file__).parents[2] / "src" / "baton", library / "baton")
    context = alone.file("good.txt", b"text")
    alone.environment["PYTHONPATH"] = str(library)
    said = alone.error("run", "--context", context, "task", code=4)
    assert "not installed here" in said
    assert "not installed here" in alone.error("up", code=4)
    assert running_url(server_folder(alone.state_dir)) is None


def test_audit_seal_and_verify_find_what_was_changed(baton, client):
    """Exit code 4 and the place, once a sealed entry is not what it was."""
    for text in (b"one", b"two", b"three"):
        baton("context", "put", "notes", "-", stdin=text)
    found = baton.json("audit", "verify", "notes")
    assert (found["ok"], found["entries"], found["unsealed_entries"]) == (True, 3, 3)
    assert b"can change them unseen" in baton("audit", "verify", "notes").stdout
    assert baton.json("audit", "seal")["sealed"] == 3
    assert baton.json("audit", "seal", "notes")["sealed"] == 0
    found = baton.json("audit", "verify", "notes")
    assert (found["ok"], found["segments"], found["anchored_segments"]) == (True, 1, 1)
    assert (baton.state_dir / "audit" / "heads.jsonl").is_file()
    audit = "context:claude_max:{notes}:audit"
    client.lset(audit, 1, client.lindex(audit, 1).replace(b"baton_cli", b"somebody"))
    found = baton.json("audit", "verify", "notes", code=4)
    assert found["problems"] == [
        {"kind": "entry", "number": 2, "text": "is not what segment 1 sealed"}
    ]
    assert (
        b"entry 2 is not what segment 1 sealed" in baton("audit", "verify", "notes", code=4).stdout
    )


def test_audit_show_lets_no_entry_forge_a_line(baton, client):
    """Newest first; what stands in Redis is escaped, and stays on its line."""
    baton("context", "put", "notes", "-", stdin=b"one")
    (entry,) = baton.json("audit", "show", "notes")["entries"]
    assert (entry["seq"], entry["operation"], entry["agent"]) == (1, "created", "baton_cli")
    forged = {
        "at": 1, "seq": 2, "session": "notes", "agent": "a\n9  2025-01-01  admin  purged",
        "operation": "read\x1b[2J", "version": "1.0.0", "details": {"a\nb": "c\rd"},
    }  # fmt: skip
    client.rpush("context:claude_max:{notes}:audit", json.dumps(forged))
    shown = baton("audit", "show", "notes").stdout
    assert len(shown.splitlines()) == 3
    assert shown.splitlines()[1].startswith(b"2 ")
    assert b"\x1b" not in shown
    assert len(baton("audit", "show", "notes", "--limit", "1").stdout.splitlines()) == 2


def test_audit_export_is_verified_from_the_file_alone(baton):
    """Without Redis; a changed file is exit code 4, another file exit code 2."""
    for text in (b"one", b"two"):
        baton("context", "put", "notes", "-", stdin=text)
    baton("audit", "seal", "notes")
    exported = baton.json("audit", "export", "notes", "-o", "notes.jsonl", "--trim")
    assert exported == {"session": "notes", "entries": 2, "missing": 0, "trimmed": 0}
    nowhere = {"BATON_REDIS_URL": "unix:///nowhere.sock"}
    found = baton.json("audit", "verify", "--file", "notes.jsonl", **nowhere)
    assert (found["ok"], found["sealed_entries"], found["anchored_segments"]) == (True, 2, 1)
    data = (baton.place / "notes.jsonl").read_bytes()
    baton.file("changed.jsonl", data.replace(b"baton_cli", b"somebody"))
    baton.json("audit", "verify", "--file", "changed.jsonl", code=4, **nowhere)
    baton.file("other.jsonl", b"{}\n")
    baton.error("audit", "verify", "--file", "other.jsonl", code=2)
    baton.error("audit", "verify", "--file", "none.jsonl", code=2)
    baton.error("audit", "verify", code=2)


def test_audit_is_shown_and_verified_from_the_archives_folder(baton, client):
    """Where Redis has lost it; exit code 4 once what lies there is not what was sealed."""
    for text in (b"one", b"two"):
        baton("context", "put", "notes", "-", stdin=text)
    baton("audit", "seal", "notes")
    path = baton.state_dir / "archive" / "audit.sqlite"
    trail = AuditTrail(client, FileAnchor(baton.state_dir / "audit"))
    with contextlib.closing(AuditFile(path)) as file:
        carry = AuditCarry(client, file, trail, keep_seconds=366 * 86_400)
        assert carry.run(progress=lambda _done: None, stop=lambda: False) == 1
    client.flushdb()
    shown = baton.json("audit", "show", "notes")["entries"]
    assert [entry["operation"] for entry in shown] == ["updated", "created"]
    found = baton.json("audit", "verify", "notes")
    assert (found["ok"], found["entries"], found["anchored_segments"]) == (True, 2, 1)
    assert baton.json("audit", "export", "notes", "-o", "notes.jsonl")["entries"] == 2
    found = baton.json("audit", "verify", "--file", "notes.jsonl")
    assert (found["ok"], found["entries"], found["anchored_segments"]) == (True, 2, 1)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE segments SET entries = x'00'")
    found = baton.json("audit", "verify", "notes", code=4)
    assert found["problems"][0]["text"].startswith("of chain ")


def test_audit_of_a_session_that_never_was_is_an_error(baton):
    for command in (("show",), ("verify",), ("export", "-o", "out.jsonl")):
        said = baton.error("audit", command[0], "nobody", *command[1:], code=4)
        assert "no audit trail" in said
    assert not (baton.place / "out.jsonl").exists()
