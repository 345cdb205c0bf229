"""Starts a process for one node that may be what kills its workers, so that it kills no other."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import AppSettings

logger = logging.getLogger(__name__)


def run_apart(settings: AppSettings, handoff_id: str, node_id: str) -> None:
    """Run `workers.one_node` and wait for its end, however it comes: the tree knows what became.

    A process that cannot be started leaves the node as it was, to be published again.
    """
    url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    command = [sys.executable, "-m", "workers.one_node", handoff_id, node_id]
    lifeline = () if settings.lifeline_fd is None else (settings.lifeline_fd,)
    try:
        done = subprocess.run(
            command, env={**os.environ, "BATON_REDIS_URL": url}, pass_fds=lifeline, check=False
        )
    except OSError as error:
        logger.warning("node %s of %s got no process of its own: %s", node_id, handoff_id, error)
        return
    logger.info("node %s of %s ran apart: exit %d", node_id, handoff_id, done.returncode)
