"""The key provider that the settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.errors import InvalidInputError, SettingsError
from baton.key_providers.environment import EnvKeyProvider
from baton.key_providers.file import FileKeyProvider

if TYPE_CHECKING:
    from pathlib import Path


def configured_provider(
    key_file: Path | None, master_keys: str | None
) -> FileKeyProvider | EnvKeyProvider | None:
    """A provider of the keys in `key_file`, or of those in `master_keys`; None without either.

    The file is not opened before its first use.

    Raises:
        SettingsError: both are given, since which is meant would depend on us; or an entry of
            `master_keys` is malformed. Shows no part of a key.
        KeyNotFoundError: `master_keys` is blank.
    """
    if key_file is not None and master_keys is not None:
        raise SettingsError("BATON_KEY_FILE", "no BATON_MASTER_KEYS beside it", "<both>")
    if key_file is not None:
        return FileKeyProvider(key_file)
    if master_keys is None:
        return None
    try:
        return EnvKeyProvider(master_keys)
    except InvalidInputError as error:
        field = f"BATON_MASTER_KEYS: {error.field}"
        raise SettingsError(field, error.expected, error.got) from None
