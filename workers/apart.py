"""Starts a process for one node that may be what kills its workers, so that it kills no other."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final

from workers import lifeline

if TYPE_CHECKING:
    from config.settings import AppSettings

logger = logging.getLogger(__name__)

# Of one worker: whoever ran beside a node that killed it twice is suspected too, and each process
# costs a second of a core and memory of its own.
AT_ONCE: Final = max(4, os.cpu_count() or 1)
# Less than the time after which the tree has the node published again.
WAIT_SECONDS: Final = 20.0

_places: Final = threading.BoundedSemaphore(AT_ONCE)


def run_apart(settings: AppSettings, handoff_id: str, node_id: str) -> None:
    """Run `workers.one_node` and wait for its end, however it comes: the tree knows what became.

    A process that cannot be started leaves the node as it was, to be published again. None
    outlives this one.
    """
    if not _places.acquire(timeout=WAIT_SECONDS):
        logger.info("node %s of %s waits: %d run apart already", node_id, handoff_id, AT_ONCE)
        return
    try:
        with lifeline.opened() as fd:
            code = _run(settings, fd, handoff_id, node_id)
    except OSError as error:
        logger.warning("node %s of %s got no process of its own: %s", node_id, handoff_id, error)
        return
    finally:
        _places.release()
    logger.info("node %s of %s ran apart: exit %d", node_id, handoff_id, code)


def _run(settings: AppSettings, lifeline_fd: int, handoff_id: str, node_id: str) -> int:
    url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    environment = {"BATON_REDIS_URL": url, "BATON_LIFELINE_FD": str(lifeline_fd)}
    return subprocess.run(
        [sys.executable, "-m", "workers.one_node", handoff_id, node_id],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        pass_fds=(lifeline_fd,),
        check=False,
    ).returncode
