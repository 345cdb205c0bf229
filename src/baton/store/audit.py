"""The audit trail of sessions: shown, exported, sealed, verified, trimmed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from baton.redis_client import require_binary
from baton.settings import DAY_SECONDS
from baton.store.audit_export import export_chain
from baton.store.audit_reading import TrailReader, require_trail
from baton.store.audit_sealing import AuditSealer
from baton.store.audit_verification import Trail, verify_trail
from baton.store.audit_view import ShownEntries, check_limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from baton.store.audit_anchors import AuditAnchor
    from baton.store.audit_reading import TrailSize
    from baton.store.audit_verification import AuditVerification

TRIM_AFTER_SECONDS: float = 30 * DAY_SECONDS


class AuditTrail:
    """What was done to each session, by whom and when, and whether anybody changed that since.

    Entries are written by the scripts that do what they tell of; nothing here adds one. Sealing
    makes a later change show, and the anchor makes it show even to one who can rewrite all of
    Redis. What is not sealed yet can still be changed unseen: see `unsealed_entries`.

    Every method raises InvalidIdError for what is no session id, and StoreUnavailableError where
    Redis does not answer.

    Args:
        redis_client: a binary client. It is not closed here.
        anchor: where heads are kept outside Redis; None: nowhere, and then who can write to Redis
            can replace a trail by another.
    """

    def __init__(self, redis_client: redis.Redis, anchor: AuditAnchor | None = None) -> None:
        client = require_binary(redis_client)
        self._anchor = anchor
        self._reader = TrailReader(client)
        self._sealer = AuditSealer(client, self._reader, anchor)

    def show(self, session_id: str, limit: int | None = None) -> ShownEntries:
        """The entries that Redis has. Contract: `AuditView.show`."""
        check_limit(limit)
        size = require_trail(self._reader.measure(session_id))
        raw_entries = self._reader.latest(size, limit)
        return ShownEntries(session_id, raw_entries, limit, size.trimmed)

    def seal(self, session_id: str) -> int:
        """Seal what is not sealed and anchor the head; how many entries were sealed.

        Idempotent; two at once do no harm.

        Raises:
            AuditBrokenError: sealed entries or seals are missing; nothing is sealed on top.
            AnchorUnavailableError: sealed, but not anchored; the next call does that.
        """
        return self._sealer.seal(session_id)

    def seal_all(self) -> int:
        """`seal` each session that needs it; how many entries were sealed.

        A session whose trail is broken is left as it is, and named in the log.

        Raises:
            AnchorUnavailableError: some are sealed, but not anchored; the next call does that.
        """
        return self._sealer.seal_all()

    def verify(self, session_id: str) -> AuditVerification:
        """Recompute the whole trail, against its seals and the anchor.

        Raises:
            ContextNotFoundError: neither Redis nor the anchor knows of a trail.
            AnchorUnavailableError: the anchor could not be read.
            SessionBusyError: the trail was trimmed meanwhile.
            UnexpectedAnswerError: a key of the trail has another type.
        """
        # The heads first: what is sealed in between must not look like a head without its seal.
        heads = None if self._anchor is None else self._anchor.find_heads(session_id)
        size = self._reader.measure(session_id)
        if not heads:
            require_trail(size)
        return verify_trail(self._found(size), heads)

    def export(self, session_id: str) -> Iterator[bytes]:
        """What Redis has, as lines. Contract: `AuditView.export`."""
        size = require_trail(self._reader.measure(session_id))
        return export_chain(self._found(size), size.entries)

    def trim(
        self,
        session_id: str,
        *,
        through_segment: int,
        older_than_seconds: float = TRIM_AFTER_SECONDS,
        kind: Literal["trimmed", "carried"] = "trimmed",
    ) -> int:
        """Take old segments out of Redis that the caller has exported; how many entries went.

        Seals stay, so the chain still verifies. The anchor is told first: a front that is missing
        without its word is reported as tampering.

        Args:
            session_id: the session.
            through_segment: the last segment of which the caller has a safe copy.
            older_than_seconds: how long ago a segment must have been sealed.
            kind: what the anchor is told: `carried`, where the copy is in the archive's file.

        Raises:
            AuditBrokenError: the trail does not verify; what is there may be evidence.
            InvalidInputError: no anchor that can be read back knows the trail.
        """
        return self._sealer.trim(
            self.verify(session_id),
            through_segment=through_segment,
            older_than_seconds=older_than_seconds,
            kind=kind,
        )

    def _found(self, size: TrailSize) -> Trail:
        return Trail(
            session_id=size.session_id,
            next_seq=size.next_seq,
            trimmed=size.trimmed,
            at_ms=size.at_ms,
            seals=list(self._reader.seals(size)),
            entries=self._reader.entries(size),
            first_segment=size.seals_gone + 1,
        )
