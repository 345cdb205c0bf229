"""Runs the whole stack as one process tree: Redis if none answers, the pools, beat, Flower.

`python -m workers` starts it; Ctrl-C or SIGTERM stops all that it started.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from baton.access.users import LAUNCHER
from baton.errors import BatonError, EmbeddedRedisError, InvalidInputError
from baton.key_providers.configured import configured_provider
from baton.login_url import without_login
from baton.redis_client import connect, redact_url
from baton.settings import load_settings, logged_in
from baton.swarm.pools import PoolBoard
from config.settings import AppSettings
from workers import lifeline
from workers.flower_plan import PASSWORD_VARIABLES, FlowerPlan, plan_flower
from workers.metrics_endpoint import metrics_places, with_metrics
from workers.pools import beat_command, flower_command, pools, worker_command
from workers.reporting import BEAT, FLOWER, Reporter
from workers.store_server import StoreServer, open_store_server
from workers.supervisor import Backoff, Child, Program, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

DONE: Final = 0
USAGE: Final = 2
FAILED: Final = 4
CANCELLED: Final = 5

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CHECKOUT: Final = Path(__file__).resolve().parent.parent
_TICK_SECONDS: Final = 0.1
_REPORT_SECONDS: Final = 1.0
_REDIS_CHECK_SECONDS: Final = 1.0
_BEAT_STOP_SECONDS: Final = 5.0
_FLOWER_STOP_SECONDS: Final = 3.0
_GRACE_SECONDS: Final = 3.0
_DEATHS_BEFORE_READY: Final = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop.

    Returns the exit code: 0 stopped, 2 usage, 4 could not run, 5 stopped before it ran.
    """
    options = _parse(arguments)
    # Until the launcher counts them, each ends us by way of `finally`.
    _handle_signals(signal.default_int_handler)
    try:
        # `baton up` held back those that came before.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
        settings = _own(_absolute(load_settings(AppSettings)))
        settings = with_metrics(settings, options.metrics_port)
        if options.allow_volatile:
            settings = settings.model_copy(update={"allow_volatile": True})
        _check_master_keys(settings)
        _make_folders(settings.state_dir)
        flower = plan_flower(settings, _say)
        with open_store_server(settings, _say) as server:
            code = Launcher(settings, server, flower, ready_fd=options.ready_fd).run()
        _say("Stopped.")
    except KeyboardInterrupt:
        return CANCELLED
    except InvalidInputError as error:
        _say(f"error: {error}")
        return USAGE
    except BatonError as error:
        _say(f"error: {error}")
        return FAILED
    return code


class Launcher:
    """One run of the stack on a Redis that is already open. `run` is to be called once."""

    def __init__(
        self,
        settings: AppSettings,
        server: StoreServer,
        flower: FlowerPlan | None = None,
        *,
        ready_fd: int | None = None,
    ) -> None:
        # Flower lives from events.
        events = settings.events or flower is not None
        self._settings = settings.model_copy(update={"events": events})
        self._server = server
        self._flower = flower
        self._ready_fd = ready_fd
        self._ready = False
        self._stops = 0
        self._redis_due_at = 0.0
        self._store = connect(server.url, settings)
        self._board = PoolBoard(self._store)

    def run(self) -> int:
        """Start everything, supervise it until a signal, stop everything."""
        _handle_signals(self._on_signal)
        with self._lifeline() as fd:
            supervisor = self._supervisor(fd)
            reporter = Reporter(lambda: self._report(supervisor), _REPORT_SECONDS)
            try:
                self._announce()
                supervisor.start()
                reporter.start()
                return self._watch(supervisor)
            finally:
                reporter.stop()
                self._stop(supervisor)
                self._withdraw(supervisor)
                self._store.close()

    def _watch(self, supervisor: Supervisor) -> int:
        while not self._stops:
            supervisor.check()
            self._keep_redis()
            failed = self._never_started(supervisor)
            if failed is not None:
                _say(f"error: {failed.program.name} does not start. {_tail(failed.program.log)}")
                return FAILED
            time.sleep(_TICK_SECONDS)
        return DONE

    def _never_started(self, supervisor: Supervisor) -> Child | None:
        """A child that keeps dying before the stack was ever ready; later ones are retried."""
        if self._ready:
            return None
        dying = (c for c in self._needed(supervisor) if c.failures >= _DEATHS_BEFORE_READY)
        return next(dying, None)

    def _needed(self, supervisor: Supervisor) -> list[Child]:
        """Those without which there is no stack: a Flower that nobody asked for may be late."""
        optional = self._flower is not None and not self._flower.required
        return [c for c in supervisor.children if not (optional and c.program.pool == FLOWER)]

    def _keep_redis(self) -> None:
        """Start the embedded server again if it died; whoever else runs a Redis minds it."""
        if self._server.embedded is None or time.monotonic() < self._redis_due_at:
            return
        self._redis_due_at = time.monotonic() + _REDIS_CHECK_SECONDS
        try:
            self._server.embedded.ensure_running()
        except EmbeddedRedisError as error:
            _say(f"WARNING: {error}")
            self._redis_due_at += self._settings.restart_backoff_max_seconds

    def _stop(self, supervisor: Supervisor) -> None:
        """Beat first, so that nothing new comes; then the pools, warm; Flower; then by force."""
        names = [pool.name for pool in pools(self._settings)]
        if supervisor.running([*names, BEAT]):
            warm_seconds = self._settings.warm_shutdown_seconds
            _say(f"Stopping; running tasks have {warm_seconds:g} s. Ctrl-C again stops at once.")
            supervisor.terminate([BEAT])
            self._await_end(supervisor, [BEAT], _BEAT_STOP_SECONDS)
            supervisor.terminate(names)
            self._await_end(supervisor, names, warm_seconds + _GRACE_SECONDS)
            supervisor.terminate([FLOWER])
            self._await_end(supervisor, [FLOWER], _FLOWER_STOP_SECONDS)
        supervisor.kill()

    def _await_end(self, supervisor: Supervisor, names: Sequence[str], seconds: float) -> None:
        end = time.monotonic() + seconds
        while supervisor.running(names) and self._stops < 2 and time.monotonic() < end:
            time.sleep(_TICK_SECONDS)

    def _report(self, supervisor: Supervisor) -> None:
        """Tell the board; and once, whoever waits, that all are up. Runs in the reporter."""
        for child in supervisor.children:
            self._board.supervise(child.program.pool, child.program.name, child.report())
        if not self._ready and self._all_up(supervisor):
            self._ready = True
            _say("Ready. Ctrl-C stops all of it.")
            self._write_ready()

    def _all_up(self, supervisor: Supervisor) -> bool:
        workers = [worker for pool in self._board.list() for worker in pool.workers]
        up = {worker.worker for worker in workers if worker.state == "up"}
        return all(child.program.name in up for child in self._needed(supervisor))

    def _write_ready(self) -> None:
        if self._ready_fd is None:
            return
        line = {
            "redis_url": redact_url(self._server.url),
            "embedded": self._server.embedded is not None,
            "pid": os.getpid(),
            "logs": str(_log_folder(self._settings)),
            "flower_url": self._flower.url if self._flower is not None else None,
        }
        with contextlib.suppress(BrokenPipeError):  # who asked has gone; the stack has not
            os.write(self._ready_fd, json.dumps(line).encode() + b"\n")
        os.close(self._ready_fd)

    def _withdraw(self, supervisor: Supervisor) -> None:
        with contextlib.suppress(BatonError):
            for program in supervisor.programs:
                self._board.withdraw(program.pool, program.name)

    def _supervisor(self, lifeline_fd: int) -> Supervisor:
        settings = self._settings
        backoff = Backoff(
            settings.restart_backoff_min_seconds, settings.restart_backoff_max_seconds
        )
        return Supervisor(
            programs=_programs(settings, self._flower),
            environment=self._environment(lifeline_fd),
            folder=_CHECKOUT,
            backoff=backoff,
            say=_say,
            pass_fds=(lifeline_fd,),
        )

    def _environment(self, lifeline_fd: int) -> dict[str, str]:
        """Ours, with what was decided here. Not a reading of settings: children do that."""
        environment = dict(os.environ)
        if self._server.replaced:
            # They belong to the Redis that did not answer.
            environment.pop("BATON_BROKER_URL", None)
            environment.pop("BATON_RESULT_URL", None)
        for name in PASSWORD_VARIABLES:  # Flower's alone
            environment.pop(name, None)
        runner_path = self._settings.runner_path or Path.cwd()
        if self._settings.metrics_port is not None:
            environment["BATON_METRICS_PORT"] = str(self._settings.metrics_port)
        return environment | {
            "BATON_REDIS_URL": self._url(),
            "BATON_STATE_DIR": str(self._settings.state_dir),
            "BATON_RUNNER_PATH": str(runner_path),
            "BATON_EVENTS": str(self._settings.events).lower(),
            "BATON_ALLOW_VOLATILE": str(self._settings.allow_volatile).lower(),
            "BATON_LIFELINE_FD": str(lifeline_fd),
        }

    def _url(self) -> str:
        """For children, who log in themselves where each has its own user."""
        url = self._server.url
        return url if self._settings.acl_dir is None else without_login(url)

    def _announce(self) -> None:
        kind = "embedded, " if self._server.embedded is not None else ""
        sizes = [f"{p.name} {p.processes}x{p.threads}" for p in pools(self._settings)]
        _say(f"Redis: {kind}{redact_url(self._server.url)}")
        _say(f"Pools: {', '.join(sizes)}; beat")
        if self._flower is not None:
            _say(self._flower.announcement())
        metrics = metrics_places(self._settings)
        if metrics is not None:
            _say(f"Metrics: {metrics}")
        _say(f"Logs: {_log_folder(self._settings)}")
        if self._settings.failpoints:
            _say("WARNING: BATON_FAILPOINTS is set: workers fail on purpose. Not for production.")

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stops += 1

    @contextlib.contextmanager
    def _lifeline(self) -> Iterator[int]:
        """The pipe whose end tells our children that we are gone; and our own parent's."""
        if self._settings.lifeline_fd is not None:
            patience = self._settings.warm_shutdown_seconds + 4 * _BEAT_STOP_SECONDS
            lifeline.watch(self._settings.lifeline_fd, then_exit_seconds=patience)
        with lifeline.opened() as theirs:
            yield theirs


def _handle_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup wants it
        signal.signal(signal.SIGHUP, handler)


def _programs(settings: AppSettings, flower: FlowerPlan | None) -> list[Program]:
    # The process id keeps two launchers of one machine and Redis apart.
    place = f"{os.getpid()}@{socket.gethostname()}"
    logs = _log_folder(settings)
    programs = []
    for pool in pools(settings):
        for number in range(1, pool.processes + 1):
            name = f"{pool.name}-{number}"
            node = f"{name}-{place}"
            command = worker_command(pool, node, settings)
            programs.append(Program(node, pool.name, command, logs / f"{name}.log"))
    node = f"{BEAT}-{place}"
    programs.append(Program(node, BEAT, beat_command(node, settings), logs / f"{BEAT}.log"))
    if flower is not None:
        node = f"{FLOWER}-{place}"
        log = logs / f"{FLOWER}.log"
        programs.append(Program(node, FLOWER, flower_command(node), log, flower.environment))
    return [_logging_in(program, settings) for program in programs]


def _logging_in(program: Program, settings: AppSettings) -> Program:
    """The same, as its own Redis user, where there are such."""
    if settings.acl_dir is None:
        return program
    login = {"BATON_REDIS_USER": program.pool, "BATON_ACL_DIR": str(settings.acl_dir.resolve())}
    return replace(program, environment={**program.environment, **login})


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m workers",
        description="Start Redis (embedded if none answers), the worker pools, beat and "
        "Flower. Settings come from BATON_* variables. Ctrl-C stops all of it.",
        epilog="example: BATON_AGENTS_THREADS=20 python -m workers",
    )
    parser.add_argument(
        "--ready-fd",
        type=int,
        metavar="N",
        help="inherited file descriptor to write one line of JSON to when every pool is up",
    )
    parser.add_argument(
        "--metrics-port",
        type=int,
        default=0,
        metavar="N",
        help="first port of the pools' Prometheus endpoints where BATON_METRICS_PORT is not set",
    )
    parser.add_argument(
        "--allow-volatile",
        action="store_true",
        help="run on a Redis that may lose what is stored, as BATON_ALLOW_VOLATILE=true does",
    )
    return parser.parse_args(arguments)


def _absolute(settings: AppSettings) -> AppSettings:
    """Children run elsewhere: in the checkout."""
    return settings.model_copy(update={"state_dir": settings.state_dir.expanduser().resolve()})


def _own(settings: AppSettings) -> AppSettings:
    """With the launcher's own Redis user, where each has one."""
    return settings if settings.acl_dir is None else logged_in(settings, LAUNCHER)


def _check_master_keys(settings: AppSettings) -> None:
    """Refuse malformed ones here: a worker would refuse them at its first task."""
    keys = settings.master_keys
    configured_provider(settings.key_file, None if keys is None else keys.get_secret_value())


def _make_folders(state_dir: Path) -> None:
    try:
        for folder in (state_dir, state_dir / "logs"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError("BATON_STATE_DIR", "a folder to write to", str(error)) from error


def _log_folder(settings: AppSettings) -> Path:
    return settings.state_dir / "logs"


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 2_000))
        lines = file.read().decode(errors="replace").splitlines()
    return f"The end of {log}:\n  " + "\n  ".join(lines[-8:])


def _say(line: str) -> None:
    """To standard error: standard output belongs to whoever started us."""
    with contextlib.suppress(OSError):  # a closed terminal must not keep us from stopping
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
