"""An SQLite file of the archive: private, durable, its errors ours."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Final

from baton.errors import ColdStoreCorruptError, ColdStoreUnavailableError, UnsupportedFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FORMAT: Final = 1
FACTS: Final = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID"
)
BUSY_SECONDS: Final = 10.0
_PRIVATE_MODE: Final = 0o600
# Damage, as SQLite calls it: SQLITE_CORRUPT, SQLITE_NOTADB.
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SqliteFile:
    """One file: opened at first use, by the process that uses it; threads take turns.

    What a `transaction` wrote is on the disk when it returns, or nothing of it is.

    Args:
        path: the file; made with mode 0600 if it is missing. Its folder must be there.
        schema: statements that make an empty file one of ours.
        secure_delete: whether what is deleted is overwritten, in the file and in what SQLite keeps
            beside it.

    Raises (every method):
        ColdStoreUnavailableError: the disk is full, the file is locked or cannot be opened.
        ColdStoreCorruptError: the file is damaged.
        UnsupportedFormatError: a newer Baton wrote it.
    """

    def __init__(self, path: Path, schema: Sequence[str], *, secure_delete: bool) -> None:
        self.path = path
        self._schema = schema
        self._secure_delete = secure_delete
        self._lock = threading.RLock()
        self._opened: sqlite3.Connection | None = None
        self._process = 0

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection amid a transaction: all that is done with it happens, or nothing."""
        with self._lock, self._errors():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a query gives."""
        with self._lock, self._errors():
            return self._connection().execute(query, values).fetchall()

    def fact(self, name: str) -> str | None:
        """A fact about the file as a whole; its schema has `FACTS`."""
        rows = self.rows("SELECT value FROM facts WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def set_fact(self, name: str, value: str) -> None:
        """Record a fact, in place of the one of its name."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO facts VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )

    def check(self) -> None:
        """Read all of the file's structure.

        Raises:
            ColdStoreCorruptError: it is damaged.
        """
        found = self.rows("PRAGMA quick_check(1)")
        if found != [("ok",)]:
            raise self._damaged(str(found[0][0]))

    def close(self) -> None:
        """Close the file; a later use opens it again. Idempotent."""
        with self._lock:
            if self._opened is not None and self._process == os.getpid():
                self._opened.close()
            self._opened = None

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None or self._process != os.getpid():
            self._opened, self._process = self._open(), os.getpid()
        return self._opened

    def _open(self) -> sqlite3.Connection:
        # Before SQLite does, and with the mode that its journals then have too.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _PRIVATE_MODE))
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            # Not WAL: what is deleted here must not live on in a log beside the file.
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA secure_delete = {'ON' if self._secure_delete else 'FAST'}")
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._prepare_within(connection)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _prepare_within(self, connection: sqlite3.Connection) -> None:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found not in (0, FORMAT):
            raise UnsupportedFormatError(
                f"{self.path} has format {found}; this Baton reads {FORMAT}. Upgrade it."
            )
        if found == 0:
            for statement in self._schema:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {FORMAT}")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _DAMAGED:
                raise self._damaged(str(error)) from error
            raise ColdStoreUnavailableError(f"{self.path}: {error}; is the disk full?") from error
        except OSError as error:
            raise ColdStoreUnavailableError(f"{self.path}: {error.strerror}") from error

    def _damaged(self, reason: str) -> ColdStoreCorruptError:
        return ColdStoreCorruptError(
            f"{self.path} is damaged ({reason}); put its backup back. What is in Redis is whole"
        )
