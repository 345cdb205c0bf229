"""What seals a shelf: one random data key, used through subkeys of one purpose each.

A shelf is one session's place in the archive. Whoever destroys its data key has erased all that
lies on it, wherever copies of the sealed bytes may be.

```
segment   associated data: purpose, shelf, segment id
data key  wrapped by a master key; context: purpose, shelf
```
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from baton.content.encryption import Cipher, associated_data, check_key, derive_key

# These are part of the stored format: other labels read nothing that is stored.
_SEGMENT: Final = "baton archive 1: segment"
_SEGMENT_NAME: Final = "baton archive 1: segment name"
_PASSAGE_NAME: Final = "baton archive 1: passage name"
_DATA_KEY: Final = "baton archive 1: data key"

SEGMENT_NAME_BYTES: Final = 16
_PASSAGE_NAME_BYTES: Final = 12


def new_shelf() -> str:
    """`shelf_{16 hex}`: random, so that it tells nothing of its session."""
    return f"shelf_{secrets.token_hex(8)}"


def shelf_wrap_context(shelf: str) -> bytes:
    """What a shelf's data key is bound to when it is wrapped: it unwraps for this shelf alone."""
    return associated_data(_DATA_KEY, shelf)


class ShelfSeal:
    """Seals and opens the segments of one shelf, and names what lies there.

    Names are keyed: without the data key, nobody can tell whether a text he knows is there.

    Raises:
        InvalidInputError: `data_key` is not 32 bytes; the error does not show it.
    """

    __slots__ = ("_cipher", "_passages", "_segments", "shelf")

    def __init__(self, data_key: bytes, shelf: str) -> None:
        check_key(data_key, "data_key")
        self.shelf = shelf
        self._cipher = Cipher(derive_key(data_key, _SEGMENT), f"the data key of {shelf}")
        # Keyed once: a copy of the state is cheaper than the key's block, and it hides the key.
        self._segments = hashlib.blake2b(
            key=derive_key(data_key, _SEGMENT_NAME), digest_size=SEGMENT_NAME_BYTES
        )
        self._passages = hashlib.blake2b(
            key=derive_key(data_key, _PASSAGE_NAME), digest_size=_PASSAGE_NAME_BYTES
        )

    def __repr__(self) -> str:
        return f"ShelfSeal({self.shelf!r})"

    def __reduce__(self) -> str:
        raise TypeError(f"{self!r} holds keys and is not pickled or copied")

    def segment_name(self, stored: bytes) -> bytes:
        """The name of a segment of these bytes: 16 bytes, the same for the same bytes."""
        hasher = self._segments.copy()
        hasher.update(stored)
        return hasher.digest()

    def passage_name(self, text: str) -> str:
        """The name of a passage's searchable text: 24 hex digits, the same for the same text."""
        hasher = self._passages.copy()
        hasher.update(text.encode())
        return hasher.hexdigest()

    def seal(self, stored: bytes, name: bytes) -> bytes:
        """`stored`, sealed for its place on this shelf."""
        return self._cipher.seal(stored, self._context(name))

    def open(self, sealed: bytes, name: bytes) -> bytes:
        """What was sealed under that name.

        Raises:
            SealBrokenError: it was changed, or belongs elsewhere.
            UnsupportedFormatError: a newer Baton sealed it, or its first byte is damaged.
        """
        return self._cipher.open(
            sealed, self._context(name), f"segment {name.hex()} of {self.shelf}"
        )

    def _context(self, name: bytes) -> bytes:
        return associated_data(_SEGMENT, self.shelf, name.hex())
