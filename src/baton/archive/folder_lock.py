"""The lock of a folder that one process at a time may have open; the kernel drops it at death."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from typing import TYPE_CHECKING, Final

from baton.errors import ArchiveBusyError

if TYPE_CHECKING:
    from pathlib import Path

LOCK_NAME: Final = "owner.lock"
_POLL_SECONDS: Final = 0.02
_NOTE_BYTES: Final = 512


class FolderLock:
    """Held from its making until `release`, or until the process ends.

    Args:
        folder: made, for us alone, if it is not there.
        owner_pid: whom to name to others.
        seconds: how long to wait for another process that is about to end.

    Raises:
        ArchiveBusyError: another process has it; the message names that one.
    """

    def __init__(self, folder: Path, *, owner_pid: int, seconds: float) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self.folder = folder
        self._file = os.open(folder / LOCK_NAME, flags, 0o600)
        if not self._take(seconds):
            owner = os.pread(self._file, _NOTE_BYTES, 0).decode(errors="replace")
            self.release()
            raise ArchiveBusyError(
                f"{folder} is in use by {' '.join(owner.split()) or 'another process'}; one "
                "process at a time may open it. Try again when that one has ended, or ask it: the "
                "archive's pool is asked over the Redis (BATON_REDIS_URL) that it works on"
            )
        self._note(f"process {owner_pid} on {socket.gethostname()}\n")

    def release(self) -> None:
        """Let go of it; once."""
        os.close(self._file)

    def _take(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_POLL_SECONDS)
            else:
                return True

    def _note(self, owner: str) -> None:
        """Say who has it; only a courtesy, so a full disk does not matter."""
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, owner.encode(), 0)
        except OSError:
            return
