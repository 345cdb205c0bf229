"""Values on their way in: under keys of their own, which expire, until a script takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.binary_redis import BinaryPipeline

SLICE: Final = 500
STAGING_MS: Final = 60_000


def stage_hash(pipeline: BinaryPipeline, key: str, fields: Mapping[str, str]) -> None:
    """Queue the hash in slices: no single command holds up the server for long."""
    entries = list(fields.items())
    pipeline.delete(key)  # what a refused spawn of the same claim staged is not to be mixed in
    for first in range(0, len(entries), SLICE):
        pipeline.hset(key, mapping=dict(entries[first : first + SLICE]))
    pipeline.pexpire(key, STAGING_MS)
