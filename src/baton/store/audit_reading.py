"""Reads a session's audit trail from Redis in bounded batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.errors import ContextNotFoundError, SessionBusyError
from baton.redis_client import redis_errors
from baton.scripts import Script
from baton.store.keys import SessionKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.binary_redis import BinaryRedis

_LOOK: Final = Script("baton.store", "look_at_audit")

BATCH: Final = 500
_MOST: Final = 10**12


@dataclass(frozen=True, slots=True)
class TrailSize:
    """What there was of a trail at one instant; what is appended later is not seen.

    Attributes:
        next_seq: the counter: number of the last entry; -1: it is damaged.
        trimmed: entries that were taken off the front.
        entries: those behind them.
        seals: number of the last one, by counting.
        seals_gone: those of them that were taken off the front.
        last_seal: raw; empty without seals.
        anchored: chain and segment that an anchor took last, as far as noted.
        at_ms: milliseconds by Redis' clock.
    """

    session_id: str
    next_seq: int
    trimmed: int
    entries: int
    seals: int
    last_seal: bytes
    anchored: tuple[str, int]
    at_ms: int
    seals_gone: int = 0

    @property
    def last_seq(self) -> int:
        """Number of the last entry, by counting."""
        return self.trimmed + self.entries


class TrailReader:
    """Reads trails. Every method raises StoreUnavailableError where Redis does not answer."""

    def __init__(self, client: BinaryRedis) -> None:
        self._redis = client

    def measure(self, session_id: str) -> TrailSize:
        """What there is now; of a session without a trail, nothing."""
        with redis_errors(self._redis):
            found = _LOOK(self._redis, [SessionKeys.of(session_id).base], [])
        next_seq, trimmed, entries, seals, last_seal, chain, anchored, at_ms, gone = found
        return TrailSize(
            session_id=session_id,
            next_seq=_number(next_seq, -1) if next_seq else 0,
            trimmed=_number(trimmed),
            entries=entries,
            seals=_number(gone) + seals,
            last_seal=last_seal,
            anchored=(chain.decode("ascii", "replace"), _number(anchored)),
            at_ms=at_ms,
            seals_gone=_number(gone),
        )

    def seals(self, size: TrailSize, first_segment: int = 1) -> Iterator[bytes]:
        """The seals that are there, raw, in order, from number `first_segment` on.

        Raises:
            SessionBusyError: some were trimmed meanwhile.
        """
        keys, gone = SessionKeys.of(size.session_id), size.seals_gone
        for first in range(max(first_segment, gone + 1), size.seals + 1, BATCH):
            last = min(first + BATCH - 1, size.seals)
            with redis_errors(self._redis):
                pipeline = self._redis.pipeline(transaction=False)
                pipeline.lrange(keys.audit_seals, first - 1 - gone, last - 1 - gone)
                # Asked last: if nothing is trimmed by now, nothing was when the list was read.
                pipeline.hget(keys.audit_state, "seals_gone")
                batch, gone_now = pipeline.execute()
            if _number(gone_now) != gone:
                raise _trimmed_meanwhile(size.session_id)
            yield from batch

    def entries(self, size: TrailSize) -> Iterator[bytes]:
        """The entries, raw, in order.

        Raises:
            SessionBusyError: they were trimmed meanwhile.
        """
        for first in range(size.trimmed + 1, size.last_seq + 1, BATCH):
            yield from self.some_entries(size, first, min(BATCH, size.last_seq + 1 - first))

    def latest(self, size: TrailSize, limit: int | None = None) -> Iterator[bytes]:
        """The last `limit` entries, raw, the newest first. Errors: `entries`."""
        last = size.last_seq
        end = size.trimmed if limit is None else max(size.trimmed, last - limit)
        while last > end:
            count = min(BATCH, last - end)
            yield from reversed(self.some_entries(size, last - count + 1, count))
            last -= count

    def some_entries(self, size: TrailSize, first: int, count: int) -> list[bytes]:
        """At most `count` raw entries from number `first` on. Errors: `entries`."""
        keys = SessionKeys.of(size.session_id)
        trimmed = size.trimmed
        while True:
            start = first - 1 - trimmed
            with redis_errors(self._redis):
                pipeline = self._redis.pipeline(transaction=False)
                pipeline.lrange(keys.audit, start, start + count - 1)
                # Asked last: if nothing is trimmed by now, nothing was when the list was read.
                pipeline.hget(keys.audit_state, "trimmed")
                found, trimmed_now = pipeline.execute()
            if _number(trimmed_now) == trimmed:
                return list(found)
            trimmed = _number(trimmed_now)
            if trimmed >= first:
                raise _trimmed_meanwhile(size.session_id)


def require_trail(size: TrailSize) -> TrailSize:
    """Return `size` if there is anything.

    Raises:
        ContextNotFoundError: the session has no audit trail, or none any more.
    """
    if size.entries or size.seals or size.next_seq:
        return size
    raise ContextNotFoundError(f"session {size.session_id} has no audit trail; it may have expired")


def _trimmed_meanwhile(session_id: str) -> SessionBusyError:
    return SessionBusyError(f"the audit of session {session_id} was trimmed meanwhile; try again")


def _number(raw: bytes | None, otherwise: int = 0) -> int:
    """A count as it stands in Redis; `otherwise` if it is missing or none."""
    if raw is None or not raw.isdigit() or int(raw) > _MOST:
        return otherwise
    return int(raw)
