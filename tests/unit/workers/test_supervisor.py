"""Supervision of child processes."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from waiting import until
from workers.supervisor import Backoff, Program, Supervisor

LIFELINE = """
import signal, sys, time
from workers import lifeline
if {deaf}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
lifeline.watch(int(sys.argv[1]), then_exit_seconds={patience})
print("watching", flush=True)
time.sleep(600)
"""


@pytest.fixture
def supervise(tmp_path):
    """A supervisor of one Python program; `said` collects what it says."""
    started = []

    def build(code: str, backoff: Backoff) -> tuple[Supervisor, list[str]]:
        said: list[str] = []
        program = Program("one", "pool", [sys.executable, "-c", code], tmp_path / "one.log")
        supervisor = Supervisor([program], dict(os.environ), tmp_path, backoff, said.append)
        started.append(supervisor)
        return supervisor, said

    yield build
    for supervisor in started:
        supervisor.kill()


def checked(supervisor: Supervisor, restarts: int) -> bool:
    supervisor.check()
    return supervisor.children[0].restarts >= restarts


def test_backoff_doubles_up_to_its_bound():
    """Each death in a row doubles the wait, and a thousand do not overflow it."""
    backoff = Backoff(0.5, 30.0)
    assert [backoff.delay_seconds(n) for n in (1, 2, 3, 6, 7, 1000)] == [0.5, 1, 2, 16, 30, 30]


def test_supervisor_waits_longer_after_each_death(supervise):
    """A program that keeps dying is restarted ever more slowly, each time with a word on it."""
    supervisor, said = supervise("raise SystemExit(3)", Backoff(0.01, 60.0))
    supervisor.start()
    until(lambda: checked(supervisor, 4), what="four restarts")
    assert "exit code 3" in said[0]
    assert [line.split(" in ")[1].split(" s.")[0] for line in said[:4]] == [
        "0.01",
        "0.02",
        "0.04",
        "0.08",
    ]


def test_supervisor_forgives_a_program_that_ran_well(supervise):
    """A death after a long life waits no longer than a first one."""
    supervisor, _ = supervise("raise SystemExit(1)", Backoff(0.001, 0.002))
    supervisor.start()
    until(lambda: checked(supervisor, 3), what="three restarts")
    assert supervisor.children[0].failures == 1


def test_supervisor_kills_what_a_program_started_too(supervise, tmp_path):
    """A child's own processes do not outlive it."""
    code = (
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path('pid').write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    supervisor, _ = supervise(code, Backoff(1, 2))
    supervisor.start()
    pid = until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    supervisor.kill()
    until(lambda: not lives(int(pid)), what="the grandchild's end")


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(("deaf", "patience", "code"), [(False, 600, -15), (True, 0.1, 75)])
def test_lifeline_ends_a_process_whose_parent_is_gone(deaf, patience, code):
    """The pipe's end means SIGTERM, and for a process that ignores it an exit in time."""
    theirs, ours = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", LIFELINE.format(deaf=deaf, patience=patience), str(theirs)],
        pass_fds=(theirs,),
        stdout=subprocess.PIPE,
    )
    os.close(theirs)
    with process.stdout as output:
        assert output.readline() == b"watching\n"
        assert process.poll() is None
        os.close(ours)
        assert process.wait(timeout=60) == code
