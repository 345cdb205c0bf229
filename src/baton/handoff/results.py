"""What nodes and joins have left in the tree: results, drafts and the merged whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.content.blob import unpack_blob
from baton.content.text import decode_text
from baton.errors import ContextCorruptError
from baton.handoff.keys import HandoffKeys
from baton.redis_client import redis_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.binary_redis import BinaryRedis

RESULTS_AT_ONCE: Final = 32
BLOB_LIMIT_BYTES: Final = 1 << 30


class StoredResults:
    """What reads the texts that a tree holds. See `HandoffTree`."""

    _redis: BinaryRedis

    def results(self, handoff_id: str, node_ids: Sequence[str]) -> dict[str, str]:
        """Results of nodes that have one, by node; batched, verified.

        Raises:
            ContextCorruptError: a stored result is not what was stored.
        """
        keys = HandoffKeys.of(handoff_id)
        found: dict[str, str] = {}
        for first in range(0, len(node_ids), RESULTS_AT_ONCE):
            batch = node_ids[first : first + RESULTS_AT_ONCE]
            with redis_errors(self._redis):
                values = self._redis.mget([keys.result(node_id) for node_id in batch])
            for node_id, value in zip(batch, values, strict=True):
                if value is not None:
                    found[node_id] = _unpack(value, f"handoff {handoff_id} node {node_id}")
        return found

    def draft(self, handoff_id: str, node_id: str) -> str:
        """What a node returned before it waited for its children; empty if it did not."""
        with redis_errors(self._redis):
            value = self._redis.get(HandoffKeys.of(handoff_id).draft(node_id))
        return "" if value is None else _unpack(value, f"handoff {handoff_id} draft {node_id}")

    def merged(self, handoff_id: str) -> str | None:
        """The merged result, or None if there is none."""
        with redis_errors(self._redis):
            value = self._redis.get(HandoffKeys.of(handoff_id).merged)
        return None if value is None else _unpack(value, f"handoff {handoff_id} merged result")


def _unpack(blob: bytes, what: str) -> str:
    try:
        return decode_text(unpack_blob(blob, limit_bytes=BLOB_LIMIT_BYTES))
    except ContextCorruptError as error:
        raise ContextCorruptError(f"{what}: {error}") from error
