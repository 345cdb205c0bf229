"""Mends keys: drops what belongs to no session, and gives an expiry to what has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.redis_client import redis_errors, require_binary
from baton.scripts import Script
from baton.store.moves import TOMBSTONE_MARGIN_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from baton.store.keys import SessionKeys

_DROP_ORPHANS: Final = Script("baton.store", "drop_orphans")
_EXPIRE_ANEW: Final = Script("baton.store", "expire_anew")
_EXPIRE_MISSING: Final = Script("baton.store", "expire_missing")


class KeyMending:
    """Mends keys. Each method is one script and looks again before it writes.

    Every method raises StoreUnavailableError where Redis does not answer.

    Args:
        redis_client: a binary client.
        backstop_ms: expiry of a session that nobody touches.
    """

    def __init__(self, redis_client: redis.Redis, backstop_ms: int) -> None:
        self._redis = require_binary(redis_client)
        self._backstop_ms = backstop_ms

    def drop_orphans(self, keys: SessionKeys, suffixes: Sequence[str]) -> int | None:
        """Drop keys of a session without container; how many. None: it has one by now."""
        with redis_errors(self._redis):
            dropped = int(_DROP_ORPHANS(self._redis, [keys.base], list(suffixes)))
        return None if dropped < 0 else dropped

    def expire_session(self, keys: SessionKeys, suffixes: Sequence[str]) -> int:
        """Give a session's keys the expiry they lack, as its state has it; how many got one."""
        args: list[str | bytes | float] = [self._backstop_ms, TOMBSTONE_MARGIN_MS, *suffixes]
        with redis_errors(self._redis):
            return int(_EXPIRE_ANEW(self._redis, [keys.base], args))

    def expire(self, key: str, life_ms: int) -> bool:
        """Give a key an expiry; False if it has one, or is gone."""
        with redis_errors(self._redis):
            return bool(_EXPIRE_MISSING(self._redis, [key], [life_ms]))
