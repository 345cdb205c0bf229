"""What one session stores, sealed under its data key, and the keyed digests that may be seen.

A session has one random data key of 32 bytes. It is used through subkeys of one purpose each
(`derive_key`): two that encrypt, three that name, one that cuts. In Redis it exists only wrapped
by a master key (`baton.key_providers`), bound to the session by `wrap_context`.

What is sealed is a value of `baton.content.encryption`; its associated data are these fields:

```
chunk     purpose, session id, chunk identity, codec, plain size in bytes, data-key id
manifest  purpose, session id, version, data-key id
```

Compress first, seal then: sealed bytes do not compress. And compress no two parties' text into
one chunk where one of them could watch its size: the size tells what they share.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import Final, NamedTuple

from baton.content.encryption import (
    KEY_BYTES,
    Cipher,
    associated_data,
    check_key,
    derive_key,
)
from baton.ids import check_id

# These are part of the stored format: other labels read nothing that is stored.
_CHUNK: Final = "baton sealing 1: chunk"
_MANIFEST: Final = "baton sealing 1: manifest"
_CHUNK_IDENTITY: Final = "baton sealing 1: chunk identity"
_CONTENT_MAC: Final = "baton sealing 1: content mac"
_ETAG_MAC: Final = "baton sealing 1: etag mac"
_CUTS: Final = "baton sealing 1: cut points"
_DATA_KEY: Final = "baton sealing 1: data key"

_MAC_BYTES: Final = 32


class ChunkPlace(NamedTuple):
    """Where a sealed chunk belongs and what it is: it opens nowhere else and as nothing else.

    `identity` is the `Sealer.chunk_identity` of its plain bytes, `size_bytes` their number,
    `codec` the name of their compression.
    """

    session_id: str
    identity: str
    codec: str
    size_bytes: int


class SessionSeal(NamedTuple):
    """A sealed session's sealer and its id: what sealing and opening its chunks takes."""

    sealer: Sealer
    session_id: str

    def seal_chunk(self, packed: bytes, *, identity: str, codec: str, size_bytes: int) -> bytes:
        """See `Sealer.seal_chunk`; the rest is of `ChunkPlace`."""
        place = ChunkPlace(self.session_id, identity, codec, size_bytes)
        return self.sealer.seal_chunk(packed, place=place)

    def open_chunk(self, sealed: bytes, *, identity: str, codec: str, size_bytes: int) -> bytes:
        """See `Sealer.open_chunk`; the rest is of `ChunkPlace`."""
        place = ChunkPlace(self.session_id, identity, codec, size_bytes)
        return self.sealer.open_chunk(sealed, place=place)


def new_data_key() -> bytes:
    """32 random bytes: one session's data key."""
    return os.urandom(KEY_BYTES)


def new_data_key_id() -> str:
    """`dk_{16 hex}`: a public name for a data key."""
    return f"dk_{secrets.token_hex(8)}"


def wrap_context(session_id: str, data_key_id: str) -> bytes:
    """What a data key is bound to when it is wrapped: it unwraps for this session alone."""
    return associated_data(_DATA_KEY, session_id, data_key_id)


class Sealer:
    """Seals and opens one session's chunks and manifests, and computes their keyed digests.

    Shared by threads and across forks. Holds no key as bytes: none can be shown, pickled or
    copied out of it. `cut_seed` is for `baton.content.chunking.cut_points`: without the key, a
    text's cuts cannot be foretold. Keep it as secret as the sizes of the chunks, no more: who
    sees many of these and knows the text may work it out.

    Raises:
        InvalidInputError: `data_key` is not 32 bytes; the error does not show it.
        InvalidIdError: `data_key_id` is not an id.
    """

    __slots__ = (
        "_chunk", "_chunk_identity", "_content", "_etag", "_manifest", "cut_seed", "data_key_id",
    )  # fmt: skip

    def __init__(self, data_key: bytes, data_key_id: str) -> None:
        check_key(data_key, "data_key")
        self.data_key_id = check_id(data_key_id, "data_key_id")
        name = f"data key {data_key_id}"
        self._chunk = Cipher(derive_key(data_key, _CHUNK), name)
        self._manifest = Cipher(derive_key(data_key, _MANIFEST), name)
        # Keyed once: a copy of the state is cheaper than the key's block, and it hides the key.
        self._chunk_identity = _keyed(derive_key(data_key, _CHUNK_IDENTITY))
        self._content = _keyed(derive_key(data_key, _CONTENT_MAC))
        self._etag = _keyed(derive_key(data_key, _ETAG_MAC))
        self.cut_seed = int.from_bytes(derive_key(data_key, _CUTS)[:8], "big") >> 1

    def __repr__(self) -> str:
        return f"Sealer({self.data_key_id!r})"

    def __reduce__(self) -> str:
        raise TypeError(f"{self!r} holds keys and is not pickled or copied")

    def seal_chunk(self, packed: bytes, *, place: ChunkPlace) -> bytes:
        """`packed`, a chunk's compressed bytes, sealed for `place`; 29 bytes longer."""
        return self._chunk.seal(packed, self._chunk_context(place))

    def open_chunk(self, sealed: bytes, *, place: ChunkPlace) -> bytes:
        """The compressed bytes in `sealed`.

        Raises:
            SealBrokenError: it was changed, or sealed for another place or under another key.
            UnsupportedFormatError: a newer Baton sealed it, or its first byte is damaged.
        """
        what = f"session {place.session_id}: chunk {place.identity[:16]}"
        return self._chunk.open(sealed, self._chunk_context(place), what)

    def seal_manifest(self, body: bytes, *, session_id: str, version: str) -> bytes:
        """A manifest's `body`, sealed for one session and version; 29 bytes longer."""
        return self._manifest.seal(body, self._manifest_context(session_id, version))

    def open_manifest(self, sealed: bytes, *, session_id: str, version: str) -> bytes:
        """The manifest's body in `sealed`.

        Raises:
            SealBrokenError: it was changed, or sealed for another session or version, or under
                another key.
            UnsupportedFormatError: a newer Baton sealed it, or its first byte is damaged.
        """
        what = f"session {session_id} version {version}: its manifest"
        return self._manifest.open(sealed, self._manifest_context(session_id, version), what)

    def chunk_identity(self, plain: bytes | memoryview) -> str:
        """The name of a chunk's plain bytes, 64 hex digits.

        Equal bytes have equal names within the session, so they are stored once. Without the
        key, nobody can tell from a name whether a text they know is stored.
        """
        return _digest(self._chunk_identity, plain)

    def content_mac(self, plain: bytes | bytearray) -> str:
        """`"keyed-blake2b:{64 hex}"`: stands in for the hash of a content's UTF-8."""
        hasher = self.content_hasher()
        hasher.update(plain)
        return content_mac_of(hasher)

    def content_hasher(self) -> hashlib.blake2b:
        """A hasher to feed a content to in pieces; `content_mac_of` tells its result."""
        return self._content.copy()

    def etag_mac(self, body: bytes) -> str:
        """The etag of a manifest's body, 64 hex digits."""
        return _digest(self._etag, body)

    def _chunk_context(self, place: ChunkPlace) -> bytes:
        return associated_data(_CHUNK, *place, self.data_key_id)

    def _manifest_context(self, session_id: str, version: str) -> bytes:
        return associated_data(_MANIFEST, session_id, version, self.data_key_id)


def content_mac_of(hasher: hashlib.blake2b) -> str:
    """The `Sealer.content_mac` of what a `Sealer.content_hasher` was fed."""
    return f"keyed-blake2b:{hasher.hexdigest()}"


def _keyed(key: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(key=key, digest_size=_MAC_BYTES)


def _digest(keyed: hashlib.blake2b, data: bytes | memoryview) -> str:
    hasher = keyed.copy()
    hasher.update(data)
    return hasher.hexdigest()
