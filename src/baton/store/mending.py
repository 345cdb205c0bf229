"""Mends keys: drops what no session needs, and gives an expiry to what has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.redis_client import redis_errors, require_binary
from baton.scripts import Script
from baton.store.moves import TOMBSTONE_MARGIN_MS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import redis

    from baton.store.keys import SessionKeys

# Of one session's keys, a script looks at so many: it takes the server half a millisecond.
KEYS_AT_ONCE: Final = 100
# What a session under this name leaves beside its container and its head's version; and its chunks.
CONTENT_SUFFIXES: Final = (
    ":metadata", ":manifests", ":checkpoints", ":history", ":authors", ":operations", ":access",
    ":tags", ":pins", ":conflicts", ":pending", ":key", ":past",
)  # fmt: skip
_DELETE: Final = Script("baton.store", "delete")
_DROP_ORPHANS: Final = Script("baton.store", "drop_orphans")
_DROP_REMAINS: Final = Script("baton.store", "drop_remains")
_EXPIRE_ANEW: Final = Script("baton.store", "expire_anew")
_EXPIRE_MISSING: Final = Script("baton.store", "expire_missing")


class KeyMending:
    """Mends keys. Each step is one script of bounded work, and looks again before it writes.

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
        return self._drop(_DROP_ORPHANS, keys, [], suffixes)

    def drop_remains(
        self, keys: SessionKeys, shelf: str, copy: str, suffixes: Sequence[str]
    ) -> int | None:
        """Drop content beside the tombstone of that copy; how many. None: it is none any more."""
        return self._drop(_DROP_REMAINS, keys, [shelf, copy], suffixes)

    def finish_deletion(self, keys: SessionKeys) -> None:
        """Finish a deletion that somebody began; does nothing to a session that lives."""
        done = 0
        with redis_errors(self._redis):
            while not done:
                done, _ = _DELETE(self._redis, [keys.base], ["", ""])

    def expire_session(self, keys: SessionKeys, suffixes: Sequence[str]) -> int:
        """Give a session's keys the expiry they lack, as its state has it; how many got one."""
        given = 0
        with redis_errors(self._redis):
            for some in _batches(suffixes):
                args: list[str | bytes | float] = [self._backstop_ms, TOMBSTONE_MARGIN_MS, *some]
                given += int(_EXPIRE_ANEW(self._redis, [keys.base], args))
        return given

    def expire(self, key: str, life_ms: int) -> bool:
        """Give a key an expiry; False if it has one, or is gone."""
        with redis_errors(self._redis):
            return bool(_EXPIRE_MISSING(self._redis, [key], [life_ms]))

    def _drop(
        self, script: Script, keys: SessionKeys, args: list[str], suffixes: Sequence[str]
    ) -> int | None:
        total = 0
        with redis_errors(self._redis):
            for some in _batches(suffixes):
                dropped = int(script(self._redis, [keys.base], [*args, *some]))
                if dropped < 0:
                    return total or None
                total += dropped
        return total


def _batches(suffixes: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(suffixes), KEYS_AT_ONCE):
        yield suffixes[start : start + KEYS_AT_ONCE]
