"""AES-256-GCM under keys of one purpose each: the one place that encrypts.

A sealed value, format 1:

```
 0   1  format, now 1
 1  12  nonce, random
13      ciphertext, as long as the plain bytes, then a tag of 16 bytes
```

The tag covers the format, the plain bytes and the associated data that the opener must repeat.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from baton.content.text import encode_text
from baton.errors import InvalidInputError, SealBrokenError, UnsupportedFormatError

KEY_BYTES: Final = 32
SEAL_OVERHEAD_BYTES: Final = 29

_FORMAT: Final = b"\x01"
_NONCE_BYTES: Final = 12
_TEXT_AT: Final = len(_FORMAT) + _NONCE_BYTES
_LENGTH_BYTES: Final = 4


def check_key(key: object, field: str) -> bytes:
    """Return `key` if it is 32 bytes.

    Raises:
        InvalidInputError: it is anything else; says its type or length, never its value.
    """
    if not isinstance(key, bytes):
        raise InvalidInputError(field, f"{KEY_BYTES} bytes", f"<{type(key).__name__}>")
    if len(key) != KEY_BYTES:
        raise InvalidInputError(field, f"{KEY_BYTES} bytes", f"<{len(key)} bytes>")
    return key


def derive_key(key: bytes, purpose: str) -> bytes:
    """The 32-byte subkey of `key` for one purpose: HKDF-SHA256, no salt, `purpose` as its info."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=purpose.encode()).derive(key)


def associated_data(purpose: str, *fields: str | int) -> bytes:
    """`purpose` and `fields` in order, so that no two lists of them give the same bytes.

    Each is its UTF-8 text (an int in decimal) behind that text's length as 4 bytes, big-endian.

    Raises:
        InvalidTextError: a field holds a lone surrogate.
    """
    encoded = [encode_text(str(field), "associated data") for field in (purpose, *fields)]
    return b"".join(len(text).to_bytes(_LENGTH_BYTES, "big") + text for text in encoded)


class Cipher:
    """Seals and opens under one key. Shared by threads and across forks; shows no key.

    `name` is what errors call the key. One key seals at most 2**32 values: beyond that, two
    random nonces may meet.
    """

    __slots__ = ("_aes", "_name")

    def __init__(self, key: bytes, name: str) -> None:
        self._aes = AESGCM(key)
        self._name = name

    def __repr__(self) -> str:
        return f"Cipher({self._name})"

    def __reduce__(self) -> str:
        raise TypeError(f"{self!r} holds a key and is not pickled or copied")

    def seal(self, plain: bytes, associated: bytes) -> bytes:
        """`plain` as a sealed value, `SEAL_OVERHEAD_BYTES` longer; another one at each call."""
        # From the system's generator, not this process's: a fork repeats no nonce.
        nonce = os.urandom(_NONCE_BYTES)
        return b"".join((_FORMAT, nonce, self._aes.encrypt(nonce, plain, _FORMAT + associated)))

    def open(self, sealed: bytes, associated: bytes, what: str) -> bytes:
        """The plain bytes that `sealed` was made of; `what` names it in errors.

        Raises:
            SealBrokenError: any bit differs, `associated` is not what it was sealed with, or
                the key is another. Which of them, cannot be told.
            UnsupportedFormatError: its first byte, which can only be damage or a newer format.
        """
        if sealed and sealed[:1] != _FORMAT:
            raise UnsupportedFormatError(
                f"{what} is sealed in format {sealed[0]}; this Baton reads {_FORMAT[0]}. "
                "Upgrade Baton to read it."
            )
        if len(sealed) < SEAL_OVERHEAD_BYTES:
            raise SealBrokenError(f"{what} is cut short: {len(sealed)} bytes hold no seal")
        nonce, text = sealed[len(_FORMAT) : _TEXT_AT], memoryview(sealed)[_TEXT_AT:]
        try:
            return self._aes.decrypt(nonce, text, _FORMAT + associated)
        except InvalidTag as error:
            raise SealBrokenError(
                f"{what} does not open under {self._name}: it was changed, moved here from "
                "elsewhere, or sealed under another key"
            ) from error
