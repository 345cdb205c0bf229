"""The pools: their queues, how many processes and threads, and the commands that start them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton import routes

if TYPE_CHECKING:
    from config.settings import AppSettings


@dataclass(frozen=True, slots=True)
class Pool:
    """Workers of one kind. Each pool reads the queue of its name, on threads: agents wait."""

    name: str
    processes: int
    threads: int

    @property
    def queue(self) -> str:
        """The queue it reads."""
        return self.name


def pools(settings: AppSettings) -> tuple[Pool, ...]:
    """All pools of a deployment."""
    return (
        Pool(routes.AGENTS, settings.agents_processes, settings.agents_threads),
        Pool(routes.CONTEXT, 1, settings.context_threads),
        Pool(routes.LIFECYCLE, 1, settings.lifecycle_threads),
        # One writer: Chroma's embedded folder takes no more.
        Pool(routes.ARCHIVE, 1, 1),
    )


def worker_command(pool: Pool, node: str, settings: AppSettings) -> list[str]:
    """The command of one worker process of `pool`, called `node` (`name@host`)."""
    command = [
        *_celery("worker", node, settings),
        *("--queues", pool.queue),
        *("--pool", "threads"),
        *("--concurrency", str(pool.threads)),
        # They spread news among workers that nothing here listens to.
        "--without-gossip",
        "--without-mingle",
    ]
    return command if settings.events else [*command, "--without-heartbeat"]


def beat_command(node: str, settings: AppSettings) -> list[str]:
    """The command of beat, called `node`."""
    return _celery("beat", node, settings)


def flower_command(node: str) -> list[str]:
    """The command of Flower, called `node`."""
    return [sys.executable, "-m", "workers.flower_server", "--hostname", node]


def _celery(what: str, node: str, settings: AppSettings) -> list[str]:
    return [
        *(sys.executable, "-m", "celery", "--app", "workers.app", what),
        *("--hostname", node),
        *("--loglevel", settings.log_level),
    ]
