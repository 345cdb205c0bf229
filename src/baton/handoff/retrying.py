"""How an ended handoff goes on: its next tree is staged, and takes the place of the last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from baton.errors import InvalidInputError
from baton.failpoints import reach
from baton.handoff.keys import INDEX_RETENTION_MS, OPEN, HandoffKeys
from baton.handoff.opening import caps_of
from baton.handoff.outcome import NODE_STATES, TERMINAL_HANDOFF_STATES, unknown_handoff
from baton.handoff.reopening import plan_reopening, queue_of
from baton.handoff.staging import SLICE, STAGING_MS
from baton.ids import new_operation_id
from baton.redis_client import redis_errors, redis_seconds
from baton.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.agents.budget import Budget
    from baton.binary_redis import BinaryRedis
    from baton.handoff.reopening import Reopening

_REOPEN: Final = Script("baton.handoff", "reopen")


class TreeRetrying:
    """What reopens handoffs. See `HandoffTree`."""

    _redis: BinaryRedis

    def reopen(self, handoff_id: str, node_id: str | None, budget: Budget | None = None) -> None:
        """Have an ended handoff go on with what has not ended ok; it is to be started anew.

        The next tree is staged, and takes the place of the last in one script.

        Raises:
            HandoffNotFoundError: it does not exist or has expired.
            InvalidInputError: it has not ended, or nothing of it can go again.
        """
        keys = HandoffKeys.of(handoff_id)
        operation_id = new_operation_id()
        staged = [keys.staging_reopening(operation_id, what) for what in ("nodes", "queue")]
        with redis_errors(self._redis):
            while True:
                round_, settled_late, tree = self._plan_reopening(handoff_id, keys, node_id)
                self._stage_reopening(staged, tree)
                reach("retry.staged")
                counts = {state: tree.counts.get(state, 0) for state in NODE_STATES}
                request = {
                    "id": operation_id, "round": round_, "pending": tree.pending, "counts": counts,
                    "caps": caps_of(budget), "settled_late": settled_late,
                }  # fmt: skip
                # Listed first: one that goes on and is not listed, no sweep would look after.
                pipeline = self._redis.pipeline(transaction=False)
                pipeline.zadd(OPEN, {handoff_id: redis_seconds(self._redis)})
                pipeline.pexpire(OPEN, INDEX_RETENTION_MS)
                pipeline.execute()
                reach("retry.listed")
                state = _REOPEN(self._redis, [keys.base], [json.dumps(request), *staged])
                if state == b"reopened":
                    return

    def _plan_reopening(
        self, handoff_id: str, keys: HandoffKeys, node_id: str | None
    ) -> tuple[int, str, Reopening]:
        """The next round's number; how many calls were settled late before; and its tree."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hmget(keys.base, ["state", "round", "first_level", "settled_late"])
        pipeline.hgetall(keys.nodes)
        (state, round_, first_level, settled_late), stored = pipeline.execute()
        if state is None:
            raise unknown_handoff(handoff_id)
        if state.decode() not in TERMINAL_HANDOFF_STATES:
            raise InvalidInputError("handoff_id", "one that has ended", f"<{state.decode()}>")
        next_round = int(round_ or 0) + 1
        known = {each.decode(): json.loads(node) for each, node in stored.items()}
        chained = [each for each, node in known.items() if node.get("chains")]
        pipeline = self._redis.pipeline(transaction=False)
        for parent_id in chained:
            pipeline.hgetall(keys.plan_below(parent_id))
        plans = pipeline.execute() if chained else []
        before = {
            name.decode().removesuffix(":after"): value.decode()
            for plan in plans
            for name, value in plan.items()
            if name.endswith(b":after")
        }
        tree = plan_reopening(int(first_level), known, before, next_round, node_id)
        return next_round, (settled_late or b"0").decode(), tree

    def _stage_reopening(self, staged: Sequence[str], tree: Reopening) -> None:
        nodes_key, queue_key = staged
        entries = list(tree.nodes.items())
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.delete(*staged)
        for first in range(0, len(entries), SLICE):
            pipeline.hset(nodes_key, mapping=dict(entries[first : first + SLICE]))
        queue = list(queue_of(tree.waiting))
        for first in range(0, len(queue), SLICE):
            pipeline.rpush(queue_key, *queue[first : first + SLICE])
        for key in staged:
            pipeline.pexpire(key, STAGING_MS)
        pipeline.execute()
