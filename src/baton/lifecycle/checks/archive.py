"""Whether the archive has what it should, and finds what it has."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from baton.errors import BatonError, StoreUnavailableError
from baton.lifecycle.findings import Finding
from baton.redis_client import redis_errors, require_binary
from baton.store.keys import VERSION_PATTERN, SessionKeys
from baton.store.scanning import scan_sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from baton.archive.requests import Kind

TOMBSTONES_AT_ONCE: Final = 500
_REINDEXING: Final = "makes the index anew from the cold store: of a large archive it takes hours"


class Ask(Protocol):
    """Asks the archive."""

    def __call__(self, kind: Kind, **fields: Any) -> Any:
        """What it answers; see `baton.archive.requests`.

        Raises:
            BatonError: what the archive raises; its pool gave no answer.
        """


class ArchiveCheck:
    """Compares tombstones, ledger and index. Asks nobody where nothing was ever archived.

    Args:
        redis_client: a binary client.
        ask: asks the archive.
        anywhere: whether there is one to ask.
    """

    kinds: Final = {
        "archive_away": "Archived sessions, and no archive that can be asked.",
        "tombstone_without_copy": "Archived sessions whose copy the archive does not have.",
        "broken_index": "The archive's index does not find what is in it.",
        "missing_rows": "Archived sessions of which the index lacks rows.",
    }

    def __init__(self, redis_client: redis.Redis, ask: Ask, anywhere: Callable[[], bool]) -> None:
        self._redis = require_binary(redis_client)
        self._ask = ask
        self._anywhere = anywhere

    def find(self) -> Iterator[Finding]:
        """See `Check.find`. An archive that gives no answer is a finding, too."""
        try:
            yield from self._look()
        except StoreUnavailableError:
            raise
        except BatonError as error:
            yield Finding(
                "archive_away", "the archive", f"could not be asked: {error}",
                "it is left: what is in it was not looked at",
            )  # fmt: skip

    def _look(self) -> Iterator[Finding]:
        is_somewhere = self._anywhere()
        count = 0
        for tombstones in self._tombstones():
            count += len(tombstones)
            if is_somewhere:
                yield from self._without_copy(tombstones)
        if is_somewhere:
            yield from self._of_index()
        elif count:
            yield Finding(
                "archive_away", "the archive", f"is not here, and {count} sessions are in it",
                "it is left: run this where the archive's folder is, or with its pool running",
            )  # fmt: skip

    def _tombstones(self) -> Iterator[list[list[str]]]:
        """Session, shelf and copy of the archived sessions, in batches."""
        with redis_errors(self._redis):
            for batch in scan_sessions(self._redis, VERSION_PATTERN):
                found = self._read(batch)
                for first in range(0, len(found), TOMBSTONES_AT_ONCE):
                    yield found[first : first + TOMBSTONES_AT_ONCE]

    def _read(self, session_ids: list[str]) -> list[list[str]]:
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in session_ids:
            pipeline.hmget(SessionKeys.of(session_id).base, ["archived", "shelf", "copy"])
        return [
            [session_id, (shelf or b"").decode(), (copy or b"").decode()]
            for session_id, (archived, shelf, copy) in zip(
                session_ids, pipeline.execute(), strict=True
            )
            if archived == b"1"
        ]

    def _without_copy(self, tombstones: list[list[str]]) -> Iterator[Finding]:
        lost = set(self._ask("without_copy", tombstones=tombstones))
        # What was restored or purged meanwhile has no tombstone any more.
        still = self._read(sorted(lost))
        for tombstone in still:
            if tombstone in tombstones:
                yield Finding(
                    "tombstone_without_copy", tombstone[0],
                    "is archived, and the archive does not have its copy",
                    "it is left: put the backup of the archive's folder back; without one, nothing "
                    "is left of it, and its tombstone goes in its time",
                )  # fmt: skip

    def _of_index(self) -> Iterator[Finding]:
        found = self._ask("examine")
        if found["healthy"]:
            for session_id, (rows, passages) in found["missing"].items():
                yield Finding(
                    "missing_rows", session_id,
                    f"has {rows} of {passages} passages in the archive's index",
                    "embeds the passages that are missing", partial(self._index, session_id),
                )  # fmt: skip
            if found["more"]:
                yield Finding(
                    "missing_rows", "more sessions", "lack passages in the archive's index",
                    "they are left: run this again, or `baton archive reindex`",
                )  # fmt: skip
        elif found["rebuild"]:
            problem = f"is not fit to search: {found['reason']}"
            yield Finding("broken_index", "the index", problem, _REINDEXING, self._reindex)
        else:
            yield Finding(
                "broken_index", "the index", f"does not answer: {found['reason']}",
                "it is left: it may heal by itself; if not, see the archive pool's log",
            )  # fmt: skip

    def _index(self, session_id: str) -> bool:
        self._ask("index", session_id=session_id)
        return True

    def _reindex(self) -> bool:
        self._ask("reindex")
        return True
