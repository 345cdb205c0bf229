"""Finds out how the deployment is, where it is, and all versions. Starts nothing."""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from baton.cli.connection import configured_url, registry_of
from baton.cli.output import plain
from baton.embedded import running_url, server_folder
from baton.errors import EmbeddedRedisError
from baton.health import broker_health, check_deployment, silence
from baton.redis_client import connect, redact_url
from baton.server_binary import find_server_binary
from baton.swarm.pools import PoolBoard

if TYPE_CHECKING:
    from baton.health import BrokerHealth
    from baton.settings import ClientSettings

_NOT_RUNNING: Final = "the embedded Redis does not run; `baton up` starts it"


def check_health(settings: ClientSettings) -> dict[str, Any]:
    """What `baton status` shows: `baton.health`, and addresses, workers, versions.

    `missing` and `warnings` are lists of sentences. Holds no password, and is ready for JSON.

    Raises:
        InvalidInputError: the configured URL is none.
    """
    url = configured_url(settings) or running_url(server_folder(settings.state_dir))
    problem = _NOT_RUNNING if url is None else silence(url)
    store = {
        "address": None if url is None else redact_url(url),
        "embedded": configured_url(settings) is None,
        "reachable": problem is None,
        "problem": problem,
    }
    if url is None or problem is not None:
        return _of_nothing(settings, url, store)
    with contextlib.closing(connect(url, settings)) as client:
        registry = registry_of(client, settings)
        health = check_deployment(client, url=url, settings=settings, registry=registry)
        pools = [{**plain(pool), "up": pool.up} for pool in PoolBoard(client).list()]
    facts: dict[str, Any] = {**health["redis"]} if health["redis"] is not None else {}
    store |= facts or {"problem": "it answers, but not to INFO"}
    return {
        **health,
        "redis": store,
        "pools": pools,
        "versions": _versions(store),
        "missing": health["problems"],
    }


def _of_nothing(settings: ClientSettings, url: str | None, store: dict[str, Any]) -> dict[str, Any]:
    """Of a store that does not answer; its broker may."""
    if url is None and settings.broker_url is None:
        broker: BrokerHealth = {"address": None, "reachable": False, "problem": None}
    else:
        broker = broker_health(settings, url or "redis://")
    missing = [f"redis: {store['problem']}"]
    if broker["problem"] is not None:
        missing.append(f"broker: {broker['problem']}")
    return {
        "redis_status": f"unhealthy: {store['problem']}",
        "overall_status": "degraded",
        "redis": store,
        "broker": broker,
        "pools": [],
        "sweeps": [],
        "archive": None,
        "versions": _versions(store),
        "missing": missing,
        "warnings": [],
    }


def _versions(store: dict[str, Any]) -> dict[str, str | None]:
    running = f"{store['server']} {store['version']}" if "version" in store else None
    return {
        "baton": metadata.version("baton"),
        "python": platform.python_version(),
        "celery": metadata.version("celery"),
        "redis-py": metadata.version("redis"),
        "redis server": running,
        "embeddable server": _embeddable(),
    }


def _embeddable() -> str | None:
    """The server that would be started where no Redis is configured."""
    try:
        binary = find_server_binary()
    except EmbeddedRedisError:
        return None
    return f"{binary.version} ({binary.path})"
