"""The tree of a handoff in Redis: every transition is one script, so the census always adds up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from baton.content.blob import pack_blob
from baton.content.text import encode_text
from baton.handoff.cancelling import TreeCancelling
from baton.handoff.claims import decode_moves
from baton.handoff.keys import OPEN, HandoffKeys
from baton.handoff.node_work import NodeWork
from baton.handoff.opening import TreeOpening
from baton.handoff.outcome import unknown_handoff
from baton.handoff.results import StoredResults
from baton.handoff.retrying import TreeRetrying
from baton.handoff.staging import SLICE, STAGING_MS
from baton.ids import new_operation_id
from baton.redis_client import redis_errors, redis_seconds, require_binary
from baton.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import redis

    from baton.handoff.claims import Move

_CLAIM_JOIN: Final = Script("baton.handoff", "claim_join")
_FINISH_JOIN: Final = Script("baton.handoff", "finish_join")
_SWEEP: Final = Script("baton.handoff", "sweep")


class HandoffTree(TreeOpening, NodeWork, TreeCancelling, TreeRetrying, StoredResults):
    """The states of handoffs and nodes, changed by scripts only. Safe for threads.

    Every change is idempotent: asked twice because an answer was lost, it answers the same. (A
    line of progress may show twice; what a lost sweep would have published, a later one does.)
    Every method raises StoreUnavailableError where Redis does not answer.
    """

    def __init__(self, redis_client: redis.Redis) -> None:
        self._redis = require_binary(redis_client)

    def claim_join(self, handoff_id: str, worker: str) -> int | None:
        """Take the join; its fencing token, or None if it is not due or somebody else has it."""
        keys = HandoffKeys.of(handoff_id)
        with redis_errors(self._redis):
            kind, value = _CLAIM_JOIN(self._redis, [keys.base], [worker, new_operation_id()])
        return int(value) if kind == b"claimed" else None

    def finish_join(
        self,
        handoff_id: str,
        fence: int,
        state: str,
        fields: dict[str, str],
        merged: str | None = None,
    ) -> bool:
        """End the handoff; False if the join has passed to another worker."""
        keys = HandoffKeys.of(handoff_id)
        staged = "" if merged is None else keys.staging_merged(fence)
        args: list[str | bytes | float] = [fence, state, json.dumps(fields), staged]
        blob = None if merged is None else pack_blob(encode_text(merged))
        with redis_errors(self._redis):
            while True:
                pipeline = self._redis.pipeline(transaction=False)
                if blob is not None:
                    pipeline.set(staged, blob, px=STAGING_MS)
                kind, _ = _FINISH_JOIN.after(pipeline, self._redis, [keys.base], args)
                if kind != b"missing":
                    return bool(kind == b"done")

    def sweep(
        self, handoff_id: str, *, limit: int, backlog: bool
    ) -> tuple[str, tuple[Move, ...], int]:
        """Look at what is due: the state, what is to be published, members looked at."""
        with redis_errors(self._redis):
            state, moves, seen, keep = _SWEEP(
                self._redis, [HandoffKeys.of(handoff_id).base], [limit, "1" if backlog else "0"]
            )
            if keep:
                self._keep(HandoffKeys.of(handoff_id))
        return state.decode(), decode_moves(moves), seen

    def _keep(self, keys: HandoffKeys) -> None:
        """Have results, drafts and plans expire as late as all else."""
        retention_ms = int(self._redis.hget(keys.base, "retention_ms") or 0)
        kept = [
            key
            for node_id, node in self._redis.hgetall(keys.nodes).items()
            for key in _kept_keys(keys, node_id.decode(), json.loads(node))
        ]
        for first in range(0, len(kept) if retention_ms else 0, SLICE):
            pipeline = self._redis.pipeline(transaction=False)
            for key in kept[first : first + SLICE]:
                pipeline.pexpire(key, retention_ms)
            pipeline.execute()

    def open_ages(self) -> Iterator[tuple[str, float]]:
        """Handoffs that may still have something due, and the seconds since they were recorded."""
        with redis_errors(self._redis):
            now_seconds = redis_seconds(self._redis)
            entries = self._redis.zrevrange(OPEN, 0, -1, withscores=True)
        for member, opened_at in entries:
            yield member.decode(), now_seconds - opened_at

    def lease_seconds(self, handoff_id: str) -> float:
        """How long a claim of this handoff lasts between renewals."""
        with redis_errors(self._redis):
            value = self._redis.hget(HandoffKeys.of(handoff_id).base, "lease_ms")
        if value is None:
            raise unknown_handoff(handoff_id)
        return int(value) / 1000

    def retention_seconds(self, handoff_id: str) -> float:
        """How long what is known of this handoff is kept behind its last change."""
        with redis_errors(self._redis):
            value = self._redis.hget(HandoffKeys.of(handoff_id).base, "retention_ms")
        if value is None:
            raise unknown_handoff(handoff_id)
        return int(value) / 1000

    def close(self, handoff_id: str) -> None:
        """Take a handoff that has ended, or has expired, off the sweep's list."""
        with redis_errors(self._redis):
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.zrem(OPEN, handoff_id)
            pipeline.execute()


def _kept_keys(keys: HandoffKeys, node_id: str, node: Mapping[str, Any]) -> Iterator[str]:
    if node["state"] == "ok":
        yield keys.result(node_id)
    if node["children"]:
        yield keys.plan_below(node_id)
        yield keys.draft(node_id)
