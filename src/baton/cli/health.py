"""Finds out what is reachable, which pools are up, and all versions. Starts and changes nothing."""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import redis

from baton import routes
from baton.broker_url import choose_broker_url
from baton.cli.connection import configured_url
from baton.cli.output import plain
from baton.embedded import running_url, server_folder
from baton.errors import AccessDeniedError, EmbeddedRedisError
from baton.redis_client import connect, redact_url, why_silent
from baton.server_binary import find_server_binary
from baton.swarm.pools import PoolBoard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.settings import ClientSettings

POOLS: Final = (*routes.QUEUES, "beat")


def check_health(settings: ClientSettings) -> dict[str, Any]:
    """`redis`, `broker`, `pools`, `versions`, and two lists of sentences: `missing`, `warnings`.

    Holds no password, and is ready for JSON.

    Raises:
        InvalidInputError: the configured URL is none.
    """
    url = configured_url(settings) or running_url(server_folder(settings.state_dir))
    store = _store(settings, url)
    pools = _pools(url, settings) if url is not None and store["reachable"] else []
    health = {
        "redis": store,
        "broker": _broker(settings, url),
        "pools": pools,
        "versions": _versions(store),
    }
    return health | {"missing": list(_missing(health)), "warnings": list(_warnings(store))}


def _store(settings: ClientSettings, url: str | None) -> dict[str, Any]:
    embedded = configured_url(settings) is None
    if url is None:
        problem: str | None = "the embedded Redis does not run; `baton up` starts it"
    else:
        problem = _problem(url)
    known = {
        "address": None if url is None else redact_url(url),
        "embedded": embedded,
        "reachable": problem is None,
        "problem": problem,
    }
    return known | (_facts(url, settings) if url is not None and problem is None else {})


def _problem(url: str) -> str | None:
    try:
        return why_silent(url)
    except AccessDeniedError as error:
        return str(error)


def _facts(url: str, settings: ClientSettings) -> dict[str, Any]:
    """What the server tells of itself, as far as it lets us ask."""
    try:
        with contextlib.closing(connect(url, settings)) as client:
            info: dict[str, Any] = dict(client.info())
    except redis.RedisError as error:
        return {"problem": f"it answers, but not to INFO ({error})"}
    name = str(info.get("server_name", "redis"))
    return {
        "server": name,
        "version": str(info.get(f"{name}_version", info["redis_version"])),
        "append_only_file": bool(info.get("aof_enabled")),
        "maxmemory_policy": info.get("maxmemory_policy"),
        "memory_bytes": info.get("used_memory"),
        "clients": info.get("connected_clients"),
        "uptime_seconds": info.get("uptime_in_seconds"),
    }


def _broker(settings: ClientSettings, store_url: str | None) -> dict[str, Any]:
    """Celery's broker. `reachable` is None where only Celery could tell."""
    configured = settings.broker_url.get_secret_value() if settings.broker_url else None
    if configured is None:
        if store_url is None:
            return {"address": None, "reachable": False, "problem": None}
        address = redact_url(choose_broker_url(store_url, None))
        return {"address": address, "reachable": _problem(store_url) is None, "problem": None}
    if urlsplit(configured).scheme not in {"redis", "rediss", "unix"}:
        return {"address": redact_url(configured), "reachable": None, "problem": None}
    problem = _problem(configured)
    return {
        "address": redact_url(configured),
        "reachable": problem is None,
        "problem": problem,
    }


def _pools(url: str, settings: ClientSettings) -> list[dict[str, Any]]:
    with contextlib.closing(connect(url, settings)) as client:
        return [{**plain(pool), "up": pool.up} for pool in PoolBoard(client).list()]


def _missing(health: dict[str, Any]) -> Iterator[str]:
    for what in ("redis", "broker"):
        if health[what]["problem"] is not None and not health[what]["reachable"]:
            yield f"{what}: {health[what]['problem']}"
    if not health["redis"]["reachable"]:
        return
    up = {pool["pool"] for pool in health["pools"] if pool["up"]}
    down = [pool for pool in POOLS if pool not in up]
    if down:
        yield f"pools: {', '.join(down)} not up; `baton up` starts them"


def _warnings(store: dict[str, Any]) -> Iterator[str]:
    if store.get("append_only_file") is False:
        yield "Redis writes no append-only file: a restart loses what was stored"
    policy = store.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield f"Redis' maxmemory-policy is {policy}, not noeviction: contexts may vanish"


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
