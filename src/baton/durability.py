"""Whether a Redis keeps what it is given: an append-only file, and no eviction."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from baton.cluster_redis import ClusterRedis
from baton.errors import VolatileStoreError
from baton.redis_client import connect, redact_url, redis_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import redis

    from baton.settings import ClientSettings

_SAFE_POLICY: Final = "noeviction"
_SCHEMES: Final = frozenset({"redis", "rediss", "unix", "redis+cluster", "rediss+cluster"})


@dataclass(frozen=True, slots=True)
class Flaw:
    """By what a server may lose data, and the command that mends it until it restarts."""

    problem: str
    command: str


def flaws_of(info: Mapping[str, Any]) -> Iterator[Flaw]:
    """What of a server's INFO (sections `persistence` and `memory`) may lose what is stored.

    Any policy but `noeviction` counts, whether or not a limit is set now: keys of Baton have an
    expiry, so the `volatile-…` ones evict them too, and a queue of the broker goes as one key.
    """
    if not info.get("aof_enabled"):
        yield Flaw(
            "Redis writes no append-only file: a restart loses what was stored",
            "CONFIG SET appendonly yes",
        )
    policy = info.get("maxmemory_policy")
    if policy not in (None, _SAFE_POLICY):
        yield Flaw(
            f"Redis' maxmemory-policy is {policy}, not {_SAFE_POLICY}: contexts may vanish",
            f"CONFIG SET maxmemory-policy {_SAFE_POLICY}",
        )


def require_durable(url: str, settings: ClientSettings) -> None:
    """Do nothing where the server at `url` keeps what it is given; of a cluster, each master.

    A broker that is no Redis is not looked at.

    Raises:
        VolatileStoreError: it may lose data; names each flaw and what mends it.
        AccessDeniedError: this user may not look (INFO).
        StoreUnavailableError: it did not answer.
    """
    if urlsplit(url).scheme not in _SCHEMES:
        return
    with contextlib.closing(connect(url, settings)) as client:
        found = dict.fromkeys(flaw for info in _infos(client) for flaw in flaws_of(info))
    if found:
        raise VolatileStoreError(_message(redact_url(url), found))


def _infos(client: redis.Redis) -> Iterator[Mapping[str, Any]]:
    with redis_errors(client):
        nodes = client.masters() if isinstance(client, ClusterRedis) else [client]
        for node in nodes:
            # Two calls: Redis 6.2 takes one section.
            yield {**_section(node, "persistence"), **_section(node, "memory")}


def _section(node: redis.Redis, name: str) -> dict[str, Any]:
    answer: Any = node.info(name)
    return dict(answer)


def _message(address: str, flaws: Iterable[Flaw]) -> str:
    given = list(flaws)
    problems = "; ".join(flaw.problem for flaw in given)
    commands = "; ".join(flaw.command for flaw in given)
    return (
        f"{address}: {problems}. Mend it with redis-cli: {commands}; and in its configuration "
        "file. Or unset BATON_REDIS_URL, for an embedded server that is set up so. To run all the "
        "same, and lose data: --allow-volatile, or BATON_ALLOW_VOLATILE=true"
    )
