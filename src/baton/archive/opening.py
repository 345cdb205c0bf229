"""Finds and opens the archive without importing its heavy packages before they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.archive.audit_file import FILE_NAME, AuditFile
from baton.archive.whole_trail import WholeTrail
from baton.errors import ArchiveNotInstalledError
from baton.store.audit_anchors import make_anchor

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from baton.archive.embedder import Embedder
    from baton.archive.service import ArchiveService
    from baton.settings import ClientSettings
    from baton.store.contexts import ContextStore

_FOLDER: Final = "archive"


def archive_folder(settings: ClientSettings) -> Path:
    """Where the archive of these settings is; it may not be there yet."""
    return settings.state_dir / _FOLDER


def ledger_path(settings: ClientSettings) -> Path:
    """Where its ledger is; while it is missing, nothing was ever archived."""
    return archive_folder(settings) / "ledger.sqlite"


def audit_path(settings: ClientSettings) -> Path:
    """Where the audit trails are that were carried out of Redis, if any were."""
    return archive_folder(settings) / FILE_NAME


def open_trail(settings: ClientSettings, redis_client: redis.Redis) -> WholeTrail:
    """Audit trails, as Redis and the archive's file of this machine have them. Opens nothing yet.

    It needs neither the archive's packages nor the right to it alone. Close it in the end.
    """
    return WholeTrail(
        redis_client,
        AuditFile(audit_path(settings)),
        make_anchor(settings.audit_anchor, settings.state_dir),
        keep_seconds=settings.audit_keep_seconds,
    )


def open_archive(
    settings: ClientSettings,
    redis_client: redis.Redis,
    store: ContextStore,
    *,
    embedder: Embedder | None = None,
) -> ArchiveService:
    """The archive, for this process alone; its folder and files are made if they are missing.

    Args:
        settings: where it is, and what it keeps.
        redis_client: a binary client.
        store: the contexts.
        embedder: what finds by meaning; None: the model of the settings.

    Raises:
        ArchiveNotInstalledError: Baton was installed without the archive's packages.
        ArchiveBusyError: another process has it.
        ArchiveKeyError: there is no master key, and none may be made.
        RedactionRuleError: a rule of the settings is none.
    """
    try:
        from baton.archive.configured import assemble  # noqa: PLC0415  # seconds, and an extra
    except ModuleNotFoundError as error:
        raise ArchiveNotInstalledError(
            f"the archive needs a package that is not installed ({error.name}); "
            "pip install 'baton[archive]'"
        ) from error
    return assemble(settings, archive_folder(settings), redis_client, store, embedder)
