"""Reads text files exactly as they are, and writes them whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from baton.errors import ContextTooLargeError, InvalidInputError, InvalidTextError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

STDIN = "-"


def read_context(names: Sequence[str], option: str, limit_bytes: int) -> str:
    """The text of the files as one context; `-` is standard input.

    One file is taken as it is. Of several, each stands under a line `# NAME`, a blank line
    behind it, and ends with a line end.

    Raises:
        InvalidInputError: a file is missing, unreadable or not UTF-8 text, `-` is named twice,
            or a file is larger than `limit_bytes`; names the file and, of wrong text, the byte.
    """
    if list(names).count(STDIN) > 1:
        raise InvalidInputError(option, "standard input (-) at most once", "<it twice>")
    texts = [read_text(name, option, limit_bytes) for name in names]
    if len(texts) == 1:
        return texts[0]
    return "\n".join(_section(name, text) for name, text in zip(names, texts, strict=True))


def read_text(name: str, option: str, limit_bytes: int) -> str:
    """The text of one file, nothing added, translated or stripped. Errors: `read_context`."""
    field = f"{option} {name}"
    data = _read(name, field, limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ContextTooLargeError(field, f"at most {limit_bytes} bytes", "<more>")
    # UTF-8 allows it, but no text file holds it: UTF-16 does, and would pass for text.
    if (offset := data.find(b"\0")) >= 0:
        raise _not_text(field, data, offset)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _not_text(field, data, error.start) from error


@contextlib.contextmanager
def open_bytes(name: str, option: str) -> Iterator[BinaryIO]:
    """A file to read piece by piece; `-` is standard input.

    Raises:
        InvalidInputError: it is missing or unreadable; names it.
    """
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(Path(name).open("rb")) if name != STDIN else None
        except (OSError, ValueError) as error:
            raise _unreadable(f"{option} {name}", error) from error
        yield source or sys.stdin.buffer


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` by `data` at once: no reader sees a part, no failure leaves one.

    Raises:
        InvalidInputError: the file cannot be written.
    """
    write_parts(path, [data])


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """As `write_whole`, from parts that are made one by one; what making one raises, passes."""
    target = path.resolve()  # of a link, the file it points to
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as device:  # or a pipe: it must not be replaced by a file
                device.writelines(parts)
            return
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".baton-", delete=False) as new:
            try:
                new.writelines(parts)
                new.flush()
                os.fsync(new.fileno())
                Path(new.name).chmod(mode)
                Path(new.name).replace(target)
            except BaseException:  # Ctrl-C too must leave nothing behind
                Path(new.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise InvalidInputError(f"--output {path}", "a file to write", _reason(error)) from error


def _read(name: str, field: str, most_bytes: int) -> bytes:
    try:
        if name == STDIN:
            return sys.stdin.buffer.read(most_bytes)
        with Path(name).open("rb") as file:
            return file.read(most_bytes)
    except (OSError, ValueError) as error:
        raise _unreadable(field, error) from error


def _unreadable(field: str, error: OSError | ValueError) -> InvalidInputError:
    # A ValueError is about a NUL in the name.
    reason = _reason(error) if isinstance(error, OSError) else f"<{error}>"
    return InvalidInputError(field, "a readable file", reason)


def _not_text(field: str, data: bytes, offset: int) -> InvalidTextError:
    return InvalidTextError(
        field, "UTF-8 text", f"<byte 0x{data[offset]:02x} at byte offset {offset}>"
    )


def _section(name: str, text: str) -> str:
    shown = " ".join((name if name != STDIN else "standard input").splitlines())
    end = "" if text.endswith("\n") else "\n"
    return f"# {shown}\n\n{text}{end}"


def _reason(error: OSError) -> str:
    return f"<{error.strerror or error}>"


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
