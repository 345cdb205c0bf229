"""Master keys in this process's memory: parsed once, then used and never shown.

A blob of theirs is a sealed value (`baton.content.encryption`) of the data key. Its associated
data are the purpose, the master key's id and the context as hex.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from baton.content.encryption import KEY_BYTES, Cipher, associated_data, check_key, derive_key
from baton.errors import InvalidIdError, InvalidInputError, KeyNotFoundError
from baton.ids import check_id
from baton.key_providers.provider import WrappedKey

if TYPE_CHECKING:
    from collections.abc import Sequence

# Part of the stored format, as in `baton.content.sealing`.
_WRAP: Final = "baton master key 1: wrap"
_ID: Final = "baton master key 1: id"

_HEX_KEY: Final = re.compile(r"[0-9A-Fa-f]{64}")
# An id that holds this is taken for a misplaced key; 40 leave room for ids that are 128-bit hex.
_KEY_LIKE: Final = re.compile(r"[0-9A-Fa-f]{40}")
# 32 random bytes have fewer distinct values once in 10**40 tries; placeholders always do.
_FEWEST_DISTINCT: Final = 8


class MasterKey:
    """One master key. Holds it as no bytes that Python could show, pickle or copy."""

    __slots__ = ("_cipher", "key_id")

    def __init__(self, key: bytes, key_id: str) -> None:
        self.key_id = key_id
        self._cipher = Cipher(derive_key(key, _WRAP), f"master key {key_id}")

    def __repr__(self) -> str:
        return f"MasterKey({self.key_id!r})"

    def wrap(self, data_key: bytes, context: bytes) -> WrappedKey:
        """See `KeyProvider.wrap`."""
        check_key(data_key, "data_key")
        return WrappedKey(self.key_id, self._cipher.seal(data_key, self._bound(context)))

    def unwrap(self, blob: bytes, context: bytes) -> bytes:
        """See `KeyProvider.unwrap`."""
        return self._cipher.open(blob, self._bound(context), "a wrapped data key")

    def _bound(self, context: bytes) -> bytes:
        return associated_data(_WRAP, self.key_id, context.hex())


class Keyset:
    """Master keys by id; the first one given is current.

    Raises:
        InvalidInputError: two have one id. `source` names where they come from.
        KeyNotFoundError: there is none.
    """

    __slots__ = ("_keys", "_source", "current")

    def __init__(self, keys: Sequence[MasterKey], source: str) -> None:
        if not keys:
            raise KeyNotFoundError(f"{source}: expected a master key at least, got none")
        self._keys = {key.key_id: key for key in keys}
        if len(self._keys) < len(keys):
            raise InvalidInputError(source, "key ids that differ", "<an id twice>")
        self._source = source
        self.current = keys[0]

    def __repr__(self) -> str:
        return f"Keyset({self.key_ids()})"

    def key_ids(self) -> list[str]:
        """The ids of all keys, the current one's first."""
        return list(self._keys)

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """See `KeyProvider.unwrap`."""
        key = self._keys.get(wrapped.key_id)
        if key is None:
            raise KeyNotFoundError(
                f"{self._source}: expected master key {wrapped.key_id[:256]!r}, got only "
                f"{', '.join(self._keys)}; put it back to read what it wrapped"
            )
        return key.unwrap(wrapped.blob, context)


def new_master_key() -> tuple[str, str]:
    """A random key's id and the key in hex, as `parse_master_key` reads them."""
    key = os.urandom(KEY_BYTES)
    return key_id_of(key), key.hex()


def parse_master_key(words: Sequence[str], field: str) -> MasterKey:
    """The key that `[hex]` or `[key id, hex]` gives; without an id it gets `key_id_of` it.

    Raises:
        InvalidInputError: anything else, or a key that is plainly not random. Says `field`,
            never what stood there: a misplaced key is a key still.
    """
    expected = "a key id and 64 hex digits, or the digits alone"
    if len(words) not in (1, 2):
        raise InvalidInputError(field, expected, f"<{len(words)} words>")
    *key_id, digits = words
    if not _HEX_KEY.fullmatch(digits):
        raise InvalidInputError(field, expected, "<hidden>")
    key = bytes.fromhex(digits)
    if len(set(key)) < _FEWEST_DISTINCT:
        raise InvalidInputError(field, "32 random bytes", "<a placeholder>")
    return MasterKey(key, _checked_id(key_id[0], field) if key_id else key_id_of(key))


def key_id_of(key: bytes) -> str:
    """`key_{16 hex}`: a public name that follows from the key and tells nothing of it."""
    return f"key_{derive_key(key, _ID)[:8].hex()}"


def _checked_id(key_id: str, field: str) -> str:
    try:
        if not _KEY_LIKE.search(key_id):
            return check_id(key_id, field)
    except InvalidIdError:
        pass
    # Out here, since that error holds what may be a key.
    raise InvalidInputError(field, "a key id that is an id and not a key", "<hidden>")
