"""Keeps child processes running: starts them, restarts those that die, stops them all."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_LOG_BYTES: Final = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: a worker's name, its pool, its command and its log file.

    `environment` is its own, on top of what all have.
    """

    name: str
    pool: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between restarts: doubled from `min_seconds` to `max_seconds`.

    A process that lived for `max_seconds` begins again at `min_seconds`.
    """

    min_seconds: float
    max_seconds: float

    def delay_seconds(self, failures: int) -> float:
        """The wait after the `failures`-th death in a row, from 1 on."""
        # An exponent without bound would overflow in a pool that fails for days.
        return min(self.max_seconds, self.min_seconds * 2.0 ** min(failures - 1, 30))


@dataclass(slots=True)
class Child:
    """One program's process, and what became of those before it. Times are monotonic."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    due_at: float = 0.0
    restarts: int = 0
    failures: int = 0
    last_exit: str | None = None

    def report(self) -> dict[str, Any]:
        """The supervisor's word on it, as `PoolBoard.supervise` wants it."""
        process = self.process
        wait = max(0.0, self.due_at - time.monotonic())
        return {
            "pid": process.pid if process is not None else None,
            "restarts": self.restarts,
            "retry_in_seconds": round(wait, 1) if process is None else None,
            "last_exit": self.last_exit,
        }


@dataclass(slots=True)
class Supervisor:
    """Runs `programs` with `environment` in `folder`; `pass_fds` are inherited.

    Nothing happens between calls: `check` is to be called several times a second. Each child is
    its own session, so a terminal's Ctrl-C reaches only who supervises.
    """

    programs: Sequence[Program]
    environment: Mapping[str, str]
    folder: Path
    backoff: Backoff
    say: Callable[[str], None]
    pass_fds: tuple[int, ...] = ()
    children: list[Child] = field(init=False)

    def __post_init__(self) -> None:
        self.children = [Child(program) for program in self.programs]

    def start(self) -> None:
        """Start every program."""
        for child in self.children:
            _rotate(child.program.log)
            self._start(child)

    def check(self) -> None:
        """Notice who died, and start again whose wait is over."""
        for child in self.children:
            if child.process is None:
                if time.monotonic() >= child.due_at:
                    child.restarts += 1
                    self._start(child)
            elif child.process.poll() is not None:
                self._note_death(child, child.process.returncode)

    def running(self, pools: Sequence[str]) -> list[Child]:
        """Those of `pools` that still run."""
        return [
            child
            for child in self.children
            if child.program.pool in pools
            and child.process is not None
            and child.process.poll() is None
        ]

    def terminate(self, pools: Sequence[str]) -> None:
        """Ask those of `pools` for a warm stop. Does not wait; `check` would start them again."""
        for child in self.running(pools):
            if child.process is not None:
                child.process.terminate()

    def kill(self) -> None:
        """Kill whatever still runs, with all it started, and wait for its end."""
        for child in self.running([program.pool for program in self.programs]):
            if child.process is not None:
                # Not yet waited for, so the number is still its own.
                os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()

    def _start(self, child: Child) -> None:
        child.started_at = time.monotonic()
        with child.program.log.open("ab") as log:
            child.process = subprocess.Popen(
                child.program.command,
                cwd=self.folder,
                env={**self.environment, **child.program.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=self.pass_fds,
                start_new_session=True,
            )

    def _note_death(self, child: Child, code: int) -> None:
        now = time.monotonic()
        lived_long = now - child.started_at >= self.backoff.max_seconds
        child.failures = 1 if lived_long else child.failures + 1
        delay_seconds = self.backoff.delay_seconds(child.failures)
        child.process = None
        child.due_at = now + delay_seconds
        child.last_exit = _describe(code)
        self.say(
            f"{child.program.name} ended ({child.last_exit}); starting it again in "
            f"{delay_seconds:g} s. Its log: {child.program.log}"
        )


def _describe(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _rotate(log: Path) -> None:
    """One old log is kept; the new one is readable by its owner alone."""
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    log.touch(mode=0o600)
