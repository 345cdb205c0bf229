"""How a handoff comes to be: its header and its first level are recorded, and it starts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.errors import InvalidInputError
from baton.failpoints import reach
from baton.handoff.claims import decode_moves
from baton.handoff.keys import INDEX, INDEX_RETENTION_MS, OPEN, HandoffKeys
from baton.handoff.spawning import encode_plan
from baton.handoff.staging import SLICE, STAGING_MS
from baton.ids import new_operation_id
from baton.redis_client import redis_errors, redis_seconds
from baton.scripts import Script

if TYPE_CHECKING:
    from baton.agents.budget import Budget
    from baton.binary_redis import BinaryRedis
    from baton.handoff.claims import Move
    from baton.handoff.request import HandoffRequest

_OPEN: Final = Script("baton.handoff", "open")
_START: Final = Script("baton.handoff", "start")

MAX_LISTED: Final = 100_000


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """What tells a handoff's request from others, and the version that its nodes read."""

    digest: str
    context_version: str

    def check_same(self, request: HandoffRequest) -> None:
        """Do nothing if that is it.

        Raises:
            InvalidInputError: it is another.
        """
        if request.digest != self.digest:
            raise _another_request()


class TreeOpening:
    """What records handoffs and starts them. See `HandoffTree`."""

    _redis: BinaryRedis

    def open(self, handoff_id: str, request: HandoffRequest, default_runner: str) -> None:
        """Record the handoff and its first level. It exists wholly, or not at all.

        The plan is staged first, in slices; nothing points to it until the last script, so a
        client that dies half-way leaves only a plan that expires.

        Raises:
            InvalidInputError: another request has been recorded under this id.
        """
        keys = HandoffKeys.of(handoff_id)
        staged = keys.staging_plan(new_operation_id())
        with redis_errors(self._redis):
            for first in range(0, len(request.tasks), SLICE):
                tasks = request.tasks[first : first + SLICE]
                plan = {
                    str(first + slot): encode_plan(task.instruction, task.runner or default_runner)
                    for slot, task in enumerate(tasks)
                }
                pipeline = self._redis.pipeline(transaction=True)
                pipeline.hset(staged, mapping=plan)
                pipeline.pexpire(staged, STAGING_MS)
                pipeline.execute()
            reach("submit.staged")
            pipeline = self._redis.pipeline(transaction=False)
            now_seconds = redis_seconds(self._redis)
            for index in (INDEX, OPEN):
                pipeline.zadd(index, {handoff_id: now_seconds})
                pipeline.pexpire(index, INDEX_RETENTION_MS)
            pipeline.zremrangebyrank(INDEX, 0, -MAX_LISTED - 1)
            pipeline.execute()
            reach("submit.listed")
            header, caps = json.dumps(_header(request)), json.dumps(caps_of(request.budget))
            opened = _OPEN(self._redis, [keys.base], [header, len(request.tasks), staged, caps])
        if opened < 0:
            raise _another_request()

    def find_request(self, handoff_id: str) -> RecordedRequest | None:
        """What was recorded under this id, or None if nothing was."""
        keys = HandoffKeys.of(handoff_id)
        with redis_errors(self._redis):
            digest, version = self._redis.hmget(keys.base, ["request", "version"])
        if digest is None or version is None:
            return None
        return RecordedRequest(digest.decode(), version.decode())

    def start(self, handoff_id: str) -> tuple[tuple[Move, ...], int]:
        """Put the first nodes under the sweep's care.

        Returns:
            Those to publish, none if it is over; and how many the first level has, 0 then.
        """
        with redis_errors(self._redis):
            _, moves, first_level = _START(self._redis, [HandoffKeys.of(handoff_id).base], [])
        return decode_moves(moves), int(first_level)


def _header(request: HandoffRequest) -> dict[str, str | int]:
    """The fixed fields of the base hash. Times in ms."""
    limits = request.limits
    lease_ms = round(limits.lease_seconds * 1000)
    return {
        "format": 1,
        "session": request.session_id,
        "version": request.context_version,
        "agent": request.agent_id,
        "merge": request.merge,
        "policy": request.policy,
        "request": request.digest,
        "first_level": len(request.tasks),
        "lease_ms": lease_ms,
        # How long a published message may go unanswered before the sweep publishes it again.
        "patience_ms": lease_ms,
        "timeout_ms": round(limits.node_timeout_seconds * 1000),
        "max_attempts": limits.max_attempts,
        "max_depth": limits.max_depth,
        "max_children": limits.max_children,
        "max_nodes": limits.max_nodes,
        "window": limits.window,
        "retention_ms": limits.retention_seconds * 1000,
        **_deadline(request.budget),
    }


def _deadline(budget: Budget | None) -> dict[str, int]:
    if budget is None or budget.deadline_seconds is None:
        return {}
    return {"deadline_ms": max(1, round(budget.deadline_seconds * 1000))}


def caps_of(budget: Budget | None) -> dict[str, int]:
    """The caps that a script is told; none without a budget."""
    return {} if budget is None else budget.caps()


def _another_request() -> InvalidInputError:
    expected = "a key of its own for each request"
    return InvalidInputError("idempotency_key", expected, "<another request's>")
