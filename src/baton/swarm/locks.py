"""Named locks of a session: one holder each, for the time of a lease, with a fencing token.

A lock saves work; it does not protect data. Whoever holds one may be stopped for longer than its
lease, and go on as if it still held it. So what is written under a lock carries its `fence`, and is
refused by whoever has seen a higher one; contexts have their own protection, the version that a
write rests on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from baton.clock import utc_from_ms
from baton.errors import InvalidInputError, LockHeldError, LockLostError
from baton.ids import check_id, new_operation_id
from baton.redis_client import redis_errors, require_binary
from baton.scripts import Script
from baton.swarm.keys import locks_key

if TYPE_CHECKING:
    from datetime import datetime

    import redis

DEFAULT_LEASE_SECONDS: Final = 120.0  # after so long a silence an agent counts as dead, too
MAX_LEASE_SECONDS: Final = 86_400
MAX_LOCKS: Final = 1_000
_RETENTION_MS: Final = 86_400_000

_ACQUIRE: Final = Script("baton.swarm", "acquire_lock")
_RENEW: Final = Script("baton.swarm", "renew_lock")
_RELEASE: Final = Script("baton.swarm", "release_lock")
_LOOK: Final = Script("baton.swarm", "look_at_locks")


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock as it was when read: held by `agent_id` until `ends_at`, by Redis' clock.

    `fence` is higher with each claim of the name.
    """

    session_id: str
    name: str
    agent_id: str
    fence: int
    taken_at: datetime
    ends_at: datetime


class Locks:
    """Locks in Redis, at most 1,000 held at once in a session. Safe for threads and processes.

    All times are Redis' own. Every method raises InvalidIdError for an id or a name that is none,
    and StoreUnavailableError where Redis does not answer.
    """

    def __init__(self, redis_client: redis.Redis) -> None:
        self._redis = require_binary(redis_client)

    def acquire(
        self,
        session_id: str,
        name: str,
        *,
        agent_id: str,
        lease_seconds: float = DEFAULT_LEASE_SECONDS,
    ) -> Lock:
        """Take a lock that is free; nobody else has it until it is released or its lease ends.

        An agent that holds it already is refused too: two of its threads are two claimants.

        Raises:
            LockHeldError: somebody holds it; says who, and for how long at most.
            InvalidInputError: the lease is not above 0 and up to a day, or the session has a
                thousand locks.
        """
        operation_id = new_operation_id()
        check_id(agent_id, "agent_id")
        args: list[str | float] = [
            check_id(name, "name"), agent_id, _lease_ms(lease_seconds), operation_id, MAX_LOCKS,
            _RETENTION_MS,
        ]  # fmt: skip
        with redis_errors(self._redis):
            kind, *rest = _ACQUIRE(self._redis, [locks_key(session_id)], args)
        if kind == b"full":
            raise InvalidInputError("name", f"at most {MAX_LOCKS} locks in a session", name)
        lock = _lock(session_id, name, rest[0])
        if kind == b"held":
            left_seconds = lock.ends_at.timestamp() - rest[1] / 1000
            raise LockHeldError(
                f"session {session_id}: lock {name} is held by {lock.agent_id}, for at most "
                f"{left_seconds:.1f} s more"
            )
        return lock

    def renew(self, lock: Lock, *, lease_seconds: float = DEFAULT_LEASE_SECONDS) -> Lock:
        """Hold on to a lock for `lease_seconds` from now; the lock as it is then.

        Raises:
            LockLostError: its lease had ended, whether or not another has it now; stop.
            InvalidInputError: the lease is not above 0 and up to a day.
        """
        args: list[str | float] = [
            lock.name, lock.agent_id, lock.fence, _lease_ms(lease_seconds), _RETENTION_MS,
        ]  # fmt: skip
        with redis_errors(self._redis):
            stored = _RENEW(self._redis, [locks_key(lock.session_id)], args)
        if stored is None:
            raise LockLostError(
                f"session {lock.session_id}: lock {lock.name} is no longer held by {lock.agent_id} "
                f"under {lock.fence}; stop what rests on it"
            )
        return _lock(lock.session_id, lock.name, stored)

    def release(self, lock: Lock) -> bool:
        """Free a lock; False if it was no longer held by this claim, as on a second call."""
        args: list[str | float] = [lock.name, lock.agent_id, lock.fence]
        with redis_errors(self._redis):
            return bool(_RELEASE(self._redis, [locks_key(lock.session_id)], args))

    def find(self, session_id: str, name: str) -> Lock | None:
        """The lock, if somebody holds it now."""
        found = self._look(session_id, check_id(name, "name"))
        return found[0] if found else None

    def _look(self, session_id: str, name: str) -> list[Lock]:
        with redis_errors(self._redis):
            flat = _LOOK(self._redis, [locks_key(session_id)], [name])
        held = dict(zip(flat[::2], flat[1::2], strict=True))
        return [_lock(session_id, each.decode(), held[each]) for each in sorted(held)]

    def list(self, session_id: str) -> list[Lock]:
        """The session's locks that are held now, by name."""
        return self._look(session_id, "")


def _lock(session_id: str, name: str, stored: bytes) -> Lock:
    fields: dict[str, Any] = json.loads(stored)
    return Lock(
        session_id=session_id,
        name=name,
        agent_id=fields["agent"],
        fence=int(fields["fence"]),
        taken_at=utc_from_ms(fields["taken_at"]),
        ends_at=utc_from_ms(fields["ends_at"]),
    )


def _lease_ms(seconds: float) -> int:
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 < seconds <= MAX_LEASE_SECONDS:
        raise InvalidInputError("lease_seconds", f"above 0, up to {MAX_LEASE_SECONDS}", seconds)
    return max(1, round(seconds * 1000))
