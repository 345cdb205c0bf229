"""Manifests this process has seen, so that an unchanged head costs one round trip."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from baton.store.forks import renew_in_children
from baton.store.manifest import decode_manifest

if TYPE_CHECKING:
    from baton.binary_redis import BinaryRedis
    from baton.content.sealing import Sealer
    from baton.store.keys import SessionKeys
    from baton.store.manifest import StampedManifest

MAX_CHUNK_REFS: Final = 27_000
_REFS_PER_MANIFEST: Final = 7


class Manifests:
    """Manifests of sessions: fetched, verified, and the most recently used ones kept.

    A chunk ref costs about 590 bytes, its share of the stored form included, and a manifest
    without its refs as much as seven of them; so the default bound is about 16 MB. The manifest
    kept last stays, however large.

    What is kept may be out of date only if a session was deleted and its name used again, so
    whoever builds on a kept manifest has its etag compared by the server.
    """

    def __init__(self, client: BinaryRedis, max_chunk_refs: int = MAX_CHUNK_REFS) -> None:
        self._redis = client
        self._max_chunk_refs = max_chunk_refs
        self._chunk_refs = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], StampedManifest] = OrderedDict()
        renew_in_children(self)

    def fetch(
        self, keys: SessionKeys, session_id: str, version: str, sealer: Sealer | None
    ) -> StampedManifest | None:
        """The manifest as Redis has it now, or None if there is none.

        Raises:
            ContextCorruptError: it is not what was stored.
        """
        stored = self._redis.hget(keys.manifests, version)
        if stored is None:
            return None
        stamped = decode_manifest(stored, session_id, version, sealer)
        self.keep(stamped)
        return stamped

    def find_kept(self, session_id: str, version: str) -> StampedManifest | None:
        """The manifest as this process last saw it, if it is still here."""
        with self._lock:
            stamped = self._kept.get((session_id, version))
            if stamped is not None:
                self._kept.move_to_end((session_id, version))
            return stamped

    def keep(self, stamped: StampedManifest) -> None:
        """Remember a verified manifest."""
        key = (stamped.manifest.session_id, stamped.manifest.version)
        with self._lock:
            self._drop(key)
            self._kept[key] = stamped
            self._chunk_refs += _weight(stamped)
            while self._chunk_refs > self._max_chunk_refs and len(self._kept) > 1:
                self._drop(next(iter(self._kept)))

    def forget(self, session_id: str, version: str) -> None:
        """Drop what is kept of that version."""
        with self._lock:
            self._drop((session_id, version))

    def renew_after_fork(self) -> None:
        """In a forked child: a lock of its own, and the sum, which may have been amid a change."""
        self._lock = threading.Lock()
        self._chunk_refs = sum(map(_weight, self._kept.values()))

    def _drop(self, key: tuple[str, str]) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._chunk_refs -= _weight(dropped)


def _weight(stamped: StampedManifest) -> int:
    return _REFS_PER_MANIFEST + len(stamped.manifest.chunks)
