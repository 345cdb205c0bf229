"""Who wraps the archive's data keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.errors import ArchiveKeyError, KeyNotFoundError
from baton.key_providers.configured import configured_provider
from baton.key_providers.file import FileKeyProvider

if TYPE_CHECKING:
    from pathlib import Path

    from baton.key_providers.environment import EnvKeyProvider
    from baton.settings import ClientSettings

_KEY_FILE: Final = "master.keys"


def own_key_file(folder: Path) -> Path:
    """The key file of an archive's own; it may not be there."""
    return folder / _KEY_FILE


def find_key_provider(
    settings: ClientSettings, folder: Path
) -> FileKeyProvider | EnvKeyProvider | None:
    """The configured one, or the archive's own key file; None if there is neither.

    Raises:
        SettingsError: two are configured.
    """
    master_keys = settings.master_keys
    value = None if master_keys is None else master_keys.get_secret_value()
    provider = configured_provider(settings.key_file, value)
    if provider is not None:
        return provider
    path = own_key_file(folder)
    return FileKeyProvider(path) if path.exists() else None


def archive_key_provider(
    settings: ClientSettings, folder: Path
) -> FileKeyProvider | EnvKeyProvider:
    """The configured one, or a key file of the archive's own.

    One is made in the archive's folder where the index is embedded, as all is on this machine then.

    Raises:
        ArchiveKeyError: no master key is configured, and the index is a server.
        SettingsError: two are configured.
    """
    provider = find_key_provider(settings, folder)
    if provider is not None:
        return provider
    if settings.chroma_url is not None:
        raise ArchiveKeyError(
            "the archive's data keys need a master key, and with a Chroma server none is made; set "
            "BATON_KEY_FILE (`baton keys create` makes the file)"
        )
    try:
        return FileKeyProvider.create(own_key_file(folder))
    except KeyNotFoundError as error:
        raise ArchiveKeyError(f"the archive's master key could not be made ({error})") from error
