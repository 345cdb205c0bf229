"""The process that has Chroma: answers one call at a time over a socket it was given.

Chroma keeps Python's lock during a call and can hang in one for ever (a delete on a full disk
does), so no thread beside it could end that. A process can be killed; and this one ends itself by
an alarm of the kernel, so it never outlives its deadline even where nobody is left to kill it.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from baton.archive.folder_lock import FolderLock
from baton.archive.frames import ClosedError, receive_frame, send_frame
from baton.errors import BatonError, IndexUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.archive.chroma_collection import ChromaCollection

_IDLE_SECONDS: Final = 5.0
_FRAME_SECONDS: Final = 60.0
_ALARM_GRACE_SECONDS: Final = 2.0
_LOCK_SECONDS: Final = 1.0


def serve(connection: socket.socket) -> None:
    """Answer calls until the other end is gone; the first is `open`."""
    parent = os.getppid()
    collection: ChromaCollection | None = None
    while True:
        while not select.select([connection], [], [], _IDLE_SECONDS)[0]:
            # A forked child of our parent may keep the socket open after our parent's end.
            if os.getppid() != parent:
                return
        call, body = receive_frame(connection, seconds=_FRAME_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, call["seconds"] + _ALARM_GRACE_SECONDS)
        try:
            if collection is None:
                collection = _opened(call)
                answer: dict[str, Any] = {"batch_rows": collection.batch_rows}
            else:
                answer = {"answer": _CALLS[call["call"]](collection, call, body)}
        except BatonError as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        signal.setitimer(signal.ITIMER_REAL, 0)
        send_frame(connection, answer, seconds=call["seconds"])
        if collection is None:
            return


def _opened(call: dict[str, Any]) -> ChromaCollection:
    folder = None if call["folder"] is None else Path(call["folder"])
    try:
        if folder is not None:
            FolderLock(folder, owner_pid=os.getppid(), seconds=_LOCK_SECONDS)
            # Chroma reads a `.env` file of the folder it is in: not one of the user's.
            os.chdir(folder)
        from baton.archive import chroma_collection  # noqa: PLC0415  # imports Chroma, see above

        if folder is not None and call["empty"]:
            chroma_collection.empty_folder(folder)
    except ImportError as error:
        raise IndexUnavailableError(
            f"The vector index at {call['place']} did not open ({error.name} is not installed); "
            "install Baton with its extra `archive`."
        ) from error
    except OSError as error:
        raise IndexUnavailableError(
            f"The vector index at {call['place']} did not open ({error.strerror}); nothing of the "
            "archive is lost."
        ) from error
    collection = chroma_collection.ChromaCollection(call["place"], folder, call["model_id"])
    if folder is None and call["empty"]:
        collection.drop()
    return collection


def _put(collection: ChromaCollection, call: dict[str, Any], body: bytes) -> None:
    collection.put(call["ids"], call["shelves"], _vectors(body, len(call["ids"])))


def _find(collection: ChromaCollection, call: dict[str, Any], body: bytes) -> object:
    return collection.find(_vectors(body, 1)[0], call["limit"], call["shelves"])


def _similarities(
    collection: ChromaCollection, call: dict[str, Any], body: bytes
) -> dict[str, float]:
    ids, rows = collection.vectors(call["ids"])
    if not ids:
        return {}
    vector = _vectors(body, 1)[0]
    cosines = rows @ vector / (np.linalg.norm(rows, axis=1) * np.linalg.norm(vector))
    return dict(zip(ids, map(float, cosines), strict=True))


def _vectors(body: bytes, rows: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.frombuffer(body, dtype="<f4").reshape(rows, -1)


_CALLS: Final[dict[str, Callable[[ChromaCollection, dict[str, Any], bytes], object]]] = {
    "put": _put,
    "find": _find,
    "similarities": _similarities,
    "ids": lambda collection, call, _: collection.ids(call["shelf"]),
    "delete": lambda collection, call, _: collection.delete(call["ids"]),
    "count": lambda collection, _, __: collection.count(),
    "faults": lambda collection, _, __: collection.faults(),
}


def main() -> None:
    """Serve the socket whose number is the only argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for our parent, who lets us go
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        try:
            serve(connection)
        except (ClosedError, TimeoutError):
            return


if __name__ == "__main__":
    main()
