"""A private Redis and private workers in a temporary folder; gone when the bench ends."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import redis
from pydantic import SecretStr

from baton import routes
from baton.embedded import EmbeddedRedis
from config.settings import AppSettings
from workers import lifeline
from workers.pools import Pool, pools, worker_command
from workers.supervisor import Backoff, Child, Program, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).parents[1]

_POOLS: Final = (routes.AGENTS, routes.CONTEXT)
_RUNNERS: Final = {"noop": "bench.runners:noop", "length": "bench.runners:length"}
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.02


@contextlib.contextmanager
def private_redis() -> Iterator[AppSettings]:
    """Default settings, the environment's aside, for a server of our own.

    Raises:
        EmbeddedRedisError: there is no Redis server to start.
    """
    with (
        tempfile.TemporaryDirectory(prefix="baton-bench-") as folder,
        EmbeddedRedis(Path(folder) / "redis") as url,
    ):
        # A rewrite in the background would fall on whoever happens to be measured.
        with redis.Redis.from_url(url) as client:
            client.config_set("auto-aof-rewrite-percentage", 0)
        yield AppSettings.model_construct(redis_url=SecretStr(url), state_dir=Path(folder))


@contextlib.contextmanager
def worker_pools(settings: AppSettings, **variables: str) -> Iterator[None]:
    """The pools that handoffs need, by their real command lines, with the bench's tasks too.

    `variables` are added to their environment.
    """
    with lifeline.opened() as lifeline_fd:
        programs = [_program(pool, settings) for pool in pools(settings) if pool.name in _POOLS]
        supervisor = Supervisor(
            programs=programs,
            environment=_environment(settings, lifeline_fd) | variables,
            folder=ROOT,
            backoff=Backoff(1.0, 1.0),
            say=print,
            pass_fds=(lifeline_fd,),
        )
        try:
            supervisor.start()
            _wait_ready(supervisor)
            yield
        finally:
            supervisor.terminate(_POOLS)
            poll(lambda: not supervisor.running(_POOLS), _STOP_SECONDS)
            supervisor.kill()


def settle(client: redis.Redis) -> None:
    """Let the server write its log anew now, rather than while somebody is measured."""
    with contextlib.suppress(redis.ResponseError):  # one is under way
        client.bgrewriteaof()
    poll(lambda: not _rewriting(client), _STOP_SECONDS)


def _rewriting(client: redis.Redis) -> bool:
    info = client.info("persistence")
    return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])


def _program(pool: Pool, settings: AppSettings) -> Program:
    node = f"{pool.name}@bench"
    command = [*worker_command(pool, node, settings), "--include", "bench.tasks"]
    return Program(node, pool.name, command, settings.state_dir / f"{pool.name}.log")


def _environment(settings: AppSettings, lifeline_fd: int) -> dict[str, str]:
    """Ours without what configures Baton: figures must not depend on who runs the bench."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("BATON_")}
    url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    return inherited | {
        "BATON_REDIS_URL": url,
        "BATON_STATE_DIR": str(settings.state_dir),
        "BATON_RUNNER_FUNCTIONS": json.dumps(_RUNNERS),
        "BATON_RUNNER_PATH": str(ROOT),
        "BATON_LIFELINE_FD": str(lifeline_fd),
        "BATON_WARM_SHUTDOWN_SECONDS": "5",
    }


def _wait_ready(supervisor: Supervisor) -> None:
    for child in supervisor.children:
        ready = f"{child.program.name} ready."
        poll(partial(_settled, child, ready), _START_SECONDS)
        said = child.program.log.read_text()
        if ready not in said:
            raise RuntimeError(f"{child.program.name} did not start:\n{said[-2000:]}")


def _settled(child: Child, ready: str) -> bool:
    """Whether it is ready, or never will be."""
    ended = child.process is None or child.process.poll() is not None
    return ended or ready in child.program.log.read_text()


def poll(probe: Callable[[], bool], seconds: float) -> None:
    """Wait until `probe` is true, or `seconds` have passed."""
    end = time.monotonic() + seconds
    while not probe() and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
