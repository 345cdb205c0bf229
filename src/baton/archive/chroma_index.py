"""The vector index in ChromaDB: an embedded folder, or a server over HTTP.

Chroma runs in a process of its own either way, which is started at the first call and killed
when a call passes its deadline. So no call hangs, no fork inherits a client, and a folder is let
go of whatever became of Chroma.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from baton.archive.frames import ClosedError, receive_frame, send_frame
from baton.archive.vector_index import IndexHealth, Match
from baton.errors import (
    ArchiveBusyError,
    IndexCorruptError,
    IndexModelError,
    IndexUnavailableError,
    InvalidInputError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from baton.archive.vector_index import VectorRow
    from baton.settings import ClientSettings

# Chroma's own limit is some 5,000; a smaller batch ends well within the deadline.
_BATCH_ROWS: Final = 500
# More would be more than SQLite's parameters of one statement.
_SHELVES_AT_ONCE: Final = 5_000
_FIND_LIMIT: Final = 1_000
_FREE_BYTES: Final = 64 * 1024 * 1024
# What Chroma writes for a vector: its log, the graph, SQLite's journal.
_BYTES_WRITTEN_PER_BYTE: Final = 8
_END_SECONDS: Final = 5.0
_LOG_TAIL_BYTES: Final = 300
_ERRORS: Final = {
    error.__name__: error
    for error in (ArchiveBusyError, IndexCorruptError, IndexModelError, IndexUnavailableError)
}


@dataclass(frozen=True, slots=True)
class _Served:
    """A process that serves us, and what it says of itself."""

    process: subprocess.Popen[bytes]
    connection: socket.socket
    log: IO[bytes]
    batch_rows: int


class ChromaIndex:
    """A `VectorIndex`; nothing is opened before the first call.

    Args:
        model_id: whose vectors it holds, as `Embedder.model_id`; called when it is first needed.
        folder: of an embedded Chroma; made if it is not there, with mode 0700. Either this or
        url: of a Chroma server, `http://HOST:PORT`.
        timeout_seconds: the deadline of each call, and of the start before it.
        min_free_bytes: of the folder's disk, without which nothing is written: Chroma on a full
            disk hangs, and answers nothing.
    """

    def __init__(
        self,
        model_id: Callable[[], str],
        *,
        folder: Path | None = None,
        url: str | None = None,
        timeout_seconds: float = 60.0,
        min_free_bytes: int = _FREE_BYTES,
    ) -> None:
        if (folder is None) == (url is None):
            raise InvalidInputError("folder, url", "one of them", "<both or none>")
        self._model_id = model_id
        self._folder = None if folder is None else folder.absolute()
        self._place = str(url or self._folder)
        self._seconds = timeout_seconds
        self._min_free_bytes = min_free_bytes
        self._served: _Served | None = None
        self._forget()

    @classmethod
    def from_settings(cls, settings: ClientSettings, model_id: Callable[[], str]) -> ChromaIndex:
        """The index that the settings ask for; nothing is opened yet."""
        embedded = settings.chroma_url is None
        return cls(
            model_id,
            folder=settings.state_dir / "archive" / "chroma" if embedded else None,
            url=settings.chroma_url,
            timeout_seconds=settings.chroma_timeout_seconds,
        )

    def __repr__(self) -> str:
        return f"ChromaIndex({self._place!r})"

    def put(
        self, rows: Sequence[VectorRow], *, progress: Callable[[int], None] | None = None
    ) -> None:
        """See `VectorIndex.put`."""
        if not rows:
            return
        vectors = _matrix(rows)
        for first, end in _ranges(len(rows), self._batch_rows()):
            batch = rows[first:end]
            with self._taking_turns(writes_bytes=vectors[first:end].nbytes):
                self._ask(
                    "put",
                    vectors[first:end].tobytes(),
                    ids=[row.row_id for row in batch],
                    shelves=[row.shelf for row in batch],
                )
            if progress is not None:
                progress(end)

    def find(
        self,
        vector: NDArray[np.float32],
        limit: int,
        *,
        shelves: Collection[str] | None = None,
    ) -> list[Match]:
        """See `VectorIndex.find`."""
        if not 1 <= limit <= _FIND_LIMIT:
            raise InvalidInputError("limit", f"1 to {_FIND_LIMIT}", limit)
        body = _checked(np.asarray(vector)).tobytes()
        groups: list[list[str] | None] = [None]
        if shelves is not None:
            wanted = sorted(set(shelves))
            groups = [wanted[i:j] for i, j in _ranges(len(wanted), _SHELVES_AT_ONCE)]
        found: list[Match] = []
        for group in groups:
            with self._taking_turns():
                rows = self._ask("find", body, limit=limit, shelves=group)
            found += [Match(*row) for row in rows]
        return sorted(found, key=lambda match: match.distance)[:limit]

    def similarities(
        self, vector: NDArray[np.float32], row_ids: Collection[str]
    ) -> dict[str, float]:
        """See `VectorIndex.similarities`."""
        body, found = _checked(np.asarray(vector)).tobytes(), dict[str, float]()
        wanted = sorted(row_ids)
        for first, end in _ranges(len(wanted), self._batch_rows()):
            with self._taking_turns():
                found |= self._ask("similarities", body, ids=wanted[first:end])
        return found

    def ids(self, shelf: str) -> set[str]:
        """See `VectorIndex.ids`."""
        with self._taking_turns():
            return set(self._ask("ids", shelf=shelf))

    def delete(self, row_ids: Collection[str]) -> None:
        """See `VectorIndex.delete`."""
        wanted = sorted(row_ids)
        for first, end in _ranges(len(wanted), self._batch_rows()):
            with self._taking_turns(writes_bytes=0):
                self._ask("delete", ids=wanted[first:end])

    def delete_shelf(self, shelf: str) -> None:
        """See `VectorIndex.delete_shelf`."""
        self.delete(self.ids(shelf))

    def count(self) -> int:
        """See `VectorIndex.count`."""
        with self._taking_turns():
            return int(self._ask("count"))

    def check(self) -> IndexHealth:
        """See `VectorIndex.check`."""
        try:
            rows = self.count()
        except (IndexCorruptError, IndexModelError) as error:
            return IndexHealth(None, healthy=False, reason=str(error), rebuild=True)
        except (IndexUnavailableError, ArchiveBusyError) as error:
            return IndexHealth(None, healthy=False, reason=str(error))
        try:
            with self._taking_turns():
                fault = str(self._ask("faults"))
        except IndexCorruptError as error:
            return IndexHealth(rows, healthy=False, reason=str(error), rebuild=True)
        except IndexUnavailableError as error:
            return IndexHealth(rows, healthy=False, reason=str(error))
        return IndexHealth(rows, healthy=not fault, reason=fault, rebuild=bool(fault))

    def clear(self) -> None:
        """See `VectorIndex.clear`."""
        with self._taking_turns(opens=False):
            self._end()
            self._served = self._start(empty=True)

    def close(self) -> None:
        """See `VectorIndex.close`."""
        self._mind_forks()
        with self._turn:
            self._end()

    @contextlib.contextmanager
    def _taking_turns(
        self, *, writes_bytes: int | None = None, opens: bool = True
    ) -> Iterator[None]:
        """Our turn, with the process there; and room on the disk for what is to be written."""
        self._mind_forks()
        with self._turn:
            if writes_bytes is not None:
                self._check_room(writes_bytes)
            if opens and self._served is None:
                self._served = self._start(empty=False)
            yield

    def _batch_rows(self) -> int:
        with self._taking_turns():
            return _BATCH_ROWS if self._served is None else self._served.batch_rows

    def _ask(self, call: str, body: bytes = b"", **arguments: object) -> Any:
        """What the process answers; it is ended when it does not, or Chroma did not."""
        served = self._served
        assert served is not None  # noqa: S101  # `_taking_turns` has opened it
        header = {"call": call, "seconds": self._seconds, **arguments}
        try:
            return self._exchange(served, header, body)["answer"]
        except (IndexUnavailableError, IndexCorruptError):
            # Whatever state Chroma is in, the next call begins with a new one.
            self._end(at_once=True)
            raise

    def _exchange(
        self, served: _Served, header: dict[str, Any], body: bytes = b""
    ) -> dict[str, Any]:
        call, deadline = header["call"], time.monotonic() + self._seconds
        try:
            send_frame(served.connection, header, body, seconds=self._seconds)
            answer, _ = receive_frame(served.connection, seconds=deadline - time.monotonic())
        except TimeoutError:
            reason = f"no answer in {self._seconds:g} s"
        except ClosedError:
            reason = f"its process ended; {_tail(served.log)}"
        else:
            if "error" in answer:
                raise _ERRORS[answer["error"]](answer["message"])
            return answer
        raise IndexUnavailableError(
            f"The vector index at {self._place} did not {call} ({reason}); nothing of the archive "
            "is lost."
        )

    def _start(self, *, empty: bool) -> _Served:
        model_id = self._model_id()
        ours, theirs = socket.socketpair()
        log = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `_stop`
        with theirs:
            process = subprocess.Popen(
                # -P: nothing is imported from whatever folder we are in.
                [sys.executable, "-P", "-m", "baton.archive.chroma_process", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=[theirs.fileno()],
            )
        served = _Served(process, ours, log, 0)
        opening = {
            "call": "open", "seconds": self._seconds, "place": self._place, "empty": empty,
            "folder": None if self._folder is None else str(self._folder), "model_id": model_id,
        }  # fmt: skip
        try:
            answer = self._exchange(served, opening)
        except BaseException:
            _stop(served, at_once=True)
            raise
        return _Served(process, ours, log, min(_BATCH_ROWS, answer["batch_rows"]))

    def _end(self, *, at_once: bool = False) -> None:
        served, self._served = self._served, None
        if served is not None:
            _stop(served, at_once=at_once)

    def _mind_forks(self) -> None:
        """In a forked child the process is our parent's: we need one of our own."""
        if self._pid == os.getpid():
            return
        if self._served is not None:
            self._served.connection.close()
            # Not ours to wait for; without this Python would warn of it.
            self._served.process.returncode = 0
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._turn = threading.RLock()
        self._served = None

    def _check_room(self, writes_bytes: int) -> None:
        if self._folder is None:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(self._folder).free
        needed_bytes = self._min_free_bytes + writes_bytes * _BYTES_WRITTEN_PER_BYTE
        if free_bytes < needed_bytes:
            raise IndexUnavailableError(
                f"The vector index at {self._place} takes no writes ({free_bytes:,} bytes are free "
                f"on its disk, expected {needed_bytes:,}); free some. Nothing of the archive is "
                "lost."
            )


def _stop(served: _Served, *, at_once: bool) -> None:
    """End the process: it goes by itself when it is left alone, unless it hangs."""
    served.connection.close()
    try:
        if at_once:
            served.process.kill()
        served.process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        served.process.kill()
        # A process that waits for a disk that does not answer cannot be killed: leave it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            served.process.wait(_END_SECONDS)
    finally:
        served.log.close()


def _tail(log: IO[bytes]) -> str:
    """The end of what the process complained of."""
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - _LOG_TAIL_BYTES))
    return " ".join(log.read().decode(errors="replace").split()) or "it said nothing"


def _ranges(total: int, step: int) -> Iterator[tuple[int, int]]:
    for first in range(0, total, step):
        yield first, min(total, first + step)


def _matrix(rows: Sequence[VectorRow]) -> NDArray[np.float32]:
    """The rows' vectors; nothing is stored unless all are in order."""
    if len({row.row_id for row in rows}) < len(rows):
        raise InvalidInputError("rows", "each id once", "<an id twice>")
    if not all(row.row_id and row.shelf for row in rows):
        raise InvalidInputError("rows", "an id and a shelf in each", "<an empty one>")
    if len({np.shape(row.vector) for row in rows}) > 1:
        raise InvalidInputError("rows", "vectors of one length", "<several>")
    return _checked(np.stack([row.vector for row in rows]))


def _checked(vectors: NDArray[Any]) -> NDArray[np.float32]:
    if not vectors.size or not np.isfinite(vectors).all():
        raise InvalidInputError("vector", "finite numbers", "<others, or none>")
    return np.ascontiguousarray(vectors, dtype="<f4")
