"""Sealed segments of audit trails, in a file beside the archive's: what Redis need not keep.

They are no content and hang on no data key: they outlive the purge of their session. The file needs
no lock of the folder, as each change of it is one transaction of SQLite's.
"""

from __future__ import annotations

import json
import struct
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Final

from baton.archive.sqlite_file import FACTS, SqliteFile
from baton.content.blob import pack_blob, unpack_blob
from baton.errors import ContextCorruptError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from baton.store.audit_seals import Seal

FILE_NAME: Final = "audit.sqlite"
BATCH: Final = 100
_MOST_BYTES: Final = 256 * 1024 * 1024
_LENGTH: Final = struct.Struct("!I")
_SCHEMA: Final = (
    """CREATE TABLE segments (
        session TEXT NOT NULL, chain TEXT NOT NULL, segment INTEGER NOT NULL,
        first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, sealed_at_ms INTEGER NOT NULL,
        seal BLOB NOT NULL, entries BLOB, PRIMARY KEY (session, chain, segment)
    ) STRICT""",
    "CREATE INDEX segments_by_entry ON segments (session, chain, first_seq)",
    "CREATE INDEX segments_by_age ON segments (sealed_at_ms) WHERE entries IS NOT NULL",
    FACTS,
)


@dataclass(frozen=True, slots=True)
class CarriedSegment:
    """One segment, as it stood in Redis.

    Attributes:
        seal: its seal, raw.
        packed: its entries; of a segment that was taken out of Redis before it was carried, none.
            None: they are past their time.
    """

    session: str
    chain: str
    segment: int
    first_seq: int
    last_seq: int
    sealed_at_ms: int
    seal: bytes
    packed: bytes | None

    @classmethod
    def of(cls, seal: Seal, raw_entries: Sequence[bytes]) -> CarriedSegment:
        """The segment of `seal`, whose entries are these."""
        return cls(
            session=seal.session,
            chain=seal.chain,
            segment=seal.segment,
            first_seq=seal.first_seq,
            last_seq=seal.last_seq,
            sealed_at_ms=seal.at,
            seal=seal.encode(),
            packed=_pack(raw_entries),
        )

    @property
    def count(self) -> int:
        """How many entries its seal tells of."""
        return self.last_seq - self.first_seq + 1

    def entries(self) -> list[bytes]:
        """The entries, raw; none where they are past their time.

        Raises:
            ContextCorruptError, UnsupportedFormatError, ContextTooLargeError: they are not what was
                stored.
        """
        return [] if self.packed is None else _unpack(self.packed)


@dataclass(frozen=True, slots=True)
class CarriedChain:
    """One chain of a session's seals, as far as the file has it. A session may have had several.

    Attributes:
        segments: number of the last segment.
        last_seq: number of its last entry.
    """

    chain: str
    segments: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a chain, to ask about: the entry number `seq`."""

    session: str
    chain: str
    seq: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What the file has of a chain.

    Attributes:
        segments: number of its last segment; 0: nothing.
        segment: the one that begins at the place asked about; None: the file has none.
        sealed_at_ms: when that one was sealed.
    """

    segments: int
    segment: int | None
    sealed_at_ms: int | None


_COLUMNS: Final = ", ".join(field.name for field in fields(CarriedSegment)[:-1]) + ", entries"
_SELECT: Final = f"SELECT {_COLUMNS} FROM segments"  # noqa: S608
_STANDINGS: Final = """
    WITH asked AS (
        SELECT key AS number, json_extract(value, '$[0]') AS session,
               json_extract(value, '$[1]') AS chain, json_extract(value, '$[2]') AS seq
        FROM json_each(?)
    )
    SELECT (SELECT coalesce(max(each.segment), 0) FROM segments each
            WHERE each.session = asked.session AND each.chain = asked.chain),
           next.segment, next.sealed_at_ms
    FROM asked LEFT JOIN segments next ON next.session = asked.session
         AND next.chain = asked.chain AND next.first_seq = asked.seq
    GROUP BY number ORDER BY number
"""


class AuditFile:
    """The carried segments of one archive. Raises what `SqliteFile` does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = SqliteFile(path, _SCHEMA, secure_delete=True)

    def exists(self) -> bool:
        """Whether anything was ever carried here."""
        return self._path.exists()

    def make_folder(self) -> None:
        """Make its folder, for us alone, if it is not there."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, segments: Sequence[CarriedSegment]) -> None:
        """Store them, all or none; on the disk when it returns. Idempotent.

        What is there stays as it is: nothing that comes later may replace it.
        """
        with self._file.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                map(astuple, segments),
            )

    def segments(
        self, session_id: str, chain: str, first: int = 1, last: int | None = None
    ) -> Iterator[CarriedSegment]:
        """Segments `first` to `last` of a chain, those that are there, in order; in batches."""
        while last is None or first <= last:
            rows = self._file.rows(
                f"{_SELECT} WHERE session = ? AND chain = ? AND segment >= ? "
                "AND (? IS NULL OR segment <= ?) ORDER BY segment LIMIT ?",
                (session_id, chain, first, last, last, BATCH),
            )
            found = [CarriedSegment(*row) for row in rows]
            yield from found
            if len(found) < BATCH:
                return
            first = found[-1].segment + 1

    def newest_first(
        self, session_id: str, chain: str, through_seq: int | None = None
    ) -> Iterator[CarriedSegment]:
        """Segments of a chain from the newest on; those that end by entry `through_seq`."""
        before = None
        while True:
            rows = self._file.rows(
                f"{_SELECT} WHERE session = ? AND chain = ? AND (? IS NULL OR last_seq <= ?) "
                "AND (? IS NULL OR segment < ?) ORDER BY segment DESC LIMIT ?",
                (session_id, chain, through_seq, through_seq, before, before, BATCH),
            )
            found = [CarriedSegment(*row) for row in rows]
            yield from found
            if len(found) < BATCH:
                return
            before = found[-1].segment

    def chains(self, session_id: str) -> list[CarriedChain]:
        """The session's chains, the oldest first."""
        rows = self._file.rows(
            "SELECT chain, max(segment), max(last_seq) FROM segments WHERE session = ? "
            "GROUP BY chain ORDER BY max(sealed_at_ms)",
            (session_id,),
        )
        return [CarriedChain(*row) for row in rows]

    def standings(self, places: Sequence[Place]) -> list[Standing]:
        """What there is of these chains, in the order asked."""
        asked = json.dumps([astuple(place) for place in places])
        return [Standing(*row) for row in self._file.rows(_STANDINGS, (asked,))]

    def forget(self, before_ms: int, limit: int) -> int:
        """Drop entries that were sealed before; at most of `limit` segments; of how many.

        The seals of a chain stay until all of its entries are dropped: they hold it together.
        """
        with self._file.transaction() as connection:
            rows = connection.execute(
                "SELECT session, chain, segment FROM segments "
                "WHERE entries IS NOT NULL AND sealed_at_ms < ? ORDER BY sealed_at_ms LIMIT ?",
                (before_ms, limit),
            ).fetchall()
            connection.executemany(
                "UPDATE segments SET entries = NULL "
                "WHERE session = ? AND chain = ? AND segment = ?",
                rows,
            )
            connection.executemany(
                "DELETE FROM segments WHERE session = ? AND chain = ? AND NOT EXISTS "
                "(SELECT 1 FROM segments s WHERE s.session = segments.session "
                "AND s.chain = segments.chain AND s.entries IS NOT NULL)",
                {(session, chain) for session, chain, _ in rows},
            )
        return len(rows)

    def fact(self, name: str) -> str | None:
        """A fact about the file as a whole."""
        return self._file.fact(name)

    def set_fact(self, name: str, value: str) -> None:
        """Record a fact, in place of the one of its name."""
        self._file.set_fact(name, value)

    def check(self) -> None:
        """Raise ColdStoreCorruptError if the file is damaged."""
        self._file.check()

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        self._file.close()


def _pack(raw_entries: Sequence[bytes]) -> bytes:
    """Each behind its length: what stands in Redis need not be one line."""
    return pack_blob(b"".join(_LENGTH.pack(len(raw)) + raw for raw in raw_entries))


def _unpack(packed: bytes) -> list[bytes]:
    data = unpack_blob(packed, limit_bytes=_MOST_BYTES)
    entries, at = [], 0
    while at < len(data):
        if len(data) - at < _LENGTH.size:
            raise ContextCorruptError("a segment of the audit: cut short")
        (size_bytes,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        entries.append(data[at : at + size_bytes])
        at += size_bytes
    return entries
