"""`baton archive …`, and what other commands say to a session that is archived or held."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from typing import Final

import pytest
from celery import Celery

from archive_bench import FACTS, QUESTIONS, essay
from baton import ContextStore, routes
from baton.archive.folder_lock import FolderLock
from baton.archive.requests import Request, RequestDesk, refuse
from baton.archive.sentence_transformer import SentenceTransformerEmbedder
from baton.cli.archiving import POOL_GONE_SECONDS, PoolWatch
from baton.errors import ArchiveAnswerError, InvalidInputError, SessionHeldError
from baton_command import BatonCommand

pytestmark = pytest.mark.parametrize("redis_server", ["system"], indirect=True)

TEXT = f"{essay(200)} {FACTS[0]} {essay(200)}"


@pytest.fixture
def command(tmp_path, redis_server, redis_client):
    """Makes `baton GROUP …`, all of one state folder."""

    def make(*group: str) -> BatonCommand:
        return BatonCommand(tmp_path, *group, BATON_REDIS_URL=redis_server.url)

    return make


@pytest.fixture
def archive(command):
    return command("archive")


@pytest.fixture
def loaded(monkeypatch, embedder):
    """The commands find the real model loaded."""
    monkeypatch.setattr(SentenceTransformerEmbedder, "from_settings", lambda _settings: embedder)


@pytest.fixture
def archived(archive, context, redis_client, embedder):
    """A session in the archive; marked sensitive, so that no model is needed for it."""
    context("put", "notes", "-", stdin=b"one")
    with contextlib.closing(ContextStore(redis_client)) as store:
        store.set_flag("notes", "sensitive", agent_id="a")
    assert archive.json("run", "notes")["index_state"] == "withheld"
    return "notes"


def environment(command: BatonCommand) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
    return kept | command._variables | {"TERM": "xterm", "COLUMNS": "100"}


def test_there_and_back(archive, context, loaded):
    """Archived, listed, found in other words, verified, restored to the byte, archived for less."""
    context("put", "notes", "-", "--agent", "me", "--meta", "team=blue", stdin=TEXT.encode())
    told = archive("run", "notes")
    assert (b"passages" in told.stdout, told.stderr) == (True, b"")
    (listed,) = archive.json("list")["sessions"]
    assert (listed["session_id"], listed["version"], listed["index_state"]) == (
        "notes", "1.0.0", "indexed",
    )  # fmt: skip
    assert b"notes" in archive("list").stdout
    (hit,) = archive.json("search", QUESTIONS[0], "--limit", "1", "--metadata", "team=blue")["hits"]
    assert FACTS[0] in hit["snippet"]
    found = archive("search", QUESTIONS[0], "--agent", "me", "--since", "2020-01-01").stdout
    assert b"notes@1.0.0 bytes " in found
    nothing = archive("search", QUESTIONS[0], "--metadata", "team=red")
    assert (nothing.stdout, nothing.stderr) == (b"", b"Nothing was found.\n")
    assert archive.json("verify", "notes") == {"ok": True, "damaged": {}}
    assert archive.json("reindex") == {"sessions": 1}
    assert archive.json("restore", "notes")["version"] == "1.0.1"
    assert context("get", "notes").stdout == TEXT.encode()
    assert archive.json("run", "notes")["embedded"] == 0
    assert archive.json("run", "notes")["outcome"] == "archived"
    (erased,) = archive.json("purge", "notes", "--yes")["erased"]
    assert erased["session"] == "notes"
    assert "holds no context" in context.error("get", "notes", code=4)
    assert archive.json("list") == {"sessions": []}


def test_what_is_asked_wrongly_opens_nothing(archive):
    """Exit code 2, the argument named; the archive's folder is not even made."""
    for arguments, named in (
        (("run", "a b"), "SESSION"),
        (("run", "notes", "--agent", "a b"), "--agent"),
        (("search", "x", "--session", "a b"), "--session"),
        (("search", "x", "--since", "soon"), "--since"),
        (("search", "x", "--metadata", "blue"), "--metadata"),
        (("search", "x", "--limit", "0"), "--limit"),
        (("purge", "notes"), "--yes"),
        (("search",), "QUESTION"),
    ):
        assert named in archive.error(*arguments, code=2)
    assert not (archive.place / "state").exists()


def test_what_is_not_there_is_told(archive, embedder):
    """Exit code 4, with the error as one JSON object where that is asked for."""
    assert "holds no context" in archive.error("run", "nobody", code=4)
    for name in ("restore", "verify"):
        assert "baton archive list" in archive.error(name, "nobody", code=4)
    said = archive.error("purge", "nobody", "--yes", "--json", code=4)
    assert said.startswith('{"error": {"type": "ContextNotFoundError"')
    assert len(said.splitlines()) == 1


def test_a_model_that_is_missing_leaves_the_session_in_redis(archive, context, embedder):
    """Typed, and it says which setting; nothing was let go of."""
    context("put", "notes", "-", stdin=b"one")
    said = archive.error("run", "notes", code=4, BATON_EMBEDDING_MODEL="/nowhere")
    assert "BATON_EMBEDDING_MODEL" in said
    assert context("get", "notes").stdout == b"one"


def test_ctrl_c_loses_nothing(archive, context, loaded, monkeypatch):
    """Exit code 130; the session is in Redis, and what was stored is not stored again."""

    def interrupt(place: str) -> None:
        if place == "archive.stored":
            raise KeyboardInterrupt

    context("put", "notes", "-", stdin=b"one")
    with monkeypatch.context() as patch:
        patch.setattr("baton.archive.archivist.reach", interrupt)
        assert "asked again" in archive.error("run", "notes", code=130)
    assert context("get", "notes").stdout == b"one"
    assert archive.json("verify") == {"ok": True, "damaged": {}}
    again = archive.json("run", "notes")
    assert (again["outcome"], again["embedded"]) == ("archived", 1)


def test_without_the_archives_packages(archive, command, context, monkeypatch):
    """It says what to install; a hold needs none of them while nothing was archived."""
    monkeypatch.setitem(sys.modules, "baton.archive.configured", None)
    assert "pip install 'baton[archive]'" in archive.error("list", code=4)
    context("put", "notes", "-", stdin=b"one")
    lifecycle = command("lifecycle")
    assert lifecycle.json("hold", "notes", "case 7")["changed"]
    assert "under hold" in context.error("delete", "notes", "--yes", code=4)
    assert lifecycle.json("sweep")["failed"] == {}
    assert lifecycle.json("release", "notes")["changed"]


def test_one_process_at_a_time(archive, embedder, monkeypatch):
    """Who has it is told, and what to do."""
    monkeypatch.setattr("baton.archive.configured.LOCK_SECONDS", 0.0)
    lock = FolderLock(archive.place / "state" / "archive", owner_pid=4711, seconds=0)
    try:
        said = archive.error("list", code=4)
    finally:
        lock.release()
    assert "in use by process 4711" in said
    assert "BATON_REDIS_URL" in said
    assert archive.json("list") == {"sessions": []}


def test_an_archived_session_is_listed_as_that(archived, context):
    """Beside those that are here, in a list of its own with --json."""
    context("put", "other", "-", stdin=b"two")
    listed = context.json("list")
    assert [each["session_id"] for each in listed["sessions"]] == ["other"]
    (tombstone,) = listed["archived"]
    assert set(tombstone) == {"session_id", "version", "archived_at", "purge_at", "hold"}
    assert (tombstone["session_id"], tombstone["hold"]) == ("notes", None)
    shown = context("list")
    assert b"notes    1.0.0    archived" in shown.stdout
    assert b"baton archive restore" in shown.stderr


RESTORE: Final = "baton archive restore notes"
REFUSED: Final = (
    *(("show",), ("get",), ("history",), ("read", "--bytes", "0:1"), ("collect",), ("freeze",)),
    *(("tags",), ("tag", "t"), ("untag", "t"), ("checkpoints",), ("conflicts",)),
    *(("rollback", "1.0.0"), ("diff", "1.0.0", "1.0.1"), ("fork", "more"), ("export",)),
    *(("put", "-"), ("put", "-", "--base", "1.0.0"), ("append", "-")),
)


def test_every_command_says_that_it_is_archived(archived, context):
    """And how it comes back, with exit code 4; `delete` names the purge. Nothing is written."""
    for name, *more in REFUSED:
        said = context.error(name, archived, *more, code=4, stdin=b"text")
        assert RESTORE in said, name
    assert "baton archive purge notes" in context.error("delete", archived, "--yes", code=4)
    assert context.json("list")["sessions"] == []


def test_nothing_is_handed_off_over_an_archived_session(archived, command):
    """Refused before an agent, a version, a handoff or a pool is begun."""
    command("").file("in.txt", b"text")
    assert RESTORE in command("handoff").error("submit", archived, "outline", code=4)
    said = command("run").error(
        "--session", archived, "--context", "in.txt", "outline", code=4
    )  # fmt: skip
    assert RESTORE in said
    assert "Starting" not in said
    assert command("agents").json()["agents"] == []
    assert command("handoff").json("list")["handoffs"] == []


def test_what_is_held_is_not_purged(archived, archive, command):
    """Until it is released; a reason that is none changes nothing."""
    lifecycle = command("lifecycle")
    lifecycle("hold", archived, "case 7")
    for reason in ("", "x" * 201, "a\nb"):
        assert "reason" in lifecycle.error("hold", archived, reason, code=2)
    assert "case 7" in archive.error("purge", archived, "--yes", code=4)
    (listed,) = archive.json("list")["sessions"]
    assert (listed["hold"], listed["purge_at"]) == ("case 7", None)
    assert b"case 7" in archive("list").stdout
    assert lifecycle.json("status", archived)["hold"] == "case 7"
    assert lifecycle.json("release", archived) == {
        "session": archived, "released": True, "changed": True,
    }  # fmt: skip
    archive("purge", archived, "--yes")


def test_an_error_of_input_comes_back_from_the_pool_as_it_was(redis_client):
    """Its exit code hangs on its type; other errors keep theirs too."""
    desk = RequestDesk(redis_client)
    for error in (InvalidInputError("question", "some", ""), SessionHeldError("held")):
        request_id = desk.leave(Request("list", "a"))
        refuse(desk, request_id, error)
        with pytest.raises(type(error)) as caught:
            desk.wait(request_id, 5)
        assert str(caught.value) == str(error)


def test_the_pool_answers_what_it_fails_at(redis_client, monkeypatch):
    """Whoever asked is told at once, with the kind of error alone; the task fails as it did."""
    desk = RequestDesk(redis_client)

    class Services:
        archive_desk = desk

        @property
        def archive(self):
            raise OSError("/secret/place is full")

    monkeypatch.setattr("tasks.archive.services_of", lambda _task: Services())
    request_id = desk.leave(Request("list", "a"))
    # An app of its own: which one is current here, other tests decide.
    with Celery("archive-test", set_as_current=False) as app:
        app.finalize()
        with pytest.raises(OSError, match="full"):
            app.tasks[routes.ARCHIVE_DO](request_id)
    with pytest.raises(ArchiveAnswerError, match=r"failed \(OSError\); its log"):
        desk.wait(request_id, 5)


def test_nobody_waits_for_a_pool_that_is_gone(redis_client, monkeypatch):
    """One that is away for less long than a restart takes is waited for."""
    desk = RequestDesk(redis_client)
    with pytest.raises(ArchiveAnswerError, match="stopped before it answered"):
        desk.wait(desk.leave(Request("list", "a")), 60, gone=lambda: True)
    now, runs = 0.0, True
    monkeypatch.setattr("baton.cli.archiving.time.monotonic", lambda: now)
    watch = PoolWatch(lambda: runs)
    now = 1_000.0
    assert not watch.gone()
    runs, now = False, now + 10
    assert not watch.gone()
    runs, now = True, now + POOL_GONE_SECONDS
    assert not watch.gone()
    runs, now = False, now + 10
    assert not watch.gone()
    now += POOL_GONE_SECONDS
    assert watch.gone()


def test_nothing_but_the_answer_is_printed(archive, context, embedder):
    """The libraries' warnings and bars reach neither stream, in a process that loads them."""
    context("put", "notes", "-", stdin=TEXT.encode())
    done = subprocess.run(
        [sys.executable, "-m", "baton", "archive", "run", "notes", "--json"],
        capture_output=True,
        env=environment(archive),
        check=True,
    )
    assert done.stderr == b""
    assert done.stdout.startswith(b"{\n")
    assert done.stdout.endswith(b"\n}\n")


def test_a_terminal_gets_bars(archived, archive):
    """On standard error; they are gone in the end."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "baton", "archive", "verify", "--json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment(archive),
    ) as process:
        os.close(theirs)
        shown = b""
        while data := _read(ours):
            shown += data
        os.close(ours)
        assert process.stdout is not None
        assert b'"ok": true' in process.stdout.read()
    assert process.returncode == 0
    assert b"opening the archive" in shown
    assert b"\x1b[2K" in shown  # it takes its line away


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # how Linux says that the other end is closed
        return b""
