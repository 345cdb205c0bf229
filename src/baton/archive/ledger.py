"""The ledger: which session lies on which shelf, under which wrapped data key, and what it is.

A small file, to be backed up with the segments. It is the archive's truth: with Redis and the
vector index gone, every session can be restored from ledger and segments. Deleted rows are
overwritten (`secure_delete`), as a destroyed data key must be gone.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from baton.archive.sqlite_file import FACTS, SqliteFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

State = Literal["writing", "copied", "archived"]
IndexState = Literal["none", "indexed", "waiting", "withheld"]

_SCHEMA: Final = (
    """CREATE TABLE shelves (
        shelf TEXT PRIMARY KEY, session TEXT NOT NULL, state TEXT NOT NULL,
        wrapped_key TEXT NOT NULL, session_key TEXT NOT NULL,
        copy TEXT NOT NULL, catalogue BLOB NOT NULL, passages BLOB NOT NULL,
        index_state TEXT NOT NULL, model_id TEXT NOT NULL, version TEXT NOT NULL,
        owner TEXT NOT NULL, size_bytes INTEGER NOT NULL, passage_count INTEGER NOT NULL,
        created_at_ms INTEGER NOT NULL, updated_at_ms INTEGER NOT NULL,
        accessed_at_ms INTEGER NOT NULL, archived_at_ms INTEGER NOT NULL,
        purge_at_ms INTEGER NOT NULL, hold TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX shelves_by_session ON shelves (session)",
    "CREATE INDEX shelves_by_purge ON shelves (state, purge_at_ms)",
    """CREATE TABLE facets (
        shelf TEXT NOT NULL REFERENCES shelves ON DELETE CASCADE,
        name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (shelf, name, value)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX facets_by_value ON facets (name, value)",
    """CREATE TABLE erasures (
        shelf TEXT PRIMARY KEY, session TEXT NOT NULL, at_ms INTEGER NOT NULL,
        receipt TEXT NOT NULL, buried INTEGER NOT NULL
    ) STRICT""",
    FACTS,
)
AGENT: Final = "agent"
METADATA: Final = "metadata."
BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class ShelfRecord:
    """One session's place in the archive.

    Attributes:
        state: `writing`: no copy is whole yet. `copied`: the copy is whole, and the session is in
            Redis as well, or was when it was copied. `archived`: the copy is all there is.
        wrapped_key: the shelf's data key under a master key, as JSON.
        session_key: of a sealed session, its own data key, wrapped likewise; else empty.
        copy: name of the copy that is whole; empty while there is none.
        catalogue: the segment that tells what makes up the copy; empty likewise.
        passages: the segment that tells where the passages of the index are; empty without index.
        index_state: `waiting`: archived without vectors, which are to come; `withheld`: sealed or
            sensitive, and not to be searched.
        version: the head's.
        created_at_ms: when the session began: tells it from a later one of its name.
        updated_at_ms: when the head was committed.
        purge_at_ms: when the copy of an archived session is to be erased.
        hold: why it may not be; empty where it may.
    """

    shelf: str
    session: str
    state: State
    wrapped_key: str
    session_key: str = ""
    copy: str = ""
    catalogue: bytes = b""
    passages: bytes = b""
    index_state: IndexState = "none"
    model_id: str = ""
    version: str = ""
    owner: str = ""
    size_bytes: int = 0
    passage_count: int = 0
    created_at_ms: int = 0
    updated_at_ms: int = 0
    accessed_at_ms: int = 0
    archived_at_ms: int = 0
    purge_at_ms: int = 0
    hold: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the session can be restored from it."""
        return bool(self.copy)


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was erased, and when. `buried`: its tombstone in Redis is gone too."""

    shelf: str
    session: str
    at_ms: int
    receipt: Mapping[str, Any]
    buried: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """How many shelves there are of each state, and what lies there."""

    states: Mapping[str, int]
    waiting_for_index: int
    passages: int
    size_bytes: int
    held: int


_FIELDS: Final = tuple(field.name for field in fields(ShelfRecord))
_COLUMNS: Final = ", ".join(_FIELDS)
_SET: Final = ", ".join(f"{name} = excluded.{name}" for name in _FIELDS)
_PUT: Final = (
    f"INSERT INTO shelves ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))}) "  # noqa: S608
    f"ON CONFLICT (shelf) DO UPDATE SET {_SET}"
)
_SELECT: Final = f"SELECT {_COLUMNS} FROM shelves"  # noqa: S608


class Ledger:
    """The shelves of one archive. Raises what `SqliteFile` does."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _SCHEMA, secure_delete=True)

    def put(self, record: ShelfRecord, facets: Mapping[str, Sequence[str]] | None = None) -> None:
        """Write one record, in place of the one of its shelf; `facets` too, if they are given."""
        with self._file.transaction() as connection:
            connection.execute(_PUT, astuple(record))
            if facets is None:
                return
            connection.execute("DELETE FROM facets WHERE shelf = ?", (record.shelf,))
            connection.executemany(
                "INSERT OR IGNORE INTO facets VALUES (?, ?, ?)",
                [
                    (record.shelf, name, value)
                    for name, values in facets.items()
                    for value in values
                ],
            )

    def change(self, shelf: str, **changed: Any) -> ShelfRecord | None:
        """Change fields of one record; the record then, or None if it is gone."""
        with self._file.transaction() as connection:
            row = connection.execute(f"{_SELECT} WHERE shelf = ?", (shelf,)).fetchone()
            if row is None:
                return None
            record = replace(ShelfRecord(*row), **changed)
            connection.execute(_PUT, astuple(record))
        return record

    def find(self, shelf: str) -> ShelfRecord | None:
        """One record."""
        rows = self._file.rows(f"{_SELECT} WHERE shelf = ?", (shelf,))
        return ShelfRecord(*rows[0]) if rows else None

    def of_session(self, session_id: str) -> list[ShelfRecord]:
        """All records of a session, the newest copy first."""
        rows = self._file.rows(
            f"{_SELECT} WHERE session = ? ORDER BY archived_at_ms DESC, updated_at_ms DESC",
            (session_id,),
        )
        return [ShelfRecord(*row) for row in rows]

    def all(self, state: State | None = None) -> Iterator[ShelfRecord]:
        """All records, or those of one state, by shelf; in bounded batches."""
        last = ""
        while True:
            rows = self._file.rows(
                f"{_SELECT} WHERE shelf > ? AND (? IS NULL OR state = ?) ORDER BY shelf LIMIT ?",
                (last, state, state, BATCH),
            )
            for row in rows:
                yield ShelfRecord(*row)
            if len(rows) < BATCH:
                return
            last = rows[-1][0]

    def due_for_purge(self, now_ms: int, limit: int) -> list[ShelfRecord]:
        """Archived, not held, and past their time; the longest due first."""
        rows = self._file.rows(
            f"{_SELECT} WHERE state = 'archived' AND purge_at_ms <= ? AND hold = '' "
            "ORDER BY purge_at_ms LIMIT ?",
            (now_ms, limit),
        )
        return [ShelfRecord(*row) for row in rows]

    def waiting_for_index(self, limit: int) -> list[ShelfRecord]:
        """Whole, and still without vectors."""
        rows = self._file.rows(f"{_SELECT} WHERE index_state = 'waiting' LIMIT ?", (limit,))
        return [ShelfRecord(*row) for row in rows]

    def any_searchable(self) -> bool:
        """Whether any archived session is in the index."""
        return bool(
            self._file.rows(
                "SELECT 1 FROM shelves WHERE state = 'archived' AND index_state = 'indexed' LIMIT 1"
            )
        )

    def shelves_with(
        self,
        *,
        session_id: str | None = None,
        facets: Mapping[str, str],
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> list[str]:
        """The indexed shelves of archived sessions that fit all of these."""
        query = ["SELECT shelf FROM shelves WHERE state = 'archived' AND index_state = 'indexed'"]
        values: list[Any] = []
        for condition, value in (
            ("session = ?", session_id),
            ("updated_at_ms >= ?", since_ms),
            ("updated_at_ms <= ?", until_ms),
        ):
            if value is not None:
                query.append(f"AND {condition}")
                values.append(value)
        for name, value in facets.items():
            query.append("AND shelf IN (SELECT shelf FROM facets WHERE name = ? AND value = ?)")
            values += [name, value]
        return [shelf for (shelf,) in self._file.rows(" ".join(query), values)]

    def erase(self, shelf: str, at_ms: int, receipt: Mapping[str, Any]) -> Erasure | None:
        """Destroy a shelf's data key and record; what is left is the receipt.

        None where there is no such shelf, and no receipt of it.
        """
        with self._file.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO erasures SELECT shelf, session, ?, ?, 0 FROM shelves "
                "WHERE shelf = ?",
                (at_ms, json.dumps(dict(receipt)), shelf),
            )
            connection.execute("DELETE FROM shelves WHERE shelf = ?", (shelf,))
        return self.erasure(shelf)

    def erasure(self, shelf: str) -> Erasure | None:
        """The receipt of an erased shelf."""
        rows = self._file.rows("SELECT * FROM erasures WHERE shelf = ?", (shelf,))
        return _erasure(rows[0]) if rows else None

    def erasures(self, *, session_id: str | None = None, unburied: bool = False) -> list[Erasure]:
        """Receipts, the newest first."""
        rows = self._file.rows(
            "SELECT * FROM erasures WHERE (? IS NULL OR session = ?) AND buried <= ? "
            "ORDER BY at_ms DESC",
            (session_id, session_id, 0 if unburied else 1),
        )
        return [_erasure(row) for row in rows]

    def mark_buried(self, shelf: str) -> None:
        """Note that Redis holds no tombstone of an erased shelf any more."""
        with self._file.transaction() as connection:
            connection.execute("UPDATE erasures SET buried = 1 WHERE shelf = ?", (shelf,))

    def forget_erasures(self, before_ms: int) -> int:
        """Drop receipts older than that; how many."""
        with self._file.transaction() as connection:
            return connection.execute(
                "DELETE FROM erasures WHERE at_ms < ? AND buried = 1", (before_ms,)
            ).rowcount

    def fact(self, name: str) -> str | None:
        """A fact about the archive as a whole."""
        return self._file.fact(name)

    def set_fact(self, name: str, value: str) -> None:
        """Record a fact, in place of the one of its name."""
        self._file.set_fact(name, value)

    def totals(self) -> Totals:
        """What there is."""
        states = dict(self._file.rows("SELECT state, count(*) FROM shelves GROUP BY state"))
        ((waiting, passages, size_bytes, held),) = self._file.rows(
            "SELECT coalesce(sum(index_state = 'waiting'), 0), coalesce(sum(passage_count), 0), "
            "coalesce(sum(size_bytes), 0), coalesce(sum(hold <> ''), 0) FROM shelves"
        )
        return Totals(states, waiting, passages, size_bytes, held)

    def check(self) -> None:
        """Raise ColdStoreCorruptError if the file is damaged."""
        self._file.check()

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        self._file.close()


def _erasure(row: tuple[Any, ...]) -> Erasure:
    shelf, session, at_ms, receipt, buried = row
    return Erasure(shelf, session, at_ms, json.loads(receipt), bool(buried))
