"""Master keys given as one value, which the settings read from the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.key_providers.keyset import Keyset, parse_master_key

if TYPE_CHECKING:
    from baton.key_providers.provider import WrappedKey


class EnvKeyProvider:
    """A `KeyProvider` of the keys in a value such as `2027:HEX,2026:HEX`; the first is current.

    An entry is `id:hex` or `hex` alone, 64 digits. To rotate, put a new entry first and restart
    every process that writes; drop an old one when nothing stored names its id any more. A
    process that has not restarted cannot read what the new key wrapped: where that matters,
    first add the new key last everywhere, then move it to the front.

    An environment is seen by the same user's other processes and by crash reporters; prefer
    `FileKeyProvider`.

    Raises:
        InvalidInputError: an entry is malformed, or two have one id. Shows no part of it.
        KeyNotFoundError: the value is empty.
    """

    def __init__(self, keys: str) -> None:
        entries = [entry.strip() for entry in keys.split(",")] if keys.strip() else []
        self._keyset = Keyset(
            [
                parse_master_key(entry.split(":"), f"master key {number}")
                for number, entry in enumerate(entries, start=1)
            ],
            "the given master keys",
        )

    def __repr__(self) -> str:
        return f"EnvKeyProvider({self._keyset!r})"

    def current_key_id(self) -> str:
        """See `KeyProvider.current_key_id`; fails never."""
        return self._keyset.current.key_id

    def key_ids(self) -> list[str]:
        """The ids of all keys, the current one's first."""
        return self._keyset.key_ids()

    def wrap(self, data_key: bytes, *, context: bytes) -> WrappedKey:
        """See `KeyProvider.wrap`."""
        return self._keyset.current.wrap(data_key, context)

    def unwrap(self, wrapped: WrappedKey, *, context: bytes) -> bytes:
        """See `KeyProvider.unwrap`."""
        return self._keyset.unwrap(wrapped, context)
