"""Master keys in a private file: checked, read at each use, changed in one step."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from baton.errors import InvalidInputError, KeyNotFoundError, KeyUnavailableError
from baton.key_providers.keyset import Keyset, new_master_key, parse_master_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.key_providers.provider import WrappedKey

_LIMIT_BYTES: Final = 65_536
_PRIVATE_MODE: Final = 0o600


class FileKeyProvider:
    """A `KeyProvider` of the keys in a text file; the first line's is current.

    A line is `key_id hex`, or 64 hex digits alone; empty lines and those that begin with `#` are
    skipped. The file is ours, is no link, and none but us may open it. It is read at each call,
    so a rotation holds at once in every process, and no key stays in memory. Old keys stay on
    their lines until nothing stored names them any more. Losing the file loses what is sealed:
    keep a copy elsewhere.

    Raises (every method, beside what `KeyProvider` says):
        InvalidInputError: the file is a link, belongs to another user, is open to others, or a
            line is malformed. Names the line, shows nothing of it.
        KeyNotFoundError: there is no file, or no key in it.
        KeyUnavailableError: the system could not read or write it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"FileKeyProvider({str(self.path)!r})"

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> FileKeyProvider:
        """Make a file of one new key; whole and safe on disk, or not there at all.

        Raises:
            InvalidInputError: something is at `path`; it is left as it is.
            KeyNotFoundError: its folder does not exist.
        """
        provider = cls(path)
        text = "{} {}\n".format(*new_master_key())
        with _system_errors(provider.path), _written_beside(provider.path, text) as written:
            # A link, where a rename would put this key in another's place.
            os.link(written, provider.path)
        return provider

    def add_key(self) -> str:
        """Put a new key first, in one step; returns its id. Concurrent calls add one each."""
        key_id, digits = new_master_key()
        with _system_errors(self.path), _locked(self.path) as opened:
            old = _read(opened, self.path)
            _parsed(old, self.path)
            with _written_beside(self.path, f"{key_id} {digits}\n{old}") as written:
                written.replace(self.path)
        return key_id

    def current_key_id(self) -> str:
        """See `KeyProvider.current_key_id`."""
        return self._keyset().current.key_id

    def key_ids(self) -> list[str]:
        """The ids of all keys, the current one's first."""
        return self._keyset().key_ids()

    def wrap(self, data_key: bytes, *, context: bytes) -> WrappedKey:
        """See `KeyProvider.wrap`."""
        return self._keyset().current.wrap(data_key, context)

    def unwrap(self, wrapped: WrappedKey, *, context: bytes) -> bytes:
        """See `KeyProvider.unwrap`."""
        return self._keyset().unwrap(wrapped, context)

    def _keyset(self) -> Keyset:
        with _system_errors(self.path), _opened(self.path) as opened:
            return _parsed(_read(opened, self.path), self.path)


def _parsed(text: str, path: Path) -> Keyset:
    lines = [line.strip() for line in text.split("\n")]
    return Keyset(
        [
            parse_master_key(line.split(), f"{path} line {number}")
            for number, line in enumerate(lines, start=1)
            if line and not line.startswith("#")
        ],
        str(path),
    )


def _read(opened: int, path: Path) -> str:
    data = os.read(opened, _LIMIT_BYTES + 1)
    if len(data) > _LIMIT_BYTES:
        raise InvalidInputError(str(path), f"at most {_LIMIT_BYTES} bytes", "<more>")
    # No codec's error may carry the keys away, and a comment comes back as it was.
    return data.decode(errors="surrogateescape")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The file at `path`, open for reading and found private."""
    # Without O_NONBLOCK a pipe at the path would hold us up for ever.
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_private(os.fstat(opened), path)
        yield opened
    finally:
        os.close(opened)


def _check_private(found: os.stat_result, path: Path) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        raise InvalidInputError(str(path), "a regular file", "<something else>")
    if found.st_uid != os.geteuid():
        raise InvalidInputError(str(path), "a file of this user", f"<user {found.st_uid}'s>")
    if mode & ~_PRIVATE_MODE:
        raise InvalidInputError(str(path), "mode 0600 or 0400", f"<mode {mode:04o}>")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file that stays at `path` until we let go: other writers wait."""
    while True:
        with _opened(path) as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            # Who held the lock before us may have put another file there.
            if os.path.samestat(os.fstat(opened), path.lstat()):
                yield opened
                return


@contextlib.contextmanager
def _written_beside(path: Path, text: str) -> Iterator[Path]:
    """A new private file of `text` in the same folder, safe on disk; gone afterwards.

    What the caller made of it is safe on disk too: a data key must not outlive its master key.
    """
    written = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        opened = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(opened, "wb") as file:
            file.write(text.encode(errors="surrogateescape"))
            file.flush()
            os.fsync(opened)
        yield written
    finally:
        written.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextlib.contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    """The system's errors as ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise KeyNotFoundError(
            f"{path}: no such file or folder; `FileKeyProvider.create` makes a key file"
        ) from error
    except FileExistsError as error:
        raise InvalidInputError(str(path), "a path where nothing is", "<a file>") from error
    except PermissionError as error:
        raise InvalidInputError(str(path), "a file of this user", "<no permission>") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InvalidInputError(str(path), "a file, no link", "<a link>") from error
        raise KeyUnavailableError(f"{path}: {error.strerror}") from error
