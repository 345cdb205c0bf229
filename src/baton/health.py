"""Whether a deployment is healthy: the protocol's fields, and what else has to be so.

It writes and reads a probe: a key of its own, `health:{…}`, random, gone within a minute. Not a
session's: that would be listed, aged, archived and audited like one. What the probe shows is that
the server takes writes now and gives them back; that contexts are whole, every read checks.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar
from urllib.parse import urlsplit

from baton import routes
from baton.archive.report import find_report
from baton.broker_url import choose_broker_url
from baton.clock import iso_utc, utc_from_ms, utc_from_seconds
from baton.durability import flaws_of
from baton.errors import AccessDeniedError, BatonError, SettingsError, UnexpectedAnswerError
from baton.lifecycle.sweep_board import SweepBoard
from baton.metrics.catalog import VERSION_CONFLICTS
from baton.metrics.tally import list_scopes, read_sums
from baton.redis_client import redact_url, redis_errors, require_binary, why_silent
from baton.swarm.pools import PoolBoard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis

    from baton.lifecycle.sweep_board import SweepStatus
    from baton.settings import ClientSettings
    from baton.swarm.pools import PoolStatus
    from baton.swarm.registry import AgentRegistry

POOLS: Final = (*routes.QUEUES, "beat")
PROBE_SECONDS: Final = 60
# Of its memory's limit, what a Redis may use before it is called short: by default, new handoffs
# are refused from there on.
MEMORY_SHARE: Final = 0.8
# Of the archive's disk: it stops taking sessions before there is none.
LEAST_FREE_BYTES: Final = 512 * 2**20
T = TypeVar("T")

_CHECKABLE: Final = frozenset({"redis", "rediss", "unix"})


class ProbeHealth(TypedDict):
    """What came of writing and reading the probe; `problem` None: it came back as it was sent.

    `denied`: this user may not write it, which says nothing of the server.
    """

    denied: bool
    written_ms: float | None
    read_ms: float | None
    problem: str | None


class RedisHealth(TypedDict):
    """What the server tells of itself; `memory_limit_bytes` 0: there is none."""

    server: str
    version: str
    append_only_file: bool
    maxmemory_policy: str | None
    memory_bytes: int
    memory_limit_bytes: int
    clients: int
    uptime_seconds: int


class BrokerHealth(TypedDict):
    """Celery's broker; `reachable` None: only Celery could tell."""

    address: str | None
    reachable: bool | None
    problem: str | None


class SweepHealth(TypedDict):
    """One sweep; see `SweepStatus`."""

    name: str
    period_seconds: float
    late: bool
    running: bool
    seconds_since_success: float | None
    result: int | None
    error: str


class ArchiveHealth(TypedDict):
    """What the archive's process told last of itself; see `baton.archive.report.ArchiveReport`.

    `late`: that was more than three periods ago. `probe_found`: the probe, and a sample of the
    rows, were found by their vectors. `index_rows` None: the index did not answer.
    """

    checked_at: str
    late: bool
    archived: int
    copied: int
    held: int
    passages: int
    index_rows: int | None
    probe_found: bool
    waiting_for_index: int
    purge_paused_until: str | None
    free_disk_bytes: int
    problem: str | None


class Health(TypedDict):
    """How a deployment fares. The first five fields are the protocol's; ready for JSON.

    `redis_status`: `healthy`, or `unhealthy: ` and why. `active_sessions`: agents that are active.
    `version_conflicts`: writes that met another writer's, of the last 30 days. `overall_status` is
    `healthy` where `problems` is empty. `warnings` are what might become one. `archive` None:
    nothing was ever archived.
    """

    timestamp: str
    redis_status: str
    active_sessions: int
    version_conflicts: int
    overall_status: Literal["healthy", "degraded"]
    redis: RedisHealth | None
    probe: ProbeHealth
    broker: BrokerHealth
    pools: dict[str, bool]
    sweeps: list[SweepHealth]
    archive: ArchiveHealth | None
    problems: list[str]
    warnings: list[str]


def check_deployment(
    client: redis.Redis,
    *,
    url: str,
    settings: ClientSettings,
    registry: AgentRegistry,
) -> Health:
    """Look at all of it, now. Raises nothing that Redis answers: that is what it tells.

    Args:
        client: of the store.
        url: the store's.
        settings: tell of the broker.
        registry: who takes part.
    """
    broker = broker_health(settings, url)
    try:
        health = _of_deployment(client, registry, broker)
    except BatonError as error:
        health = _unreachable(str(error), broker)
    if health["problems"]:
        health["overall_status"] = "degraded"
    return health


def broker_health(settings: ClientSettings, store_url: str) -> BrokerHealth:
    """Whether Celery's broker answers."""
    configured = settings.broker_url.get_secret_value() if settings.broker_url else None
    try:
        url = choose_broker_url(store_url, configured)
    except SettingsError as error:  # none is named, and the store is a cluster
        return {"address": None, "reachable": False, "problem": str(error)}
    if configured is not None and urlsplit(configured).scheme not in _CHECKABLE:
        return {"address": redact_url(configured), "reachable": None, "problem": None}
    problem = silence(store_url if configured is None else configured)
    return {"address": redact_url(url), "reachable": problem is None, "problem": problem}


def silence(url: str) -> str | None:
    """Why no Redis answers us at `url`; None if one does.

    Raises:
        InvalidInputError: it is no URL of a Redis.
    """
    try:
        return why_silent(url)
    except AccessDeniedError as error:
        return str(error)


def server_facts(client: redis.Redis) -> RedisHealth:
    """What the server tells of itself.

    Raises:
        StoreUnavailableError, AccessDeniedError: it tells us nothing.
    """
    with redis_errors(client):
        info: dict[str, Any] = dict(client.info())
    name = str(info.get("server_name", "redis"))
    return {
        "server": name,
        "version": str(info.get(f"{name}_version", info["redis_version"])),
        "append_only_file": bool(info.get("aof_enabled")),
        "maxmemory_policy": info.get("maxmemory_policy"),
        "memory_bytes": int(info.get("used_memory", 0)),
        "memory_limit_bytes": int(info.get("maxmemory", 0)),
        "clients": int(info.get("connected_clients", 0)),
        "uptime_seconds": int(info.get("uptime_in_seconds", 0)),
    }


def redis_warnings(facts: RedisHealth) -> Iterator[str]:
    """What of the server's settings may lose what is stored."""
    told = {"aof_enabled": facts["append_only_file"], "maxmemory_policy": facts["maxmemory_policy"]}
    yield from (flaw.problem for flaw in flaws_of(told))
    limit_bytes = facts["memory_limit_bytes"]
    if limit_bytes and facts["memory_bytes"] > MEMORY_SHARE * limit_bytes:
        used = f"{facts['memory_bytes'] / limit_bytes:.0%}"
        yield f"Redis uses {used} of its memory: new handoffs may be refused"


def probe(client: redis.Redis) -> ProbeHealth:
    """Write a key of our own and read it back, timed."""
    key, value = f"health:{{{secrets.token_hex(8)}}}", secrets.token_hex(16).encode()
    try:
        with redis_errors(client):
            began = time.monotonic()
            client.set(key, value, ex=PROBE_SECONDS)
            written = time.monotonic()
            found = client.getdel(key)
            read = time.monotonic()
    except AccessDeniedError:
        return {"denied": True, "written_ms": None, "read_ms": None, "problem": None}
    except BatonError as error:
        return {"denied": False, "written_ms": None, "read_ms": None, "problem": str(error)}
    return {
        "denied": False,
        "written_ms": round((written - began) * 1000, 3),
        "read_ms": round((read - written) * 1000, 3),
        "problem": None if found == value else "what was written did not come back",
    }


def sweep_problems(sweeps: Sequence[SweepHealth]) -> Iterator[str]:
    """Which sweeps are late, since when, and why, as far as that is known."""
    for sweep in sweeps:
        if sweep["late"]:
            age_seconds = sweep["seconds_since_success"]
            since = "never succeeded" if age_seconds is None else f"last {age_seconds:.0f} s ago"
            why = f": {sweep['error']}" if sweep["error"] else ""
            period = f"every {sweep['period_seconds']:g} s"
            yield f"sweep {sweep['name']} is late ({period}; {since}){why}"


def sweep_health(status: SweepStatus) -> SweepHealth:
    """What health tells of a sweep."""
    return {
        "name": status.name,
        "period_seconds": status.period_seconds,
        "late": status.late,
        "running": status.running,
        "seconds_since_success": status.seconds_since_success,
        "result": status.result,
        "error": status.error,
    }


def archive_health(client: redis.Redis) -> ArchiveHealth | None:
    """What the archive told last; None where nothing was ever archived.

    Raises:
        StoreUnavailableError, AccessDeniedError, UnexpectedAnswerError: that is not to be had.
    """
    report = find_report(client)
    if report is None:
        return None
    with redis_errors(client):
        seconds, microseconds = require_binary(client).time()
    now_ms = seconds * 1000 + microseconds // 1000
    paused_ms = report.purge_paused_until_ms
    return {
        "checked_at": iso_utc(utc_from_ms(report.checked_at_ms)),
        "late": report.is_late(now_ms),
        "archived": report.archived,
        "copied": report.copied,
        "held": report.held,
        "passages": report.passages,
        "index_rows": report.rows,
        "probe_found": report.healthy,
        "waiting_for_index": report.waiting,
        "purge_paused_until": iso_utc(utc_from_ms(paused_ms)) if paused_ms > now_ms else None,
        "free_disk_bytes": report.free_bytes,
        "problem": report.problem,
    }


def archive_problems(archive: ArchiveHealth) -> Iterator[str]:
    """What is wrong with the archive."""
    if archive["late"]:
        yield f"archive: nobody has looked after it since {archive['checked_at']}"
    if archive["problem"] is not None:
        yield f"archive: {archive['problem']}"


def archive_warnings(archive: ArchiveHealth) -> Iterator[str]:
    """What of the archive somebody should look at."""
    if archive["purge_paused_until"] is not None:
        yield (
            "the archive purges nothing until "
            f"{archive['purge_paused_until']}: a clock may have jumped"
        )
    if archive["free_disk_bytes"] < LEAST_FREE_BYTES:
        yield f"the archive's disk has {archive['free_disk_bytes'] // 2**20} MiB left"
    rows = archive["index_rows"]
    if rows is not None and rows > archive["passages"]:
        yield (
            f"the archive's index has {rows - archive['passages']} rows too many, as a crash "
            "leaves; they go when their sessions are archived again"
        )


def pool_problems(pools: Sequence[PoolStatus]) -> Iterator[str]:
    """Which pools, or beat, no process of is up."""
    up = {pool.pool for pool in pools if pool.up}
    down = [pool for pool in POOLS if pool not in up]
    if down:
        yield f"pools: {', '.join(down)} not up; `baton up` starts them"


def count_conflicts(client: redis.Redis) -> int:
    """Writes that met another writer's, of all places that are remembered."""
    prefix = f"{VERSION_CONFLICTS.name}|"
    sums = (read_sums(client, scope) for scope in list_scopes(client))
    return sum(count for each in sums for name, count in each.items() if name.startswith(prefix))


class _Looks:
    """What this user may not look at is left out, and said; it is no fault of the deployment's."""

    def __init__(self) -> None:
        self.denied: list[str] = []

    def at(self, what: str, look: Callable[[], T], otherwise: T) -> T:
        try:
            return look()
        except (AccessDeniedError, UnexpectedAnswerError):
            self.denied.append(what)
            return otherwise


def _of_deployment(client: redis.Redis, registry: AgentRegistry, broker: BrokerHealth) -> Health:
    looks, probed = _Looks(), probe(client)
    facts = looks.at("the server", lambda: server_facts(client), None)
    pools = looks.at("the pools", PoolBoard(client).list, None)
    found: list[SweepStatus] = looks.at("the sweeps", SweepBoard(client).list, [])
    sweeps = [sweep_health(status) for status in found]
    active = looks.at("the agents", registry.count_active, 0)
    conflicts = looks.at("the counts", lambda: count_conflicts(client), 0)
    archive = looks.at("the archive", lambda: archive_health(client), None)
    problems = [*([] if pools is None else pool_problems(pools)), *sweep_problems(sweeps)]
    warned = [*_told_warnings(facts, probed, looks.denied)]
    if archive is not None:
        problems += archive_problems(archive)
        warned += archive_warnings(archive)
    if broker["problem"] is not None:
        problems.insert(0, f"broker: {broker['problem']}")
    if probed["problem"] is not None:
        problems.insert(0, f"redis: {probed['problem']}")
    return {
        "timestamp": _now(),
        "redis_status": _status(probed["problem"]),
        "active_sessions": active,
        "version_conflicts": conflicts,
        "overall_status": "healthy",
        "redis": facts,
        "probe": probed,
        "broker": broker,
        "pools": {pool.pool: pool.up for pool in pools or ()},
        "sweeps": sweeps,
        "archive": archive,
        "problems": problems,
        "warnings": warned,
    }


def _told_warnings(
    facts: RedisHealth | None, probed: ProbeHealth, denied: Sequence[str]
) -> Iterator[str]:
    if facts is not None:
        yield from redis_warnings(facts)
    if probed["denied"]:
        yield "this Redis user may not write the probe: whether writes are taken was not tried"
    if denied:
        yield f"this Redis user may not look at {', '.join(denied)}"


def _unreachable(problem: str, broker: BrokerHealth) -> Health:
    return {
        "timestamp": _now(),
        "redis_status": _status(problem),
        "active_sessions": 0,
        "version_conflicts": 0,
        "overall_status": "degraded",
        "redis": None,
        "probe": {"denied": False, "written_ms": None, "read_ms": None, "problem": problem},
        "broker": broker,
        "pools": {},
        "sweeps": [],
        "archive": None,
        "problems": [f"redis: {problem}"],
        "warnings": [],
    }


def _status(problem: str | None) -> str:
    return "healthy" if problem is None else f"unhealthy: {problem}"


def _now() -> str:
    return iso_utc(utc_from_seconds(time.time()))
