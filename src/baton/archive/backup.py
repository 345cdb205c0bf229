"""A copy of the archive's files, of one instant, made while others work with them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Final

from baton.archive.audit_file import FILE_NAME as AUDIT_FILE
from baton.archive.sqlite_file import BUSY_SECONDS
from baton.errors import ColdStoreUnavailableError, InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

# What cannot be computed again. Ledger and segments name each other's rows.
FILES: Final = ("ledger.sqlite", "segments.sqlite", AUDIT_FILE)
_PRIVATE_MODE: Final = 0o600


def back_up(folder: Path, target: Path) -> list[Path]:
    """Copy ledger, segments and audit to `target`, in place of what has their names; the copies.

    All are locked for reading before the first is copied, so that they fit together: whoever
    writes meanwhile waits, and after 10 s fails and tries again. Master keys are not copied: they
    belong elsewhere. Vectors can be computed again.

    Raises:
        InvalidInputError: `target` is the archive's own folder, or cannot be written.
        ColdStoreUnavailableError: a file is locked or cannot be read; or the disk is full.
    """
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if target.samefile(folder):
            raise InvalidInputError("FOLDER", "another than the archive's own", str(target))
        with contextlib.ExitStack() as opened:
            sources = {
                name: opened.enter_context(contextlib.closing(_locked(folder / name)))
                for name in FILES
                if (folder / name).exists()
            }
            return [_copied(source, target / name) for name, source in sources.items()]
    except sqlite3.Error as error:
        raise ColdStoreUnavailableError(f"{folder}: {error}; try again") from error
    except OSError as error:
        raise InvalidInputError("FOLDER", "a folder to write to", f"<{error}>") from error


def _locked(path: Path) -> sqlite3.Connection:
    """A connection that holds the file's read lock until it is closed."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _copied(source: sqlite3.Connection, path: Path) -> Path:
    """The copy, on the disk before it takes the place of an older one."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _PRIVATE_MODE)
    try:
        with contextlib.closing(sqlite3.connect(new)) as copy:
            source.backup(copy)
        os.fsync(file)
    finally:
        os.close(file)
    new.replace(path)
    return path
