"""Deletions that somebody began and nobody goes on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.redis_client import redis_errors, require_binary
from baton.store.keys import SessionKeys

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from baton.store.mending import KeyMending

# Longer than a deletion rests between two of its steps, each of which notes when it was.
RESTED_MS: Final = 60_000


class UnfinishedDeletions:
    """Finds and finishes them. Beside a deletion that goes on, finishing does no harm.

    Every method raises StoreUnavailableError where Redis does not answer.

    Args:
        redis_client: a binary client.
        mending: finishes.
    """

    def __init__(self, redis_client: redis.Redis, mending: KeyMending) -> None:
        self._redis = require_binary(redis_client)
        self._mending = mending

    def among(self, session_ids: Sequence[str]) -> list[str]:
        """Those of these sessions whose deletion rests."""
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in session_ids:
            pipeline.hmget(SessionKeys.of(session_id).base, ["state", "deleting_at"])
        pipeline.time()
        with redis_errors(self._redis):
            *answers, (seconds, microseconds) = pipeline.execute()
        rested_since_ms = seconds * 1000 + microseconds // 1000 - RESTED_MS
        return [
            session_id
            for session_id, (state, at_ms) in zip(session_ids, answers, strict=True)
            if state == b"deleting" and int(at_ms or 0) <= rested_since_ms
        ]

    def finish(self, session_id: str) -> bool:
        """Finish a deletion; False if there is none that rests."""
        if not self.among([session_id]):
            return False
        self._mending.finish_deletion(SessionKeys.of(session_id))
        return True
