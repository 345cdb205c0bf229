"""`baton run` and `baton up` as a user meets them: real processes, from a folder of their own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import psutil
import pytest
import redis

from baton.embedded import EmbeddedRedis, running_url, server_folder
from waiting import until

KEYS = {
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
}
FUNCTIONS = """
import pathlib, time

def shout(node):
    return node.context.upper()

def picky(node):
    if node.instruction == "bad":
        raise ValueError("no [red]\\x1b[2J way")
    return "[bold]fine[/bold] \\x1b[31m"

def family(node):
    if node.children:
        return f"{len(node.children)} children"
    if node.instruction == "parent":
        node.spawn(["child", "child"], then="sum up")
    return "draft"

def wait(node):
    node.progress("waiting")
    while not pathlib.Path(node.context.strip()).exists():
        node.raise_if_cancelled()
        time.sleep(0.05)
    return "waited"

def hang(node):
    node.progress("hanging")
    time.sleep(10_000)
"""
RUNNERS = {name: f"user_functions:{name}" for name in ("shout", "picky", "family", "wait", "hang")}

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


class Started:
    """A running `baton`; its output goes to files, so that it never waits for a reader."""

    def __init__(self, place: Place, arguments: tuple[str, ...], **variables: str) -> None:
        number = len(place.started)
        self._out, self._err = (place.folder / f"{number}.{end}" for end in ("out", "err"))
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = psutil.Popen(
                [sys.executable, "-m", "baton", *arguments],
                cwd=place.folder,
                env=place.environment | variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def until_said(self, text: str) -> None:
        until(lambda: text in self.err or self.ended, 60, what=f"{text!r} on standard error")
        assert text in self.err, self.err

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def end(self, how: signal.Signals | None = None) -> int:
        if how is not None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=90)
        assert "Traceback" not in self.err, self.err
        return code


class Place:
    """A user's folder, with a state folder of its own."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.started: list[Started] = []
        kept = {k: v for k, v in os.environ.items() if not k.startswith("BATON_")}
        self.environment = kept | {
            "BATON_STATE_DIR": str(self.state_dir),
            "BATON_AGENTS_THREADS": "4",
            "BATON_RUNNER_FUNCTIONS": json.dumps(RUNNERS),
            "BATON_LEASE_SECONDS": "3",
            "BATON_NODE_SWEEP_SECONDS": "1",
            "BATON_VISIBILITY_TIMEOUT_SECONDS": "5",
            "BATON_FLOWER": "off",
        }
        self.environment |= variables
        (folder / "user_functions.py").write_text(FUNCTIONS)
        # Whoever runs in a folder with a package of this name must not get it for ours.
        (folder / "workers").mkdir()
        (folder / "workers" / "__init__.py").write_text("raise ImportError('not ours')")
        (folder / "context.txt").write_text("a flag\n")
        self.flag = folder / "flag"
        (folder / "flag.txt").write_text(f"{self.flag}\n")  # what the runner `wait` waits for

    def start(self, *arguments: str, **variables: str) -> Started:
        self.started.append(Started(self, arguments, **variables))
        return self.started[-1]

    def baton(self, *arguments: str, code: int = 0, **variables: str) -> Started:
        done = self.start(*arguments, **variables)
        assert done.end() == code, done.err
        return done

    def run(self, *arguments: str, code: int = 0, **variables: str) -> Started:
        return self.baton("run", "--context", "context.txt", *arguments, code=code, **variables)

    def left(self) -> list[psutil.Process]:
        """Processes that have this state folder: those of the stack, whoever started them."""
        mine = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("BATON_STATE_DIR") == str(self.state_dir):
                    mine.append(process)
        return mine

    def assert_nothing_left(self) -> None:
        assert self.left() == []
        assert running_url(server_folder(self.state_dir)) is None

    def clean_up(self) -> None:
        for process in self.left():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for started in self.started:
            started.process.wait()
        with contextlib.suppress(FileNotFoundError), EmbeddedRedis(server_folder(self.state_dir)):
            pass  # whoever is its last user stops it
        shutil.rmtree(self.folder)


@pytest.fixture
def place():
    place = Place(Path(tempfile.mkdtemp(prefix="baton-test-")))
    yield place
    place.clean_up()


@pytest.fixture(scope="module")
def up_place():
    """A place where `baton up` runs."""
    place = Place(Path(tempfile.mkdtemp(prefix="baton-test-")))
    up = place.start("up", "--json")
    try:
        until(lambda: up.out.endswith("\n") or up.ended, 90, what="a ready line")
        assert json.loads(up.out)["embedded"], up.err
        yield place
        assert up.end(signal.SIGINT) == 0
        place.assert_nothing_left()
    finally:
        place.clean_up()


def handoff_of(started: Started) -> dict:
    answer = json.loads(started.out)
    assert set(answer) == KEYS
    return answer


def test_run_brings_its_own_stack_and_leaves_a_session(place):
    """Files in, merged result out, nothing left running; a later command finds the session."""
    done = place.run("--runner", "shout", "one", "two")
    for expected in ("2 nodes: 2 ok", "status   done", "A FLAG", "1.0.1"):
        assert expected in done.out
    assert "node 1 ok" in done.err
    place.assert_nothing_left()
    (session,) = json.loads(place.baton("context", "list", "--json").out)["sessions"]
    assert session["version"] == "1.0.1"
    content = place.baton("context", "get", session["session_id"]).out
    assert content.startswith("a flag\n\n## Work log")
    assert "A FLAG" in content
    place.assert_nothing_left()


def test_run_prints_one_object(up_place):
    """With --json standard output is one object; a second run writes on top of the session."""
    first = up_place.run("--json", "--session", "objects", "outline", "count flag")
    answer = handoff_of(first)
    assert (answer["status"], answer["session"], answer["version"]) == ("done", "objects", "1.0.1")
    assert answer["census"]["ok"] == answer["census"]["total"] == len(answer["nodes"]) == 2
    assert "Work log" in answer["result"]
    assert "Starting worker pools" not in first.err
    second = handoff_of(up_place.run("--json", "--session", "objects", "outline"))
    assert second["version"] == "1.0.3"


def test_run_takes_several_files_under_their_names(up_place):
    """Workers see each file under a heading with its name."""
    (up_place.folder / "second.txt").write_text("more")
    answer = handoff_of(up_place.run("--context", "second.txt", "--runner", "shout", "--json", "x"))
    assert "# CONTEXT.TXT\n\nA FLAG\n\n# SECOND.TXT\n\nMORE" in answer["result"]


def test_run_tells_a_degraded_and_a_failed_handoff(up_place):
    """A task without result is exit code 3 with its reason; none with one is 4."""
    done = up_place.run("--runner", "picky", "good", "bad", code=3)
    assert "2 nodes: 1 ok, 1 failed" in done.out
    assert "node 1 failed" in done.out
    failed = handoff_of(up_place.run("--runner", "picky", "--json", "bad", code=4))
    assert (failed["status"], failed["version"]) == ("failed", None)


def test_run_draws_a_tree_on_a_terminal_and_obeys_no_result(up_place):
    """The tree has children under parents; markup and control characters of a result are text."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "baton", "run", "--context", "context.txt",
         "--runner", "picky", "good"],
        cwd=up_place.folder, env=up_place.environment | {"TERM": "xterm", "COLUMNS": "100"},
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # how Linux tells that the other end is closed
        while data := os.read(ours, 65536):
            seen += data
    os.close(ours)
    assert process.wait(timeout=60) == 0
    assert b"1 of 1 nodes ended" in seen
    assert b"[bold]fine[/bold] \\x1b[31m" in seen
    assert b"fine \x1b[31m" not in seen


def test_a_handoff_with_children_is_shown_as_a_tree(up_place):
    """`handoff show` draws children under their parent; `watch` and `list` know it too."""
    run = handoff_of(up_place.run("--runner", "family", "--json", "parent"))
    handoff = run["handoff"]
    assert [node["node_id"] for node in run["nodes"]] == ["0", "0.0", "0.1"]
    assert "0.1  ok" in up_place.baton("handoff", "show", handoff).out
    assert "node 0.1 ok" in up_place.baton("handoff", "watch", handoff).out
    assert handoff in up_place.baton("handoff", "list").out
    up_place.baton("handoff", "cancel", handoff, code=4)


def test_submit_can_wait_for_the_result(up_place):
    """`handoff submit --wait` prints what `run` prints."""
    up_place.run("--session", "waiting", "outline")
    done = up_place.baton("handoff", "submit", "waiting", "outline", "--wait", "--json")
    assert handoff_of(done)["status"] == "done"


def test_status_is_content_with_a_running_stack(up_place):
    """With all pools up the exit code is 0, and each pool is listed."""
    shown = up_place.baton("status").out
    for pool in ("agents", "context", "lifecycle", "archive", "beat"):
        assert f"{pool}-" in shown


def test_run_out_of_time_is_cancelled(up_place):
    """--timeout cancels the handoff, which is exit code 5; the stack goes on."""
    done = up_place.run("--runner", "wait", "--timeout", "1", "--json", "x", code=5)
    assert handoff_of(done)["status"] == "cancelled"
    assert "Out of time" in done.err
    up_place.baton("status")


def test_an_interrupted_run_cancels_its_handoff_on_a_stack_that_goes_on(up_place):
    """Ctrl-C: the workers acknowledge, exit code 5, the census has the cancelled node."""
    run = up_place.start("run", "--context", "flag.txt", "--runner", "wait", "--json", "x")
    run.until_said("node 0: waiting")
    assert run.end(signal.SIGINT) == 5
    answer = handoff_of(run)
    assert (answer["status"], answer["census"]["cancelled"]) == ("cancelled", 1)
    up_place.baton("status")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_what_it_started(place, how):
    """Ctrl-C and SIGTERM: cancelled, exit code 5, no process left."""
    run = place.start("run", "--context", "flag.txt", "--runner", "wait", "x")
    run.until_said("node 0: waiting")
    assert run.end(how) == 5
    assert "status   cancelled" in run.out
    place.assert_nothing_left()


def test_an_interrupt_before_the_stack_is_ready_leaves_nothing(place):
    """Ctrl-C while the pools start: exit code 5, no process left."""
    run = place.start("run", "--context", "context.txt", "x")
    run.until_said("Starting worker pools")
    until(lambda: len(place.left()) > 2, what="the pools' processes")
    assert run.end(signal.SIGINT) == 5
    assert run.out == ""
    place.assert_nothing_left()


def test_an_interrupt_while_a_file_is_read_is_a_cancelled_run(place):
    """Ctrl-C before anything was begun: exit code 5, and no state folder."""
    fifo = place.folder / "fifo"
    os.mkfifo(fifo)
    run = place.start("run", "--context", "fifo", "x")
    writer = until(lambda: opened_to_write(fifo), what="the reader of the file")
    os.write(writer, b"x")
    until(lambda: waits_for_more(run.process, writer), what="a command that waits for more of it")
    assert run.end(signal.SIGINT) == 5
    os.close(writer)
    assert "before anything was handed off" in run.err
    assert not place.state_dir.exists()


def waits_for_more(process, writer: int) -> bool:
    """Whether it has read what was written: an interrupt before a read would not end that."""
    unread = fcntl.ioctl(writer, termios.FIONREAD, bytes(4))
    return unread == bytes(4) and process.status() == psutil.STATUS_SLEEPING


def opened_to_write(fifo: Path) -> int | None:
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # nobody reads it
        return None


def test_an_interrupt_while_the_launcher_is_loaded_ends_it_in_order(place):
    """Ctrl-C amid the imports of `baton up`: exit code 5 and no traceback."""
    up = place.start("up")
    until(lambda: "workers" in up.process.cmdline(), what="the launcher in the command's place")
    assert up.end(signal.SIGINT) == 5
    place.assert_nothing_left()


def test_a_second_interrupt_leaves_at_once(place):
    """A task that never returns does not hold up a second Ctrl-C, and does not survive it."""
    run = place.start(
        "run", "--context", "context.txt", "--runner", "hang", "x",
        BATON_WARM_SHUTDOWN_SECONDS="3000",
    )  # fmt: skip
    run.until_said("node 0: hanging")
    run.process.send_signal(signal.SIGINT)
    run.until_said("Interrupted")
    assert run.end(signal.SIGINT) == 5
    place.assert_nothing_left()


def test_a_killed_run_leaves_nothing_for_long(place):
    """kill -9 of `baton run`: the stack it started stops by itself, Redis with it."""
    run = place.start("run", "--context", "flag.txt", "--runner", "wait", "x")
    run.until_said("node 0: waiting")
    run.process.kill()
    run.process.wait()
    place.flag.touch()
    until(lambda: not place.left(), 60, what="the end of the stack")
    until(lambda: running_url(server_folder(place.state_dir)) is None, what="the end of Redis")


def test_a_run_outlives_the_stack_it_used(place):
    """When `baton up` stops in the middle, the run starts pools of its own and finishes."""
    up = place.start("up", "--json", BATON_WARM_SHUTDOWN_SECONDS="0")
    until(lambda: up.out.endswith("\n") or up.ended, 90, what="a ready line")
    run = place.start("run", "--context", "flag.txt", "--runner", "wait", "--json", "x")
    run.until_said("node 0: waiting")
    assert up.end(signal.SIGINT) == 0
    run.until_said("worker pools in use have stopped")
    place.flag.touch()
    assert run.end() == 0, run.err
    assert handoff_of(run)["status"] == "done"
    place.assert_nothing_left()


def test_run_warns_before_it_replaces_a_silent_redis(place):
    """A URL that nobody answers is loudly replaced, with its broker; `never` makes it an error."""
    silent = {
        "BATON_REDIS_URL": f"unix://{place.folder}/nobody.sock",
        "BATON_BROKER_URL": f"unix://{place.folder}/nobody.sock?db=1",
    }
    failed = place.run("x", code=4, BATON_EMBEDDED_REDIS="never", **silent)
    assert "does not answer" in failed.err
    assert not place.state_dir.exists()
    done = place.run("outline", **silent)
    assert "WARNING" in done.err
    assert "status   done" in done.out
    place.assert_nothing_left()


@pytest.mark.parametrize("redis_server", ["system"], indirect=True)
def test_run_starts_no_pools_on_a_redis_that_keeps_nothing(place, redis_server):
    """B1: refused before anything is stored; `--allow-volatile` runs there, with a warning."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        refused = place.run("x", code=4, BATON_REDIS_URL=redis_server.url)
        assert "no append-only file" in refused.err
        assert "--allow-volatile" in refused.err
        assert client.keys("*") == []
        done = place.run("outline", "--allow-volatile", BATON_REDIS_URL=redis_server.url)
        assert "status   done" in done.out
        assert "WARNING" in (place.state_dir / "logs" / "launcher.log").read_text()
        client.flushall()
    place.assert_nothing_left()


@pytest.mark.parametrize("redis_server", ["system"], indirect=True)
def test_up_on_a_redis_that_keeps_nothing_needs_to_be_told(place, redis_server):
    """B1: exit code 4 by itself; ready with `--allow-volatile`, for its pools too."""
    url = {"BATON_REDIS_URL": redis_server.url}
    refused = place.baton("up", "--json", "--metrics-port", "0", code=4, **url)
    assert "CONFIG SET appendonly yes" in refused.err
    up = place.start("up", "--json", "--metrics-port", "0", "--allow-volatile", **url)
    until(lambda: up.out.endswith("\n") or up.ended, 90, what="a ready line")
    assert "WARNING" in up.err
    assert up.end(signal.SIGINT) == 0, up.err
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    place.assert_nothing_left()


def test_run_starts_pools_on_a_redis_that_has_none(place):
    """A reachable Redis without workers gets some for the run; Redis and session stay."""
    folder = Path(tempfile.mkdtemp(prefix="baton-test-"))
    with EmbeddedRedis(folder) as url, redis.Redis.from_url(url) as client:
        done = place.run("--json", "outline", BATON_REDIS_URL=url)
        assert handoff_of(done)["status"] == "done"
        assert place.left() == []
        assert client.ping()
        assert client.keys("pools:{*") == []
    shutil.rmtree(folder)
    assert not (place.state_dir / "redis").exists()


def test_run_shows_why_pools_do_not_start(place):
    """A stack that does not come up is exit code 4, with the end of its log; nothing is left."""
    done = place.run("x", code=4, BATON_AGENTS_THREADS="many")
    assert "BATON_AGENTS_THREADS" in done.err
    assert "launcher.log" in done.err
    place.assert_nothing_left()
