"""Anchors: where the heads of audit chains are kept outside Redis."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import sys
from logging.handlers import SysLogHandler
from typing import TYPE_CHECKING, Annotated, Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from baton.errors import AnchorUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from baton.store.audit_seals import Seal

logger = logging.getLogger(__name__)

AnchorKind = Literal["file", "syslog", "off"]
HeadKind = Literal["sealed", "trimmed", "carried"]
_FILE_NAME: Final = "heads.jsonl"
_SYSLOG_SOCKET: Final = "/var/run/syslog" if sys.platform == "darwin" else "/dev/log"


class Head(BaseModel):
    """What an anchor keeps of a chain.

    `sealed`: the chain's seal number `segment` has `hash`. `trimmed`: the entries up to `last_seq`
    were taken out of Redis on purpose, after an export; `carried`: likewise, as the archive's file
    has them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    kind: HeadKind = "sealed"
    session: str
    chain: str
    segment: Annotated[int, Field(ge=1)]
    last_seq: Annotated[int, Field(ge=1)]
    hash: str
    at: Annotated[int, Field(ge=1)]

    @classmethod
    def of(cls, seal: Seal, kind: HeadKind = "sealed", at: int | None = None) -> Head:
        """The head of a chain that ends with `seal`; `at` in ms, default: when it was sealed."""
        return cls(
            kind=kind,
            session=seal.session,
            chain=seal.chain,
            segment=seal.segment,
            last_seq=seal.last_seq,
            hash=seal.hash,
            at=seal.at if at is None else at,
        )

    def encode(self) -> str:
        """One line of JSON, without its end."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))


class AuditAnchor(Protocol):
    """Keeps heads where who can write to Redis cannot. Safe for threads and processes."""

    def append(self, heads: Sequence[Head]) -> None:
        """Keep `heads`, in this order, behind all that were kept before.

        Atomicity: of a batch that fails, any first part may be kept; the same batch again is
        harmless, as heads may stand there twice. Durability: returns once they are as safe as the
        anchor can make them, and says in its class how safe that is.

        Raises:
            AnchorUnavailableError: they are not kept.
        """

    def find_heads(self, session_id: str) -> list[Head] | None:
        """What was kept of the session's chains, in order; None: this anchor cannot be read back.

        Raises:
            AnchorUnavailableError: it can be, but not now.
        """


class FileAnchor:
    """Heads as lines of JSON in `<folder>/heads.jsonl`, which is only ever appended to.

    A batch is one write under a lock, on the disk (`fsync`) before `append` returns. The file has
    mode 0600, the folder 0700. It is never renamed or rewritten, so `chattr +a` can keep even its
    owner from changing it. Every other `*.jsonl` of the folder is read too: to begin a new file,
    rename the old one. A line that a crash tore is passed over.

    Args:
        folder: made when it is needed. Heads of other machines are in their own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, heads: Sequence[Head]) -> None:
        """Append and sync them. Contract: `AuditAnchor`."""
        if not heads:
            return
        lines = "".join(f"{head.encode()}\n" for head in heads).encode()
        with _file_errors(self._folder), contextlib.ExitStack() as stack:
            descriptor = self._open()
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            # Behind a torn line, ours begin a new one.
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            _write_all(descriptor, (b"\n" if torn else b"") + lines)
            os.fsync(descriptor)
            if size == 0:
                _sync_folder(self._folder)

    def find_heads(self, session_id: str) -> list[Head]:
        """Read them back from all files. Contract: `AuditAnchor`."""
        wanted = f'"session":{json.dumps(session_id)}'.encode()
        with _file_errors(self._folder):
            lines = [line for line in self._lines() if wanted in line]
        heads = [head for head in map(_decode, lines) if head is not None]
        if len(heads) < len(lines):
            logger.warning("%s has lines that are no heads", self._folder)
        return [head for head in heads if head.session == session_id]

    def _open(self) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._folder / _FILE_NAME, flags, 0o600)

    def _lines(self) -> Iterator[bytes]:
        for path in sorted(self._folder.glob("*.jsonl")):
            with path.open("rb") as file:
                yield from file


class SyslogAnchor:
    """Heads as messages to syslog (facility `authpriv`, level `info`); write only.

    The local daemon has them when `append` returns; where they go, and how safe they are there, is
    its configuration. Verification cannot read them back: compare the head's hash by hand.

    Args:
        address: path of the daemon's socket, or (host, port) for UDP; None: the system's.
    """

    def __init__(self, address: str | tuple[str, int] | None = None) -> None:
        self._address = address or _SYSLOG_SOCKET

    def append(self, heads: Sequence[Head]) -> None:
        """Send them, one message each. Contract: `AuditAnchor`."""
        try:
            with contextlib.closing(_RaisingSysLogHandler(self._address)) as handler:
                for head in heads:
                    handler.emit(_message(f"baton audit: {head.encode()}"))
        except OSError as error:
            raise AnchorUnavailableError(f"syslog at {self._address} ({error})") from error

    def find_heads(self, session_id: str) -> None:
        """None: they cannot be read back."""


class _RaisingSysLogHandler(SysLogHandler):
    """The standard one prints to standard error what it could not send; an anchor must know."""

    def __init__(self, address: str | tuple[str, int]) -> None:
        super().__init__(address, SysLogHandler.LOG_AUTHPRIV)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002 - logging's
        raise  # noqa: PLE0704 - called from within its `except`


def make_anchor(kind: AnchorKind, state_dir: Path) -> AuditAnchor | None:
    """The anchor that the settings `audit_anchor` and `state_dir` mean; None for `off`."""
    if kind == "file":
        return FileAnchor(state_dir / "audit")
    return SyslogAnchor() if kind == "syslog" else None


def _decode(line: bytes) -> Head | None:
    try:
        return Head.model_validate_json(line)
    except ValidationError:
        return None


def _message(text: str) -> logging.LogRecord:
    return logging.LogRecord("baton.audit", logging.INFO, "", 0, text, None, None)


@contextlib.contextmanager
def _file_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AnchorUnavailableError(f"the audit's anchor in {folder} ({error})") from error


def _write_all(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    if written < len(data):  # a full disk: the rest would only say so
        _write_all(descriptor, data[written:])


def _sync_folder(folder: Path) -> None:
    """Without it, a new file's name may be lost with the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
