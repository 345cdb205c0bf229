"""What other processes do with an archive, until a failpoint kills them."""

from __future__ import annotations

import multiprocessing
import signal
from typing import TYPE_CHECKING

import redis

from archive_bench import ArchiveBench
from baton import failpoints

if TYPE_CHECKING:
    from pathlib import Path

# Importing torch takes seconds: done once, by the process that the others are forked from.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["baton.archive.configured", "archive_bench"])


def killed_at(point: str, what: str, url: str, folder: Path, *, index: bool) -> bool:
    """Archive, restore or purge session `s` in a process that is killed at a point; if it was."""
    process = _processes.Process(target=_work, args=(point, what, url, folder, index))
    process.start()
    process.join(120)
    assert not process.is_alive(), f"{what} still goes on"
    assert process.exitcode in (0, -signal.SIGKILL), f"{what}: exit code {process.exitcode}"
    return process.exitcode == -signal.SIGKILL


def _work(point: str, what: str, url: str, folder: Path, index: bool) -> None:
    failpoints.arm(f"{point}=kill")
    client = redis.Redis.from_url(url)
    bench = ArchiveBench(client, folder, None, archive_index_sensitive=index)
    getattr(bench.archive, what)("s")
    bench.close()
    client.close()
