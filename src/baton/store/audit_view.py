"""What shows, verifies and exports audit trails, and says what it does not have of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from baton.errors import InvalidInputError
from baton.store.audit_entries import AuditEntry, decode_entry

if TYPE_CHECKING:
    from baton.store.audit_verification import AuditVerification

logger = logging.getLogger(__name__)


class ShownEntries(Iterator[AuditEntry]):
    """Entries of a trail, the newest first. An end where older ones are missing is logged.

    Attributes:
        session_id: whose trail.
        missing: how many entries the trail had that this source does not have any more: they were
            exported, carried to an archive's file that is not here, or are past their time.

    Args:
        raw_entries: as they are stored, the newest first.
        limit: how many are shown at most; None: all.
    """

    def __init__(
        self, session_id: str, raw_entries: Iterator[bytes], limit: int | None, missing: int
    ) -> None:
        self.session_id = session_id
        self.missing = missing
        self._raw_entries = raw_entries
        self._left = limit

    def __next__(self) -> AuditEntry:
        """The next older entry."""
        if self._left == 0:
            raise StopIteration
        raw = next(self._raw_entries, None)
        if raw is None:
            self._end()
            raise StopIteration
        if self._left is not None:
            self._left -= 1
        return decode_entry(raw)

    def _end(self) -> None:
        self._left = 0
        if self.missing:
            logger.warning(
                "the audit of session %s had %d more entries, which are not here: they were "
                "exported, or are in the archive's file of the machine that has it, or are past "
                "their time; `baton audit show %s` there shows what is kept",
                self.session_id,
                self.missing,
                self.session_id,
            )


class AuditView(Protocol):
    """Shows trails. Every method raises InvalidIdError and StoreUnavailableError, see `AuditTrail`.

    One over Redis alone is `baton.store.audit.AuditTrail`; one that reads the archive's file as
    well, `baton.archive.whole_trail.WholeTrail`.
    """

    def show(self, session_id: str, limit: int | None = None) -> ShownEntries:
        """The session's entries, newest first, at most `limit` (1 or more); in bounded batches.

        Raises:
            ContextNotFoundError: there is no trail, or none any more.
            SessionBusyError: the trail was trimmed meanwhile.
        """

    def verify(self, session_id: str) -> AuditVerification:
        """Recompute the whole trail, against its seals and the anchor.

        Raises:
            ContextNotFoundError: neither this source nor the anchor knows of a trail.
            AnchorUnavailableError: the anchor could not be read.
            SessionBusyError: the trail was trimmed meanwhile.
            UnexpectedAnswerError: a key of the trail has another type.
        """

    def export(self, session_id: str) -> Iterator[bytes]:
        """The trail as lines, in bounded batches; `verify_export` checks them without Redis.

        Raises:
            ContextNotFoundError: there is no trail, or none any more.
            SessionBusyError: the trail was trimmed meanwhile.
        """


def check_limit(limit: int | None) -> None:
    """Raise InvalidInputError for a limit that shows nothing."""
    if limit is not None and limit < 1:
        raise InvalidInputError("limit", "1 or more, or None", limit)
