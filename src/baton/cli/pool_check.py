"""Tells whether one pool, or this host's part of it, is at work: what a health check asks."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

from baton.cli.connection import configured_url
from baton.embedded import running_url, server_folder
from baton.errors import InvalidInputError, StoreUnavailableError
from baton.redis_client import connect
from baton.swarm.pools import PoolBoard

if TYPE_CHECKING:
    from baton.settings import ClientSettings


def check_pool(settings: ClientSettings, pool: str | None, *, here: bool) -> dict[str, Any]:
    """`pool`, `up`, and its `workers` with their states; of this host alone if `here`.

    A worker's host is what stands behind the `@` of its name.

    Raises:
        InvalidInputError: no pool is named, or the configured URL is none.
        StoreUnavailableError: no Redis answers.
    """
    if not pool:
        raise InvalidInputError("--pool", "the name of a pool, which --here needs", "none")
    url = configured_url(settings) or running_url(server_folder(settings.state_dir))
    if url is None:
        raise StoreUnavailableError("The embedded Redis does not run; `baton up` starts it.")
    with contextlib.closing(connect(url, settings)) as client:
        found = [worker for each in PoolBoard(client).list() if each.pool == pool
                 for worker in each.workers]  # fmt: skip
    if here:
        found = [worker for worker in found if worker.worker.endswith(f"@{socket.gethostname()}")]
    workers = [{"worker": worker.worker, "state": worker.state} for worker in found]
    return {"pool": pool, "up": any(w["state"] == "up" for w in workers), "workers": workers}
