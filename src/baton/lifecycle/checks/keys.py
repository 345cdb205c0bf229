"""Keys that belong to no session, and keys that would stay for ever."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from baton.lifecycle.findings import Finding
from baton.lifecycle.server_keys import NO_EXPIRY, ServerKeys, by_session
from baton.lifecycle.states import DAY_MS
from baton.redis_client import redis_errors, require_binary
from baton.store.keys import SessionKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from baton.lifecycle.server_keys import ServerKey
    from baton.store.mending import KeyMending

# Longer than any write, restore or deletion takes from its first key to its last.
UNTOUCHED_SECONDS: Final = 3_600
MOST_NAMED: Final = 3


class KeyCheck:
    """Looks at every key of the server, a slice at a time.

    Args:
        redis_client: a binary client.
        mending: of keys.
    """

    kinds: Final = {
        "orphan_keys": "Keys of a session without a container: nobody can read or end them.",
        "no_expiry": "Keys that would stay for ever, and are not under hold.",
    }

    def __init__(self, redis_client: redis.Redis, mending: KeyMending) -> None:
        self._redis = require_binary(redis_client)
        self._keys = ServerKeys(self._redis)
        self._mending = mending

    def find(self) -> Iterator[Finding]:
        """See `Check.find`."""
        for names in self._keys.slices():
            keys = self._keys.look_at(names)
            lacking = self._still_lacking([key for key in keys if key.lacks_expiry])
            yield from self._orphans([key for key in keys if key.is_orphan])
            yield from self._without_expiry(lacking)

    def _untouched_seconds(self, keys: list[ServerKey]) -> int:
        """For how long nobody has used any of them; 0 where the server does not tell."""
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.execute_command("OBJECT", "IDLETIME", key.name)
        with redis_errors(self._redis):
            answers = pipeline.execute(raise_on_error=False)
        return min(idle if isinstance(idle, int) else 0 for idle in answers)

    def _still_lacking(self, keys: list[ServerKey]) -> list[ServerKey]:
        """Some keys are given their expiry right behind their first value."""
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.pttl(key.name)
        with redis_errors(self._redis):
            again = pipeline.execute()
        return [key for key, pttl in zip(keys, again, strict=True) if pttl == NO_EXPIRY]

    def _orphans(self, keys: list[ServerKey]) -> Iterator[Finding]:
        for session_id, suspects in by_session(keys).items():
            orphans = self._keys.still_orphans(session_id, suspects)
            if not orphans:
                continue
            untouched = self._untouched_seconds(orphans)
            suffixes = [key.suffix for key in orphans]
            found = partial(
                Finding,
                "orphan_keys",
                session_id,
                f"has no container, but {_named(suffixes)}",
            )
            if untouched < UNTOUCHED_SECONDS:
                yield found(
                    f"they were used {untouched} s ago: somebody may be at work with them; what "
                    "nobody has used for an hour is dropped"
                )
            else:
                mend = partial(self._drop, session_id, suffixes)
                yield found("drops them: without the container nothing can be read from them", mend)

    def _without_expiry(self, keys: list[ServerKey]) -> Iterator[Finding]:
        for key in keys:
            if key.session_id is None:
                name = key.name.decode("utf-8", "replace")
                yield Finding(
                    "no_expiry", name, "has no expiry",
                    f"has it expire in {key.life_ms / DAY_MS:.3g} days",
                    partial(self._mending.expire, name, key.life_ms),
                )  # fmt: skip
        for session_id, lacking in by_session(keys).items():
            suffixes = sorted(key.suffix for key in lacking)  # the container first
            yield Finding(
                "no_expiry", session_id, f"has no expiry on {_named(suffixes)}",
                "gives them the one that the session has, or should have",
                partial(self._expire, session_id, suffixes),
            )  # fmt: skip

    def _drop(self, session_id: str, suffixes: list[str]) -> bool:
        return bool(self._mending.drop_orphans(SessionKeys.of(session_id), suffixes))

    def _expire(self, session_id: str, suffixes: list[str]) -> bool:
        return bool(self._mending.expire_session(SessionKeys.of(session_id), suffixes))


def _named(suffixes: list[str]) -> str:
    """A few by name, and how many more."""
    shown = [suffix.removeprefix(":") or "the container" for suffix in suffixes[:MOST_NAMED]]
    more = len(suffixes) - len(shown)
    return f"{', '.join(shown)} and {more} more" if more else ", ".join(shown)
