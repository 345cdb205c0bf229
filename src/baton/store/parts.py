"""The parts of one store, and what every method of it does first and last."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.content.text import encode_text
from baton.errors import BatonError, ContextTooLargeError, KeyNotFoundError, SealedError
from baton.ids import check_id, new_operation_id
from baton.redis_client import redis_errors
from baton.store.keys import SessionKeys
from baton.store.writing import Draft
from baton.versions import parse_version

if TYPE_CHECKING:
    from types import TracebackType

    from baton.binary_redis import BinaryRedis
    from baton.store.access import AccessNotes
    from baton.store.commits import Commits
    from baton.store.conflicts import PendingConflicts
    from baton.store.envelopes import EnvelopeExport
    from baton.store.extracts import Extracts
    from baton.store.heads import OpenedVersion
    from baton.store.manifest import WriteOperation
    from baton.store.marks import Marks
    from baton.store.reading import ContextReader
    from baton.store.records import Commit, Extract
    from baton.store.retention import Retention
    from baton.store.writing import ContextWriter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreParts:
    """What the methods of a store work with."""

    redis: BinaryRedis
    notes: AccessNotes
    reader: ContextReader
    writer: ContextWriter
    commits: Commits
    pending: PendingConflicts
    marks: Marks
    extracts: Extracts
    export: EnvelopeExport
    retention: Retention
    max_context_bytes: int

    def session(self, session_id: str, agent_id: str) -> AbstractContextManager[SessionKeys]:
        """The session's keys; Redis' errors become ours, and what a seal refuses is noted.

        Raises:
            InvalidIdError: one of them is no id; at once, so that no note holds what is none.
        """
        return _SessionWork(self, SessionKeys.of(session_id), check_id(agent_id, "agent_id"))

    def reading(
        self, session_id: str, agent_id: str | None = None
    ) -> AbstractContextManager[SessionKeys]:
        """As `session`, for readers: None is anonymous."""
        return _SessionWork(self, SessionKeys.of(session_id), reader_id(agent_id))

    def read_range(
        self,
        keys: SessionKeys,
        version: str | None,
        start_byte: int,
        end_byte: int | None,
        agent_id: str | None,
    ) -> Extract:
        """A range of a version, its reading noted; see `ContextReads.read_range`."""
        extract = self.extracts.range(keys, version, start_byte, end_byte)
        self.notes.add(keys, extract.version, reader_id(agent_id))
        return extract

    def draft(
        self,
        session_id: str,
        content: str,
        agent_id: str,
        operation_id: str | None,
        operation: WriteOperation = "put",
    ) -> Draft:
        """A blind write of `content`, checked, for its caller to narrow with `replace`."""
        return Draft(
            keys=SessionKeys.of(session_id),
            session_id=session_id,
            agent_id=check_id(agent_id, "agent_id"),
            data=self.bounded_text(content),
            base="",
            explicit=None,
            bump="patch",
            operation_id=(
                new_operation_id()
                if operation_id is None
                else check_id(operation_id, "operation_id")
            ),
            once=operation_id is not None,
            operation=operation,
        )

    def commit(self, draft: Draft) -> Commit:
        """Commit by the draft's policy, and collect where that is due."""
        with self.session(draft.session_id, draft.agent_id) as keys:
            commit, version_count = self.commits.commit(draft)
        self.collect_if_due(keys, draft.agent_id, version_count)
        return commit

    def find_done(self, keys: SessionKeys, operation_id: str | None) -> Commit | None:
        """What a write of that name was answered; None if there was none, or it has no name.

        Asked before anything is looked at that may have gone since.
        """
        if operation_id is None:
            return None
        return self.commits.find_done(keys, check_id(operation_id, "operation_id"))

    def collect_if_due(self, keys: SessionKeys, agent_id: str, version_count: int) -> None:
        """Collect after a commit. The commit has happened: a failure here is not its failure."""
        try:
            with redis_errors(self.redis):
                self.retention.collect_if_due(keys, agent_id, version_count)
        except BatonError as error:
            logger.warning("session %s: not collected: %s", keys.session_id, error)

    def whole(self, keys: SessionKeys, version: str | None) -> tuple[OpenedVersion, str]:
        """One version and its text, the head's if `version` is None."""
        return self.reader.with_version(
            keys, keys.session_id, version, lambda opened: (opened, self.reader.content(opened))
        )

    def read_whole(
        self, keys: SessionKeys, version: str | None, agent_id: str | None
    ) -> tuple[OpenedVersion, str]:
        """As `whole`, its reading noted: for who shows the text, or takes it to another session."""
        found = self.whole(keys, version)
        self.notes.add(keys, found[0].manifest.version, reader_id(agent_id))
        return found

    def note_pending(self, keys: SessionKeys, conflict_id: str, agent_id: str | None) -> None:
        """Note the reading of a pending write: it has no version, but a name."""
        self.notes.add(keys, "", reader_id(agent_id), details={"conflict": conflict_id})

    def bounded_text(self, content: str) -> bytes:
        """`content` as UTF-8; what is too large by its characters alone is not even encoded.

        Raises:
            InvalidInputError, InvalidTextError: it is no text.
            ContextTooLargeError: it is larger than a context may be.
        """
        if isinstance(content, str) and len(content) > self.max_context_bytes:
            raise self._too_large(f"<{len(content)} characters>")
        return self.bounded(encode_text(content))

    def bounded(self, data: bytes) -> bytes:
        """Return `data` if a context may be as large.

        Raises:
            ContextTooLargeError: it may not.
        """
        if len(data) > self.max_context_bytes:
            raise self._too_large(f"<{len(data)} bytes>")
        return data

    def _too_large(self, got: str) -> ContextTooLargeError:
        return ContextTooLargeError("content", f"at most {self.max_context_bytes} bytes", got)


class _SessionWork(AbstractContextManager[SessionKeys]):
    __slots__ = ("_agent_id", "_errors", "_keys", "_notes")

    def __init__(self, parts: StoreParts, keys: SessionKeys, agent_id: str) -> None:
        self._notes = parts.notes
        self._errors = redis_errors(parts.redis)
        self._keys = keys
        self._agent_id = agent_id

    def __enter__(self) -> SessionKeys:
        return self._keys

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, SealedError | KeyNotFoundError):
            details = {"reason": type(error).__name__}
            self._notes.add(self._keys, "", self._agent_id, operation="denied", details=details)
        self._errors.__exit__(kind, error, traceback)


def reader_id(agent_id: str | None) -> str:
    """The name that a read is noted under; "" is anonymous.

    Raises:
        InvalidIdError: it is neither an id nor None.
    """
    return "" if agent_id is None else check_id(agent_id, "agent_id")


def parsed(version: str | None) -> str | None:
    """A well-formed version, or None for none.

    Raises:
        InvalidVersionError: it is neither.
    """
    return None if version is None else str(parse_version(version))
