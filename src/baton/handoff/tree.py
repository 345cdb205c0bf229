"""The tree of a handoff in Redis: every transition is one script, so the census always adds up."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

from redis.exceptions import NoScriptError

from baton.agents.budget import to_nano
from baton.content.blob import pack_blob, unpack_blob
from baton.content.text import decode_text, encode_text
from baton.errors import (
    ContextCorruptError,
    FencedError,
    HandoffBacklogError,
    HandoffNotFoundError,
    InvalidInputError,
    SpawnLimitError,
)
from baton.failpoints import reach
from baton.handoff.keys import INDEX, OPEN, HandoffKeys
from baton.handoff.outcome import NODE_STATES, TERMINAL_HANDOFF_STATES
from baton.handoff.reopening import plan_reopening, queue_of
from baton.handoff.spawning import encode_plan, plan_spawning
from baton.ids import new_operation_id
from baton.redis_client import redis_errors, require_binary
from baton.scripts import Script
from baton.settings import DAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import redis

    from baton.agents.budget import Budget
    from baton.agents.runner import ChildTask
    from baton.binary_redis import BinaryPipeline, BinaryRedis
    from baton.handoff.package import HandoffRequest
    from baton.handoff.reopening import Reopening

_OPEN: Final = Script("baton.handoff", "open")
_START: Final = Script("baton.handoff", "start")
_CLAIM: Final = Script("baton.handoff", "claim")
_RENEW: Final = Script("baton.handoff", "renew")
_FINISH: Final = Script("baton.handoff", "finish")
_SUSPEND: Final = Script("baton.handoff", "suspend")
_CLAIM_JOIN: Final = Script("baton.handoff", "claim_join")
_FINISH_JOIN: Final = Script("baton.handoff", "finish_join")
_REOPEN: Final = Script("baton.handoff", "reopen")
_HAND_BACK: Final = Script("baton.handoff", "hand_back")
_CANCEL: Final = Script("baton.handoff", "cancel")
_SWEEP: Final = Script("baton.handoff", "sweep")
_PROGRESS: Final = Script("baton.handoff", "progress")

SLICE: Final = 500
CANCEL_SLICE: Final = 32
INLINE_BYTES: Final = 32 * 1024
PERMIT_POLL_SECONDS: Final = 0.05
SEND_WITHIN_SECONDS: Final = 5.0
RESULTS_AT_ONCE: Final = 32
# The indexes are shared by all handoffs, so no single one's retention may shorten their lives.
INDEX_RETENTION_MS: Final = 366 * DAY_SECONDS * 1000
MAX_LISTED: Final = 100_000
STAGING_MS: Final = 60_000
BLOB_LIMIT_BYTES: Final = 1 << 30

Renewal = Literal["held", "cancelled", "lost"]
Verdict = Literal["ok", "failed", "over_budget", "retry"]


@dataclass(frozen=True, slots=True)
class Move:
    """What follows: `run` a node, or the `next` of a chain; `join`, `start` or `cancel` it all."""

    kind: Literal["run", "next", "join", "start", "cancel"]
    node_id: str = ""


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


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to run a node until its lease ends; `fence` proves it.

    `step` is 0 for the first run and counts continuations; `then` is the continuation's
    instruction, empty where the node's draft and its children's results simply become its result.
    `by_deadline`: its timeout is what was left until the handoff's deadline. `after` is the node
    before it in its chain, or empty.
    """

    handoff_id: str
    node_id: str
    fence: int
    attempt: int
    step: int
    child_count: int
    instruction: str
    runner: str
    then: str
    session_id: str
    context_version: str
    agent_id: str
    max_depth: int
    max_children: int
    nodes_left: int
    timeout_seconds: float
    lease_seconds: float
    by_deadline: bool = False
    after: str = ""

    @property
    def depth(self) -> int:
        """1 on the first level."""
        return self.node_id.count(".") + 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node could not be claimed: its state, or the handoff's; and what follows."""

    state: str
    moves: tuple[Move, ...] = ()


@dataclass(frozen=True, slots=True)
class Suspension:
    """A node's state after it asked for children: `suspended`, or `cancelled`; what follows."""

    state: str
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class Ending:
    """What a worker reports about a node besides its content. No content, no secrets.

    `usage` and `cost_usd` are what no permit was settled for. `details` is JSON text, which the
    scripts do not look into. `refused_children` are those that it asked for beyond the limits.
    """

    error_type: str = ""
    error: str = ""
    usage: dict[str, int] | None = None
    cost_usd: float = 0.0
    details: str = ""
    size_bytes: int = 0
    retry_after_seconds: float = 0.0
    refused_children: int = 0

    @property
    def cost_nano(self) -> int:
        """`cost_usd` as the scripts count it."""
        return to_nano(Decimal(str(self.cost_usd)))

    def spent(self) -> dict[str, object]:
        """What of a run counts that goes on with children."""
        return {
            "usage": self.usage or {},
            "cost_nano": self.cost_nano,
            "details": self.details,
            "refused_children": self.refused_children,
        }

    def encode(self) -> str:
        """JSON for the script; absent where there is nothing to say."""
        fields = {
            "error_type": self.error_type,
            "error": self.error,
            "usage": self.usage,
            "cost_nano": self.cost_nano,
            "details": self.details,
            "size_bytes": self.size_bytes,
            "refused_children": self.refused_children,
        }
        said = {name: value for name, value in fields.items() if value}
        return json.dumps({**said, "retry_after_ms": round(self.retry_after_seconds * 1000)})


class HandoffTree:
    """The states of handoffs and nodes, changed by scripts only. Safe for threads.

    Every change is idempotent: asked twice because an answer was lost, it answers the same. (A
    line of progress may show twice; what a lost sweep would have published, a later one does.)
    Every method raises StoreUnavailableError where Redis does not answer.
    """

    def __init__(self, redis_client: redis.Redis) -> None:
        self._redis = require_binary(redis_client)

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
            now_seconds = _seconds(self._redis)
            for index in (INDEX, OPEN):
                pipeline.zadd(index, {handoff_id: now_seconds})
                pipeline.pexpire(index, INDEX_RETENTION_MS)
            pipeline.zremrangebyrank(INDEX, 0, -MAX_LISTED - 1)
            pipeline.execute()
            reach("submit.listed")
            header, caps = json.dumps(_header(request)), json.dumps(_caps(request.budget))
            opened = _OPEN(self._redis, [keys.base], [header, len(request.tasks), staged, caps])
        if opened < 0:
            raise _another_request()

    def require_room(self, max_open: int) -> None:
        """Do nothing while fewer handoffs than that are open.

        Raises:
            HandoffBacklogError: they are not; racing submissions may pass the bound by as many.
        """
        with redis_errors(self._redis):
            count = self._redis.zcard(OPEN)
        if count >= max_open:
            raise HandoffBacklogError(
                f"{count} handoffs are open, and {max_open} may be; "
                "submit again when some have ended"
            )

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
        return _moves(moves), int(first_level)

    def claim(
        self, handoff_id: str, node_id: str, worker: str, *, apart: bool = False
    ) -> Claim | Refusal:
        """Take a waiting node, with a lease and a new fencing token.

        One whose worker was lost more than once may be what kills them: it is refused as `apart`,
        but to a process of its own, which says so by `apart`.
        """
        keys = HandoffKeys.of(handoff_id)
        with redis_errors(self._redis):
            answer = _CLAIM(
                self._redis,
                [keys.base],
                [node_id, worker, new_operation_id(), "1" if apart else "0"],
            )
        if answer[0] == b"refused":
            return Refusal(answer[1].decode(), _moves(answer[2]))
        plan = json.loads(answer[5])
        return Claim(
            handoff_id=handoff_id,
            node_id=node_id,
            fence=answer[1],
            attempt=answer[2],
            step=answer[3],
            child_count=answer[4],
            instruction=plan["instruction"],
            runner=plan["runner"],
            then=answer[6].decode(),
            session_id=answer[7].decode(),
            context_version=answer[8].decode(),
            agent_id=answer[9].decode(),
            max_depth=answer[10],
            max_children=answer[11],
            nodes_left=answer[12],
            timeout_seconds=answer[13] / 1000,
            lease_seconds=answer[14] / 1000,
            by_deadline=answer[15] == b"1",
            after=answer[16].decode(),
        )

    def renew(self, leases: Sequence[tuple[str, str, int]]) -> list[Renewal]:
        """Renew leases, each (handoff, node or `join`, fence), in one round trip."""
        with redis_errors(self._redis):
            pipeline = self._redis.pipeline(transaction=False)
            for handoff_id, node_id, fence in leases:
                _RENEW.queue(pipeline, [HandoffKeys.of(handoff_id).base], [node_id, fence])
            answers = pipeline.execute(raise_on_error=False)
            for position, (handoff_id, node_id, fence) in enumerate(leases):
                if isinstance(answers[position], NoScriptError):
                    answers[position] = _RENEW(
                        self._redis, [HandoffKeys.of(handoff_id).base], [node_id, fence]
                    )
                elif isinstance(answers[position], Exception):
                    raise answers[position]
        return [answer.decode() for answer in answers]

    def find_stopped(self, nodes: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Which of these nodes, each (handoff, node), have been cancelled, in one round trip."""
        if not nodes:
            return set()
        handoff_ids = sorted({handoff_id for handoff_id, _ in nodes})
        pipeline = self._redis.pipeline(transaction=False)
        for handoff_id in handoff_ids:
            pipeline.hmget(HandoffKeys.of(handoff_id).base, ["cancelled_at", "cuts"])
        with redis_errors(self._redis):
            answers = dict(zip(handoff_ids, pipeline.execute(), strict=True))
        return {(handoff, node) for handoff, node in nodes if _is_stopped(node, *answers[handoff])}

    def finish(
        self, claim: Claim, verdict: Verdict, ending: Ending, content: str | None = None
    ) -> tuple[str, tuple[Move, ...]]:
        """Commit a node's end: the state it got, and what is to be published.

        Raises:
            FencedError: the claim has passed to another worker; nothing was written.
        """
        keys = HandoffKeys.of(claim.handoff_id)
        blob = b"" if content is None else pack_blob(encode_text(content))
        # A script's arguments are copied once more within the server.
        small = len(blob) <= INLINE_BYTES
        staged = "" if small else keys.staging(claim.node_id, claim.fence, "result")
        args: list[str | bytes | float] = [
            claim.node_id, claim.fence, verdict, ending.encode(), staged, blob if small else b"",
        ]  # fmt: skip
        with redis_errors(self._redis):
            while True:
                if small:
                    kind, state, moves = _FINISH(self._redis, [keys.base], args)
                else:
                    pipeline = self._redis.pipeline(transaction=False)
                    pipeline.set(staged, blob, px=STAGING_MS)
                    kind, state, moves = _FINISH.after(pipeline, self._redis, [keys.base], args)
                if kind == b"done":
                    return state.decode(), _moves(moves)
                if kind == b"fenced":
                    raise _fenced(claim, state.decode())

    def suspend(
        self,
        claim: Claim,
        chains: Sequence[Sequence[ChildTask]],
        then: str,
        draft: str,
        spent: Ending | None = None,
    ) -> Suspension:
        """Write the children's plan and the node's suspension at once.

        Args:
            claim: on the node.
            chains: its children in slot order; those of one chain run one after the other.
            then: the continuation's instruction; empty: none.
            draft: what it returned before it waits.
            spent: of which usage, cost and details count; the rest is said of ends only.

        Raises:
            FencedError: the claim has passed to another worker.
            SpawnLimitError: the handoff would get too many nodes; nothing was written.
        """
        keys = HandoffKeys.of(claim.handoff_id)
        plan_key = keys.staging(claim.node_id, claim.fence, "plan")
        draft_key = keys.staging(claim.node_id, claim.fence, "draft")
        spawning = plan_spawning(claim.node_id, claim.child_count, claim.runner, chains, then)
        blob = pack_blob(encode_text(draft))
        args: list[str | bytes | float] = [
            claim.node_id, claim.fence, spawning.count, plan_key, draft_key,
            spawning.request((spent or Ending()).spent()),
        ]  # fmt: skip
        with redis_errors(self._redis):
            while True:
                pipeline = self._redis.pipeline(transaction=False)
                _stage_plan(pipeline, plan_key, spawning.plan)
                pipeline.set(draft_key, blob, px=STAGING_MS)
                kind, *rest = _SUSPEND.after(pipeline, self._redis, [keys.base], args)
                if kind in (b"suspended", b"cancelled"):
                    return Suspension(kind.decode(), _moves(rest[0]))
                if kind == b"limit":
                    raise SpawnLimitError(
                        f"node {claim.node_id} may not spawn {spawning.count} children: "
                        f"{rest[0].decode()} is {rest[1]}"
                    )
                if kind != b"missing":
                    raise _fenced(claim, rest[0].decode())

    def hand_back(self, handoff_id: str, node_id: str, fence: int) -> tuple[Move, ...]:
        """Take a node back from a worker that has to stop: it waits again; what follows."""
        with redis_errors(self._redis):
            moves = _HAND_BACK(self._redis, [HandoffKeys.of(handoff_id).base], [node_id, fence])
        return _moves(moves)

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

    def cancel(self, handoff_id: str, node_id: str | None = None) -> tuple[str, tuple[Move, ...]]:
        """Cancel: none of it is claimed from now on, waiting nodes have ended.

        No paid call is sent after the return: it waits until every permit that was given before
        is settled or over, at most `SEND_WITHIN_SECONDS`.

        Args:
            handoff_id: the handoff.
            node_id: only this node, and all below it; None: all of it.

        Returns:
            The handoff's state (`running` where leased nodes have yet to notice, or others go
            on), and what is to be published.

        Raises:
            HandoffNotFoundError: it does not exist or has expired.
            InvalidInputError: it has no such node.
        """
        keys = HandoffKeys.of(handoff_id)
        root = node_id or ""
        with redis_errors(self._redis):
            state, moves = self._cancel_waiting(keys, root)
            if state == b"gone":
                raise _unknown(handoff_id)
            if state == b"unknown":
                raise InvalidInputError("node_id", "a node of the handoff", root)
            reach("cancel.sliced")
            self._await_permits(keys)
        return state.decode(), moves

    def end_stopped(self, handoff_id: str) -> None:
        """End the waiting nodes of a handoff that stopped by itself: nobody asks for a receipt."""
        with redis_errors(self._redis):
            self._cancel_waiting(HandoffKeys.of(handoff_id), "")

    def _cancel_waiting(self, keys: HandoffKeys, root: str) -> tuple[bytes, tuple[Move, ...]]:
        """End the waiting nodes, a slice a call; the handoff's state then, and what follows."""
        moves: list[Move] = []
        state, cursor = b"running", b"queue"
        while state == b"running" and cursor != b"end":
            state, cursor, published = _CANCEL(
                self._redis, [keys.base], [CANCEL_SLICE, cursor, root]
            )
            reach("cancel.marked")
            moves.extend(_moves(published))
        return state, tuple(moves)

    def _await_permits(self, keys: HandoffKeys) -> None:
        """Until no worker may send a call by a permit that it was given so far."""
        last_send_at = self._redis.hget(keys.base, "last_send_at")
        if last_send_at is None:
            return
        left_seconds = int(last_send_at) / 1000 - _seconds(self._redis)
        # By our own clock from here on, and no longer than any permit: Redis' may be set back.
        give_up_at = time.monotonic() + min(left_seconds, SEND_WITHIN_SECONDS)
        while time.monotonic() < give_up_at and self._redis.hlen(keys.permits):
            time.sleep(PERMIT_POLL_SECONDS)

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
                    "caps": _caps(budget), "settled_late": settled_late,
                }  # fmt: skip
                # Listed first: one that goes on and is not listed, no sweep would look after.
                pipeline = self._redis.pipeline(transaction=False)
                pipeline.zadd(OPEN, {handoff_id: _seconds(self._redis)})
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
            raise _unknown(handoff_id)
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
        return state.decode(), _moves(moves), seen

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

    def progress(self, claim: Claim, text: str) -> None:
        """Append a line to the events, if the claim still holds."""
        with redis_errors(self._redis):
            _PROGRESS(
                self._redis,
                [HandoffKeys.of(claim.handoff_id).base],
                [claim.node_id, claim.fence, text],
            )

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

    def open_ages(self) -> Iterator[tuple[str, float]]:
        """Handoffs that may still have something due, and the seconds since they were recorded."""
        with redis_errors(self._redis):
            now_seconds = _seconds(self._redis)
            entries = self._redis.zrevrange(OPEN, 0, -1, withscores=True)
        for member, opened_at in entries:
            yield member.decode(), now_seconds - opened_at

    def lease_seconds(self, handoff_id: str) -> float:
        """How long a claim of this handoff lasts between renewals."""
        with redis_errors(self._redis):
            value = self._redis.hget(HandoffKeys.of(handoff_id).base, "lease_ms")
        if value is None:
            raise _unknown(handoff_id)
        return int(value) / 1000

    def retention_seconds(self, handoff_id: str) -> float:
        """How long what is known of this handoff is kept behind its last change."""
        with redis_errors(self._redis):
            value = self._redis.hget(HandoffKeys.of(handoff_id).base, "retention_ms")
        if value is None:
            raise _unknown(handoff_id)
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


def _stage_plan(pipeline: BinaryPipeline, key: str, plan: Mapping[str, str]) -> None:
    entries = list(plan.items())
    pipeline.delete(key)  # what a refused spawn of the same claim staged is not to be mixed in
    for first in range(0, len(entries), SLICE):
        pipeline.hset(key, mapping=dict(entries[first : first + SLICE]))
    pipeline.pexpire(key, STAGING_MS)


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


def _caps(budget: Budget | None) -> dict[str, int]:
    return {} if budget is None else budget.caps()


def _is_stopped(node_id: str, cancelled_at: bytes | None, cuts: bytes | None) -> bool:
    if cancelled_at is not None:
        return True
    below = f"{node_id}."
    return cuts is not None and any(below.startswith(f"{cut}.") for cut in cuts.decode().split(","))


def _moves(encoded: bytes) -> tuple[Move, ...]:
    return tuple(Move(*move) for move in json.loads(encoded))


def _unpack(blob: bytes, what: str) -> str:
    try:
        return decode_text(unpack_blob(blob, limit_bytes=BLOB_LIMIT_BYTES))
    except ContextCorruptError as error:
        raise ContextCorruptError(f"{what}: {error}") from error


def _seconds(client: BinaryRedis) -> float:
    seconds, microseconds = client.time()
    return seconds + microseconds / 1e6


def _fenced(claim: Claim, state: str) -> FencedError:
    return FencedError(
        f"handoff {claim.handoff_id} node {claim.node_id}: claim {claim.fence} is no longer valid "
        f"(the node is {state}); this result is refused"
    )


def _another_request() -> InvalidInputError:
    expected = "a key of its own for each request"
    return InvalidInputError("idempotency_key", expected, "<another request's>")


def _unknown(handoff_id: str) -> HandoffNotFoundError:
    return HandoffNotFoundError(f"handoff {handoff_id} does not exist or has expired")
