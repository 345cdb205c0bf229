"""Re-wraps the data keys in an archive's ledger, without the archive's packages."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from baton.archive.folder_lock import FolderLock
from baton.archive.ledger import Ledger
from baton.archive.master_key import find_key_provider
from baton.archive.opening import archive_folder, ledger_path
from baton.archive.shelf_keys import ShelfKeys
from baton.errors import ArchiveKeyError

if TYPE_CHECKING:
    from baton.archive.shelf_keys import ShelfRewrap
    from baton.settings import ClientSettings

# Who has it has it for long, or is about to end.
LOCK_SECONDS: Final = 0.5


def rewrap_ledger(settings: ClientSettings) -> ShelfRewrap | None:
    """Bring every data key of this machine's archive under the current master key.

    None where there is no archive. May be repeated.

    Raises:
        ArchiveBusyError: another process has the archive, and is to be asked.
        ArchiveKeyError: there is no master key.
        ColdStoreUnavailableError, ColdStoreCorruptError: the ledger cannot be written or read.
        KeyUnavailableError: the keys' service did not answer; what was re-wrapped stays so.
    """
    path = ledger_path(settings)
    if not path.exists():
        return None
    folder = archive_folder(settings)
    provider = find_key_provider(settings, folder)
    if provider is None:
        raise ArchiveKeyError(
            f"the data keys in {path} need a master key, and there is none; set BATON_KEY_FILE"
        )
    lock = FolderLock(folder, owner_pid=os.getpid(), seconds=LOCK_SECONDS)
    with contextlib.ExitStack() as stack:
        stack.callback(lock.release)
        ledger = stack.enter_context(contextlib.closing(Ledger(path)))
        return ShelfKeys(provider).rewrap_all(ledger)
