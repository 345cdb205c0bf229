"""The archive that the settings ask for, put together from its parts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from baton.archive.archivist import ArchivePolicy, Archivist
from baton.archive.chroma_index import ChromaIndex
from baton.archive.eraser import Eraser
from baton.archive.folder_lock import FolderLock
from baton.archive.indexer import PassageIndexer
from baton.archive.ledger import Ledger
from baton.archive.master_key import archive_key_provider
from baton.archive.metered import MeteredArchive
from baton.archive.restorer import Restorer
from baton.archive.searching import ArchiveSearch
from baton.archive.segments import Segments
from baton.archive.sentence_transformer import SentenceTransformerEmbedder
from baton.archive.settling import Reindexer, Settler
from baton.archive.shelf_keys import ShelfKeys
from baton.archive.shelves import Shelves
from baton.store.drain import AccessDrain

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from baton.archive.embedder import Embedder
    from baton.archive.service import ArchiveService
    from baton.settings import ClientSettings
    from baton.store.contexts import ContextStore

# Long enough for a process that is about to end.
LOCK_SECONDS: Final = 5.0


def assemble(
    settings: ClientSettings,
    folder: Path,
    redis_client: redis.Redis,
    store: ContextStore,
    embedder: Embedder | None,
) -> ArchiveService:
    """The archive in `folder`; see `baton.archive.opening.open_archive`."""
    lock = FolderLock(folder, owner_pid=os.getpid(), seconds=LOCK_SECONDS)
    try:
        found = embedder or SentenceTransformerEmbedder.from_settings(settings)
        return _assembled(settings, folder, redis_client, store, lock, found)
    except BaseException:
        lock.release()
        raise


def _assembled(
    settings: ClientSettings,
    folder: Path,
    redis_client: redis.Redis,
    store: ContextStore,
    lock: FolderLock,
    embedder: Embedder,
) -> ArchiveService:
    provider = archive_key_provider(settings, folder)
    index = ChromaIndex.from_settings(settings, lambda: embedder.model_id)
    ledger, segments = Ledger(folder / "ledger.sqlite"), Segments(folder / "segments.sqlite")
    shelves = Shelves(redis_client, store, ledger, segments, ShelfKeys(provider))
    indexer = PassageIndexer(shelves, embedder, index, settings.redaction_rules)
    policy = ArchivePolicy(
        which=settings.archive_versions,
        keep_ms=round(settings.lifecycle_keep_seconds * 1000),
        index_sensitive=settings.archive_index_sensitive,
        index_later=settings.archive_index_later,
    )
    archivist = Archivist(shelves, AccessDrain(redis_client, store), indexer, policy)
    eraser = Eraser(shelves, index)
    return MeteredArchive(
        redis_client,
        shelves,
        archivist,
        Restorer(shelves),
        eraser,
        Settler(shelves, archivist, eraser, policy),
        Reindexer(shelves, indexer, index),
        ArchiveSearch(shelves, embedder, index),
        index,
        lock,
        meter=store.meter,
    )
