"""Starts the application, `python -m workers`, from the checkout it runs from."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

import baton
from baton.cli.connection import make_folders
from baton.errors import PoolsUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from baton.cli.connection import Where

# What tells our checkout from another project that also has a folder called `workers`.
_MARKS: Final = ("workers/launcher.py", "config/queues.py", "tasks/handoff.py", "beat_schedule.py")
_POLL_SECONDS: Final = 0.05
_STOP_SECONDS: Final = 60.0
_HURRY_SECONDS: Final = 5.0
_LOG_BYTES: Final = 1024 * 1024
_TAIL_BYTES: Final = 4_000


def find_checkout() -> Path:
    """The folder that holds the application: that of this package's sources, or the current one.

    Raises:
        PoolsUnavailableError: only the library is installed; says what to do.
    """
    for folder in (Path(baton.__file__).resolve().parents[2], Path.cwd()):
        if all((folder / mark).is_file() for mark in _MARKS):
            return folder
    raise PoolsUnavailableError(
        "the application part of Baton (workers, tasks, config) is not installed here, only the "
        "library and this command. Run it in a checkout of Baton, use its image, or set "
        "BATON_REDIS_URL to the Redis of a stack that runs elsewhere"
    )


def command(*arguments: str) -> list[str]:
    """`python -m workers`. `-P`: a `workers` or `config` folder of the user's is not it."""
    return [sys.executable, "-P", "-m", "workers", *arguments]


def environment(checkout: Path, changed: Mapping[str, str | None]) -> dict[str, str]:
    """Ours with the checkout importable, and `changed`; None removes. Nothing is read from it."""
    path = os.pathsep.join([str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])])
    merged = {**os.environ, "PYTHONPATH": path, **changed}
    return {name: value for name, value in merged.items() if value is not None}


def settings_of(where: Where) -> dict[str, str | None]:
    """Variables that put the application on the very Redis that this command uses."""
    changed: dict[str, str | None] = {
        "BATON_STATE_DIR": str(where.settings.state_dir),
        "BATON_ALLOW_VOLATILE": str(where.settings.allow_volatile).lower(),
    }
    if not where.embedded:
        # It answered us; should it not answer now, another store would be no help.
        return changed | {"BATON_REDIS_URL": where.url, "BATON_EMBEDDED_REDIS": "never"}
    changed["BATON_REDIS_URL"] = None
    if where.replaced:  # they belong to the Redis that did not answer
        changed |= {"BATON_BROKER_URL": None, "BATON_RESULT_URL": None}
    return changed


class Application:
    """One `python -m workers`, a child that ends when we do, however we do.

    It is a session of its own, so a terminal's Ctrl-C reaches us alone.
    """

    def __init__(self, where: Where, checkout: Path) -> None:
        make_folders(where.settings.state_dir)
        self.log = where.settings.state_dir / "logs" / "launcher.log"
        self._log_start = _rotate(self.log)
        self._ready_pipe, their_ready = os.pipe()
        their_lifeline, lifeline = os.pipe()
        self._pipes = [self._ready_pipe, lifeline]
        try:
            self._process = self._start(where, checkout, their_ready, their_lifeline)
        except BaseException:
            self._close_pipes()
            raise
        finally:
            os.close(their_ready)
            os.close(their_lifeline)
        self._said = b""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def ready(self, wait_seconds: float) -> dict[str, Any] | None:
        """Its ready line, waiting at most that long; None while there is none."""
        if not self._said.endswith(b"\n"):
            readable, _, _ = select.select([self._ready_pipe], [], [], wait_seconds)
            # At its end, not readable for lack of a writer: then `running` tells.
            data = os.read(self._ready_pipe, 65536) if readable else b""
            if readable and not data:
                time.sleep(min(wait_seconds, _POLL_SECONDS))
            self._said += data
        if not self._said.endswith(b"\n"):
            return None
        line: dict[str, Any] = json.loads(self._said)
        return line

    def last_words(self) -> str:
        """The end of what it wrote since it was started."""
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, end - _TAIL_BYTES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-12:])

    def stop(self, hurry: Callable[[], bool]) -> None:
        """Stop it with all it started. Warm; by force once `hurry` is true, or it takes too long.

        Returns when no process is left.
        """
        family = self._family()
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        if not self._await_end(_STOP_SECONDS, hurry):
            # A second signal, of another number lest the two become one: it stops at once.
            self._process.send_signal(signal.SIGINT)
            self._await_end(_HURRY_SECONDS, lambda: False)
        self._close_pipes()
        _kill(family)
        self._process.wait()

    def _start(
        self, where: Where, checkout: Path, ready_fd: int, lifeline_fd: int
    ) -> subprocess.Popen[bytes]:
        # Flower would be gone before anyone looked.
        changed = settings_of(where) | {
            "BATON_LIFELINE_FD": str(lifeline_fd),
            "BATON_FLOWER": "off",
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command("--ready-fd", str(ready_fd)),
                env=environment(checkout, changed),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(ready_fd, lifeline_fd),
                start_new_session=True,
            )

    def _await_end(self, seconds: float, hurry: Callable[[], bool]) -> bool:
        end = time.monotonic() + seconds
        while self.running and not hurry() and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        return not self.running

    def _family(self) -> list[psutil.Process]:
        """It and what it started, told apart from strangers that get their numbers later."""
        try:
            process = psutil.Process(self._process.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _close_pipes(self) -> None:
        while self._pipes:
            os.close(self._pipes.pop())


def _kill(family: list[psutil.Process]) -> None:
    """Kill who is left: children of a launcher that did not get to stop them."""
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=_HURRY_SECONDS)


def _rotate(log: Path) -> int:
    """Begin a new log where the old one is long; the size of the one in use."""
    log.touch(mode=0o600)
    size = log.stat().st_size
    if size <= _LOG_BYTES:
        return size
    log.replace(log.with_suffix(".log.1"))
    log.touch(mode=0o600)
    return 0
