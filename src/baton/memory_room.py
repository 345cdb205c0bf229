"""Whether a Redis with a memory limit has room left for new work."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from baton.cluster_redis import ClusterRedis
from baton.errors import AccessDeniedError, StoreFullError
from baton.redis_client import redis_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis


class MemoryRoom:
    """Looks at the server itself, at each question: 12 µs of its time, and one round trip.

    Args:
        client: a client of the store.
        share: of the server's `maxmemory`; what is used beyond it is for accepted work.
    """

    def __init__(self, client: redis.Redis, share: float) -> None:
        self._redis = client
        self._share = share

    def require(self, *keys: str) -> None:
        """Do nothing where the server uses less; of a cluster, the nodes that own these keys.

        Nor where it has no limit, or this user may not look (INFO): then Redis' own refusal, at
        the limit, is the first.

        Raises:
            StoreFullError: it uses more.
            StoreUnavailableError: it did not answer.
        """
        with contextlib.suppress(AccessDeniedError), redis_errors(self._redis):
            for node in self._nodes(keys):
                answer: Any = node.info("memory")
                self._check(int(answer["used_memory"]), int(answer.get("maxmemory", 0)))

    def _nodes(self, keys: tuple[str, ...]) -> Iterator[redis.Redis]:
        if isinstance(self._redis, ClusterRedis):
            yield from {id(node): node for node in map(self._redis.owner_of, keys)}.values()
        else:
            yield self._redis

    def _check(self, used_bytes: int, limit_bytes: int) -> None:
        if limit_bytes and used_bytes > self._share * limit_bytes:
            raise StoreFullError(used_bytes, limit_bytes, self._share)
