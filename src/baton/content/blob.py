"""A small object as one self-describing, self-checking value, such as a node's result.

Layout, big-endian:

```
 0   1  format, now 1
 1  32  BLAKE2b-256 of all other bytes (the format byte, then everything from offset 33)
33   1  codec: 0 none, 1 gzip, 2 zstd, 3 brotli
34   8  plain size in bytes
42      payload
```

The first 33 bytes mean the same in every format to come. So a damaged format byte is told from a
newer format, whose digest fits.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final

from baton.content.compression import compress, decompress
from baton.errors import ContextCorruptError, ContextTooLargeError, UnsupportedFormatError

if TYPE_CHECKING:
    from baton.content.compression import Codec

_FORMAT: Final = b"\x01"
_DIGEST_BYTES: Final = 32
# Below it no codec saves anything to speak of, and setting one up costs more than all else here.
_WORTH_BYTES: Final = 64
_BODY_AT: Final = 1 + _DIGEST_BYTES
_HEADER: Final = struct.Struct(">BQ")
_NUMBERS: Final[dict[Codec, int]] = {"none": 0, "gzip": 1, "zstd": 2, "brotli": 3}
_NAMES: Final = {number: codec for codec, number in _NUMBERS.items()}


def pack_blob(data: bytes, codec: Codec = "gzip") -> bytes:
    """`data` as one value; kept plain where compressing does not make it smaller.

    Raises:
        InvalidInputError: an unknown codec.
    """
    payload = data if len(data) < _WORTH_BYTES else compress(data, codec)
    if len(payload) >= len(data):
        payload, codec = data, "none"
    body = _HEADER.pack(_NUMBERS[codec], len(data)) + payload
    return _FORMAT + _digest(_FORMAT, body) + body


def unpack_blob(stored: bytes, *, limit_bytes: int) -> bytes:
    """The data that `pack_blob` made `stored` of, at most `limit_bytes`.

    Raises:
        ContextCorruptError: any byte differs, is missing or is too many.
        ContextTooLargeError: it declares more than `limit_bytes`; nothing was decompressed.
        UnsupportedFormatError: whole, but of a format or codec that this Baton does not know.
    """
    found, digest, body = stored[:1], stored[1:_BODY_AT], memoryview(stored)[_BODY_AT:]
    if _digest(found, body) != digest:
        raise ContextCorruptError("blob: digest differs")
    if found != _FORMAT:
        raise _unsupported("blob", found[0], _FORMAT[0])
    if len(body) < _HEADER.size:
        raise ContextCorruptError("blob: cut short")
    number, size_bytes = _HEADER.unpack_from(body)
    if number not in _NAMES:
        raise _unsupported("blob compression", number, "0 to 3")
    if size_bytes > limit_bytes:
        raise ContextTooLargeError("blob", f"at most {limit_bytes} bytes", size_bytes)
    return decompress(bytes(body[_HEADER.size :]), _NAMES[number], size_bytes)


def _digest(found: bytes, body: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(found, digest_size=_DIGEST_BYTES)
    digest.update(body)
    return digest.digest()


def _unsupported(what: str, found: int, known: object) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"{what} has format {found}; this Baton reads {known}. Upgrade Baton to read it."
    )
