"""The segments: sealed bytes of archived sessions, noise without the ledger's data keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.archive.sqlite_file import SqliteFile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

_SCHEMA: Final = (
    """CREATE TABLE segments (
        shelf TEXT NOT NULL, name BLOB NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (shelf, name)
    ) STRICT""",
)
AT_ONCE: Final = 100
COMMIT_BYTES: Final = 32 * 1024 * 1024


class Segments:
    """Sealed segments of all shelves. Raises what `SqliteFile` does."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _SCHEMA, secure_delete=False)

    def put(self, shelf: str, segments: Iterable[tuple[bytes, bytes]]) -> int:
        """Store segments, name and sealed bytes; the bytes stored. Idempotent.

        What is there stays as it is: a segment of that name opens to the same bytes. A few
        megabytes are committed at a time.
        """
        total, batch, batch_bytes = 0, list[tuple[str, bytes, bytes]](), 0
        for name, sealed in segments:
            batch.append((shelf, name, sealed))
            batch_bytes += len(sealed)
            if batch_bytes >= COMMIT_BYTES:
                self._put(batch)
                total, batch, batch_bytes = total + batch_bytes, [], 0
        self._put(batch)
        return total + batch_bytes

    def _put(self, batch: list[tuple[str, bytes, bytes]]) -> None:
        if batch:
            with self._file.transaction() as connection:
                connection.executemany("INSERT OR IGNORE INTO segments VALUES (?, ?, ?)", batch)

    def get(self, shelf: str, names: Iterable[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
        """Sealed bytes in the order asked for; None for what is not there."""
        wanted = list(names)
        for start in range(0, len(wanted), AT_ONCE):
            batch = wanted[start : start + AT_ONCE]
            marks = ", ".join("?" * len(batch))
            found = dict(
                self._file.rows(
                    f"SELECT name, sealed FROM segments WHERE shelf = ? AND name IN ({marks})",  # noqa: S608
                    (shelf, *batch),
                )
            )
            for name in batch:
                yield name, found.get(name)

    def names(self, shelf: str) -> set[bytes]:
        """The names of all segments of a shelf."""
        return {name for (name,) in self._file.rows(
            "SELECT name FROM segments WHERE shelf = ?", (shelf,)
        )}  # fmt: skip

    def shelves(self) -> set[str]:
        """Every shelf that has a segment."""
        return {shelf for (shelf,) in self._file.rows("SELECT DISTINCT shelf FROM segments")}

    def delete(self, shelf: str, names: Collection[bytes]) -> None:
        """Delete segments of a shelf; those that are not there are skipped."""
        with self._file.transaction() as connection:
            connection.executemany(
                "DELETE FROM segments WHERE shelf = ? AND name = ?",
                [(shelf, name) for name in names],
            )

    def delete_shelf(self, shelf: str) -> int:
        """Delete all segments of a shelf; how many. Idempotent."""
        with self._file.transaction() as connection:
            return connection.execute("DELETE FROM segments WHERE shelf = ?", (shelf,)).rowcount

    def stored_bytes(self) -> int:
        """Bytes of the file."""
        ((pages, size_bytes),) = self._file.rows(
            "SELECT p.page_count, s.page_size FROM pragma_page_count() p, pragma_page_size() s"
        )
        return int(pages * size_bytes)

    def check(self) -> None:
        """Raise ColdStoreCorruptError if the file is damaged."""
        self._file.check()

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        self._file.close()
