"""Seals audit trails, has their heads anchored outside Redis, and trims what is safe elsewhere."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any, Final, Literal

from baton.errors import AuditBrokenError, InvalidInputError, UnexpectedAnswerError
from baton.failpoints import reach
from baton.redis_client import redis_errors
from baton.scripts import Script
from baton.store.audit_anchors import Head
from baton.store.audit_seals import MAX_ENTRIES, decode_seal, make_seal
from baton.store.keys import AUDIT_PATTERN, SessionKeys
from baton.store.scanning import scan_sessions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.binary_redis import BinaryRedis
    from baton.store.audit_anchors import AuditAnchor
    from baton.store.audit_reading import TrailReader, TrailSize
    from baton.store.audit_seals import Seal
    from baton.store.audit_verification import AuditVerification

logger = logging.getLogger(__name__)

_SEAL: Final = Script("baton.store", "seal_audit")
_ANCHORED: Final = Script("baton.store", "anchor_audit")
_TRIM: Final = Script("baton.store", "trim_audit")
_TRIM_SEALS: Final = Script("baton.store", "trim_seals")


class AuditSealer:
    """Seals segments of at most 500 entries. Any number may run at once: one of them wins.

    A seal is in Redis before its head is anchored: else a lost race would leave a head that no
    trail has. A sealer that dies in between leaves it to the next one.
    """

    def __init__(
        self, client: BinaryRedis, reader: TrailReader, anchor: AuditAnchor | None
    ) -> None:
        self._redis = client
        self._reader = reader
        self._anchor = anchor

    def seal(self, session_id: str) -> int:
        """Seal and anchor what is not yet; how many entries were sealed.

        Raises:
            AuditBrokenError: entries or seals are missing or damaged; nothing is sealed on top.
            AnchorUnavailableError: sealed, but not anchored; the next call does that.
            StoreUnavailableError: Redis did not answer.
        """
        sealed, head = self._seal_tail(session_id)
        self._keep([] if head is None else [head])
        return sealed

    def seal_all(self) -> int:
        """`seal` every session that needs it; how many entries were sealed.

        One whose trail is broken is left as it is, and named in the log.
        """
        total = 0
        with redis_errors(self._redis):
            for session_ids in scan_sessions(self._redis, AUDIT_PATTERN):
                heads = []
                for session_id in self._due(session_ids):
                    sealed, head = self._seal_tail_or_warn(session_id)
                    total += sealed
                    heads += [] if head is None else [head]
                self._keep(heads)
        return total

    def trim(
        self,
        verified: AuditVerification,
        *,
        through_segment: int,
        older_than_seconds: float,
        kind: Literal["trimmed", "carried"],
    ) -> int:
        """Take whole segments off the front: exported, anchored, and of that age.

        Args:
            verified: of just now, against an anchor.
            through_segment: the last that the caller has a safe copy of.
            older_than_seconds: how long ago they must have been sealed.
            kind: what the anchor is told.

        Returns:
            How many entries went.

        Raises:
            AuditBrokenError: the trail does not verify; what is there may be evidence.
            InvalidInputError: no anchor that can be read back knows any of it.
        """
        if not verified.ok:
            raise AuditBrokenError(
                f"the audit of session {verified.session_id} does not verify; nothing was trimmed"
            )
        if self._anchor is None or not verified.anchored_segments:
            raise InvalidInputError("anchor", "one that keeps the trail's heads", "<none>")
        last = min(through_segment, verified.anchored_segments)
        due = list(self._old_seals(verified, last, older_than_seconds))
        if not due:
            return 0
        keys = SessionKeys.of(verified.session_id)
        self._anchor.append([Head.of(due[-1], kind)])
        reach("audit.announced")
        front = due[-1]
        with redis_errors(self._redis):
            count = sum(
                int(_TRIM(self._redis, [keys.base], [s.first_seq, s.last_seq])) for s in due
            )
            if kind == "carried":  # the seals too; that of the last stays: the anchor knows it
                _TRIM_SEALS(self._redis, [keys.base], [front.segment, front.encode()])
        return count

    def _seal_tail_or_warn(self, session_id: str) -> tuple[int, Head | None]:
        try:
            return self._seal_tail(session_id)
        except (AuditBrokenError, UnexpectedAnswerError) as error:
            logger.warning("the audit of session %s is not sealed: %s", session_id, error)
            return 0, None

    def _seal_tail(self, session_id: str) -> tuple[int, Head | None]:
        """How many entries were sealed, and the head to anchor, unless that is done."""
        total = 0
        while True:
            size = self._reader.measure(session_id)
            seal = _last_seal(size)
            sealed = 0 if seal is None else seal.last_seq
            if size.last_seq == sealed:
                return total, Head.of(seal) if seal and not _is_anchored(seal, size) else None
            total += self._append(size, seal, sealed + 1)

    def _append(self, size: TrailSize, after: Seal | None, first: int) -> int:
        """Seal a segment from entry `first` on; its entries, 0 if another sealer came first."""
        seal = make_seal(
            self._reader.some_entries(size, first, min(MAX_ENTRIES, size.last_seq + 1 - first)),
            session=size.session_id,
            chain=secrets.token_hex(8) if after is None else after.chain,
            after=after,
            at=size.at_ms,
        )
        keys = SessionKeys.of(size.session_id)
        with redis_errors(self._redis):
            done = _SEAL(self._redis, [keys.base], [size.last_seal, seal.encode(), seal.last_seq])
        return seal.count if done else 0

    def _due(self, session_ids: list[str]) -> Iterator[str]:
        """Those that have changed since their last seal, or whose last seal was not anchored."""
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in session_ids:
            keys = SessionKeys.of(session_id)
            pipeline.hmget(keys.audit_state, ["next", "anchored_chain", "anchored"])
            pipeline.lindex(keys.audit_seals, -1)
        answers = pipeline.execute(raise_on_error=False)
        for session_id, state, raw in zip(session_ids, answers[::2], answers[1::2], strict=True):
            if self._is_due(state, raw):
                yield session_id

    def _is_due(self, state: Any, raw: Any) -> bool:
        """Also where it cannot be told: sealing then meets what is wrong, and reports it."""
        try:
            seal = decode_seal(raw)
            next_seq, chain, segment = int(state[0]), state[1], state[2]
            is_anchored = chain == seal.chain.encode() and int(segment) >= seal.segment
        except (ValueError, TypeError):
            return True
        return next_seq != seal.last_seq or (self._anchor is not None and not is_anchored)

    def _keep(self, heads: list[Head]) -> None:
        if self._anchor is None or not heads:
            return
        self._anchor.append(heads)
        with redis_errors(self._redis):
            for head in heads:
                _ANCHORED(
                    self._redis, [SessionKeys.of(head.session).base], [head.chain, head.segment]
                )

    def _old_seals(
        self, verified: AuditVerification, last_segment: int, older_than_seconds: float
    ) -> Iterator[Seal]:
        """Those that are still to be trimmed, in order."""
        size = self._reader.measure(verified.session_id)
        for raw in self._reader.seals(size):
            seal = decode_seal(raw)
            is_old = size.at_ms - seal.at >= older_than_seconds * 1000
            if seal.segment > last_segment or not is_old:
                return
            if seal.first_seq > size.trimmed:
                yield seal


def _last_seal(size: TrailSize) -> Seal | None:
    """The seal that the next is chained to.

    Raises:
        AuditBrokenError: it is damaged, or there are not as many entries as were sealed.
    """
    if not size.last_seal:
        return None
    advice = f"`baton audit verify {size.session_id}` says more"
    try:
        seal = decode_seal(size.last_seal)
    except ValueError as error:
        raise AuditBrokenError(
            f"session {size.session_id}: the last seal of its audit is damaged; {advice}"
        ) from error
    if size.last_seq < seal.last_seq:
        raise AuditBrokenError(
            f"session {size.session_id}: its audit has {size.last_seq} entries, but "
            f"{seal.last_seq} were sealed; {advice}"
        )
    return seal


def _is_anchored(seal: Seal, size: TrailSize) -> bool:
    """Whether an anchor was seen to take the chain up to `seal`."""
    chain, segment = size.anchored
    return chain == seal.chain and segment >= seal.segment
