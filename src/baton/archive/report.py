"""How the archive fares, told in Redis by the one process that has it; anybody may read it there.

`archive:health` is a string of JSON. It is written by each run of the sweep `settle`, and stays for
90 days: longer than any run is late, so that a report that no longer comes is seen to be old. This
module needs none of the archive's packages.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from baton.archive.vector_index import IndexHealth
from baton.errors import EmbedderUnavailableError, UnexpectedAnswerError
from baton.redis_client import redis_errors, require_binary

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from baton.archive.service import ArchiveService

KEY: Final = "archive:health"
KEEP_MS: Final = 90 * 86_400_000
LATE_PERIODS: Final = 3
# Where no sweep has told yet how often it does.
PERIOD_MS: Final = 300_000
REBUILD: Final = "`baton doctor --fix` or `baton archive reindex` puts them back"


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What the archive told of itself. Times are in ms by Redis' clock.

    Attributes:
        checked_at_ms: when.
        period_ms: how often it tells.
        archived: sessions of which the archive has all there is.
        copied: sessions in Redis of which it has a copy too.
        held: sessions that it must not purge.
        passages: that should be found by their vectors.
        rows: that the index has; None where it did not answer.
        healthy: whether the probe, and a sample of rows, were found by their vectors.
        reason: why not; empty where they were.
        rebuild: whether the index has to be made anew.
        waiting: sessions that are archived and still without vectors.
        purge_paused_until_ms: until when nothing is purged, as a clock may have jumped; 0: it is.
        free_bytes: left on the disk that the archive is on.
    """

    checked_at_ms: int
    period_ms: int
    archived: int
    copied: int
    held: int
    passages: int
    rows: int | None
    healthy: bool
    reason: str
    rebuild: bool
    waiting: int
    purge_paused_until_ms: int
    free_bytes: int

    @property
    def problem(self) -> str | None:
        """What is wrong with the index; None where nothing is."""
        if not self.healthy:
            told = f"the index is not fit to search: {self.reason or 'its probe was not found'}"
            return f"{told}; `baton archive reindex` makes it anew" if self.rebuild else told
        if self.rows is not None and self.rows < self.passages:
            return f"the index has {self.rows} of {self.passages} passages; {REBUILD}"
        return None

    def is_late(self, now_ms: int) -> bool:
        """Whether it is older than three periods: nobody looks after the archive any more."""
        return now_ms - self.checked_at_ms > LATE_PERIODS * self.period_ms

    def encode(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decode(cls, stored: bytes) -> ArchiveReport:
        """What `encode` gave; fields of a later Baton are left out.

        Raises:
            UnexpectedAnswerError: it is none.
        """
        try:
            found: dict[str, Any] = json.loads(stored)
            return cls(**{each.name: found[each.name] for each in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise UnexpectedAnswerError(
                f"{KEY} holds no report of the archive ({error!r:.100}); the sweep `settle` "
                "writes it anew"
            ) from error


def examine(archive: ArchiveService, folder: Path, now_ms: int, period_ms: int) -> ArchiveReport:
    """Look at the archive in `folder`.

    Raises:
        ColdStoreUnavailableError, ColdStoreCorruptError: its ledger cannot be read.
        StoreUnavailableError: Redis did not answer.
    """
    totals, index = archive.totals(), _index_health(archive)
    return ArchiveReport(
        checked_at_ms=now_ms,
        period_ms=period_ms,
        archived=totals.states.get("archived", 0),
        copied=totals.states.get("copied", 0),
        held=totals.held,
        passages=totals.passages,
        rows=index.rows,
        healthy=index.healthy,
        reason=index.reason,
        rebuild=index.rebuild,
        waiting=totals.waiting_for_index,
        purge_paused_until_ms=archive.purge_paused_until_ms(),
        free_bytes=shutil.disk_usage(folder).free,
    )


def _index_health(archive: ArchiveService) -> IndexHealth:
    """What the index says; where it cannot even be opened, as its model is missing, that."""
    try:
        return archive.check_index()
    except EmbedderUnavailableError as error:
        return IndexHealth(None, healthy=False, reason=str(error))


def put_report(client: redis.Redis, report: ArchiveReport) -> None:
    """Tell it, in place of what was told before.

    Raises:
        StoreUnavailableError: Redis did not answer.
    """
    with redis_errors(client):
        client.set(KEY, report.encode(), px=KEEP_MS)


def find_report(client: redis.Redis) -> ArchiveReport | None:
    """What was told last; None where nothing was ever archived.

    Raises:
        StoreUnavailableError, AccessDeniedError: Redis does not tell.
        UnexpectedAnswerError: something else is there.
    """
    with redis_errors(client):
        stored = require_binary(client).get(KEY)
    return None if stored is None else ArchiveReport.decode(stored)
