"""When to look at which session next: sorted sets by due time, in shards.

Derived data: what is missing is found again by SCAN, what is there too early is looked at and put
back. Each shard is one slot: `lifecycle:{NN}` holds when to look at a session,
`lifecycle:{NN}:archive` those that are to be archived.
"""

from __future__ import annotations

import zlib
from itertools import islice
from typing import TYPE_CHECKING, Final

from baton.redis_client import redis_errors, require_binary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import redis

SHARDS: Final = 16
BATCH: Final = 500
# Of the index, not of a session: nothing is lost with it.
KEEP_MS: Final = 180 * 86_400_000


class DueIndex:
    """The index. Every method raises StoreUnavailableError where Redis does not answer."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._redis = require_binary(redis_client)

    def add_new(self, session_ids: Iterable[str], at_ms: int) -> None:
        """Have sessions looked at from then on; those that are in stay as they are."""
        self._add(dict.fromkeys(session_ids, at_ms), "look", nx=True)

    def look_at(self, due_ms: Mapping[str, int]) -> None:
        """Set when to look at sessions."""
        self._add(due_ms, "look", nx=False)

    def archive(self, due_ms: Mapping[str, int]) -> None:
        """Have sessions archived, those that have waited longest first."""
        self._add(due_ms, "archive", nx=True)

    def due(self, now_ms: int) -> Iterator[list[str]]:
        """Sessions to look at, a batch at a time: the caller puts them back with a later time."""
        for shard in range(SHARDS):
            while batch := self._take(_look_key(shard), now_ms):
                yield batch

    def to_archive(self, limit: int) -> list[str]:
        """Sessions to archive, at most `limit` of each shard."""
        found: list[tuple[float, str]] = []
        for shard in range(SHARDS):
            found += self._first(_archive_key(shard), limit)
        return [session_id for _, session_id in sorted(found)]

    def drop_archive(self, session_id: str) -> None:
        """The session is archived, or not to be."""
        with redis_errors(self._redis):
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.zrem(_archive_key(_shard(session_id)), session_id)
            pipeline.execute()

    def drop(self, session_ids: Iterable[str]) -> None:
        """There are no such sessions."""
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in session_ids:
            shard = _shard(session_id)
            pipeline.zrem(_look_key(shard), session_id)
            pipeline.zrem(_archive_key(shard), session_id)
        with redis_errors(self._redis):
            pipeline.execute()

    def unknown(self, session_ids: Sequence[str]) -> list[str]:
        """Those that are not in the index."""
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in session_ids:
            pipeline.zscore(_look_key(_shard(session_id)), session_id)
        with redis_errors(self._redis):
            scores = pipeline.execute()
        return [each for each, at in zip(session_ids, scores, strict=True) if at is None]

    def entries(self) -> Iterator[list[tuple[str, float]]]:
        """All entries, sessions and their due times in ms, in batches of one shard's."""
        for shard in range(SHARDS):
            for key in (_look_key(shard), _archive_key(shard)):
                with redis_errors(self._redis):
                    members = self._redis.zscan_iter(key, count=BATCH)
                    while batch := list(islice(members, BATCH)):
                        yield [(member.decode(), at_ms) for member, at_ms in batch]

    def sizes(self) -> tuple[int, int]:
        """How many sessions are known, and how many are to be archived."""
        pipeline = self._redis.pipeline(transaction=False)
        for shard in range(SHARDS):
            pipeline.zcard(_look_key(shard))
            pipeline.zcard(_archive_key(shard))
        with redis_errors(self._redis):
            counts = pipeline.execute()
        return sum(counts[::2]), sum(counts[1::2])

    def _add(self, due_ms: Mapping[str, int], which: str, *, nx: bool) -> None:
        keyed: dict[str, dict[str, int]] = {}
        for session_id, at_ms in due_ms.items():
            shard = _shard(session_id)
            key = _look_key(shard) if which == "look" else _archive_key(shard)
            keyed.setdefault(key, {})[session_id] = at_ms
        pipeline = self._redis.pipeline(transaction=False)
        for key, members in keyed.items():
            pipeline.zadd(key, members, nx=nx)
            pipeline.pexpire(key, KEEP_MS)
        with redis_errors(self._redis):
            pipeline.execute()

    def _take(self, key: str, now_ms: int) -> list[str]:
        """The first of those that are due. They stay in: who crashes here has lost nothing."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zrangebyscore(key, "-inf", now_ms, start=0, num=BATCH)
        with redis_errors(self._redis):
            (found,) = pipeline.execute()
        return [each.decode() for each in found]

    def _first(self, key: str, limit: int) -> list[tuple[float, str]]:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zrange(key, 0, limit - 1, withscores=True)
        with redis_errors(self._redis):
            (found,) = pipeline.execute()
        return [(score, each.decode()) for each, score in found]


def _shard(session_id: str) -> int:
    return zlib.crc32(session_id.encode()) % SHARDS


def _look_key(shard: int) -> str:
    return f"lifecycle:{{{shard:02d}}}"


def _archive_key(shard: int) -> str:
    return f"lifecycle:{{{shard:02d}}}:archive"
