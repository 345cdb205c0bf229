"""What Redis holds of one session, to look at and to damage: the suite's only white box."""

from __future__ import annotations

import gzip
import zlib
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from baton.store.keys import SessionKeys

if TYPE_CHECKING:
    import redis

_SUFFIXES: Final = (
    "", ":version", ":manifests", ":metadata", ":history", ":authors", ":operations",
    ":conflicts", ":pending", ":tags", ":checkpoints", ":pins", ":key", ":access", ":audit",
    ":audit_state", ":audit_seals", ":deleted",
)  # fmt: skip


class RawSession:
    """The keys of a session, by a plain client. Names are derived: nothing is searched for.

    Args:
        client: a binary client.
        session_id: the session.
    """

    def __init__(self, client: redis.Redis, session_id: str) -> None:
        self.client: Any = client  # redis-py's answers have types for every kind of client
        self.keys = SessionKeys.of(session_id)
        self._next_chunk = 0
        self._chunk_names()

    def chunk_keys(self) -> list[str]:
        """The chunks that there are, in the order they were written."""
        return [key for key in self._chunk_names() if self.client.exists(key)]

    def existing_keys(self) -> list[str]:
        """All keys of the session that there are."""
        return [key for key in self._names() if self.client.exists(key)]

    def stored_manifest(self, version: str) -> bytes:
        """A version's manifest, in its stored form."""
        return bytes(self.client.hget(self.keys.manifests, version))

    def put_manifest(self, version: str, stored: bytes) -> None:
        """Replace a version's manifest, and where it is the head's, what the container says."""
        self.client.hset(self.keys.manifests, version, stored)
        if self.client.hget(self.keys.base, "head") == version.encode():
            self.client.hset(self.keys.base, "head_etag", stored[:64])

    def put_chunk(self, key: str, stored: bytes) -> None:
        """Replace a chunk's stored bytes; its expiry stays."""
        self.client.set(key, stored, keepttl=True)

    def everything(self) -> bytes:
        """All that is stored, as it is and decompressed wherever it can be."""
        found = []
        for key in self.existing_keys():
            for value in self._values(key):
                found += [value, *_decompressed(value)]
        return b"\0".join(found)

    def remove(self) -> None:
        """Remove all keys, the audit included: what was tampered with is no audit."""
        self.client.unlink(*self._names())

    def remove_marker(self) -> None:
        """Remove what a deletion leaves for a day, to recognise its own repeat."""
        self.client.unlink(f"{self.keys.base}:deleted")

    def _names(self) -> list[str]:
        return [*(f"{self.keys.base}{suffix}" for suffix in _SUFFIXES), *self._chunk_names()]

    def _chunk_names(self) -> list[str]:
        counted = self.client.hget(self.keys.base, "next_chunk") or b"0"
        # Where the container was damaged, or is gone, the count of before holds.
        self._next_chunk = max(self._next_chunk, int(counted) if counted.isdigit() else 0)
        return [self.keys.chunk(number) for number in range(self._next_chunk)]

    def _values(self, key: str) -> list[bytes]:
        match self.client.type(key):
            case b"string":
                return [self.client.get(key)]
            case b"hash":
                return list(chain.from_iterable(self.client.hgetall(key).items()))
            case b"list":
                return list(self.client.lrange(key, 0, -1))
            case b"zset":
                return list(self.client.zrange(key, 0, -1))
        return []


def flipped(stored: bytes, position: int, bit: int = 0) -> bytes:
    """`stored` with one bit of the byte at `position` changed."""
    changed = bytearray(stored)
    changed[position] ^= 1 << bit
    return bytes(changed)


def places(stored: bytes, count: int = 16) -> list[int]:
    """Positions spread over `stored`, its first and last byte among them."""
    step = max(1, len(stored) // count)
    return sorted({*range(0, len(stored), step), len(stored) - 1})


def _decompressed(value: bytes) -> list[bytes]:
    found = []
    for decompress in (gzip.decompress, zlib.decompress):
        try:
            found.append(decompress(value))
        except (OSError, EOFError, zlib.error):
            continue
    return found
