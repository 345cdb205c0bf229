"""The manifests a process keeps: bounded in memory, whatever their sizes."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest

from baton.store.manifest import ChunkRef, Manifest, decode_manifest
from baton.store.manifests import MAX_CHUNK_REFS, Manifests


def stored_manifest(session_id: str, refs: int) -> bytes:
    def digest(number: int) -> str:
        return hashlib.sha256(f"{session_id} {number}".encode()).hexdigest()

    chunks = (
        ChunkRef(1000 + n, 150_000 + n, 60_000 + n, digest(n), digest(-n)[:32]) for n in range(refs)
    )
    manifest = Manifest(
        session_id=session_id,
        version="1.0.0",
        parent=None,
        base=None,
        author="a",
        action="accepted",
        operation="put",
        operation_id="o",
        source=None,
        content_hash=f"sha256:{digest(0)}",
        content_type="text/plain",
        metadata={},
        size_bytes=1,
        size_tokens=1,
        compression="gzip",
        average_chunk_bytes=8192,
        next_chunk=9999,
        chunks=tuple(chunks),
    )
    return manifest.encode().stored


@pytest.mark.parametrize("refs", [1, 64, 1000])
def test_manifests_stay_within_their_memory(refs):
    """By default about 16 MB, for many small manifests as for few large ones."""
    stored = [stored_manifest(f"s{n}", refs) for n in range(1 + MAX_CHUNK_REFS // (refs + 3))]
    manifests = Manifests(None)
    tracemalloc.start()
    try:
        while stored:
            fresh = bytes(bytearray(stored[-1]))  # as Redis gives it: nobody else holds it
            manifests.keep(decode_manifest(fresh, f"s{len(stored) - 1}", "1.0.0"))
            del stored[-1], fresh
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 10e6 < kept_bytes < 20e6
