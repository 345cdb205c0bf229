"""A worker's part in the tree: it claims nodes, keeps their leases, and commits their ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from redis.exceptions import NoScriptError

from baton.content.blob import pack_blob
from baton.content.text import encode_text
from baton.errors import FencedError, SpawnLimitError
from baton.handoff.claims import Claim, Ending, Refusal, Suspension, decode_moves
from baton.handoff.keys import HandoffKeys
from baton.handoff.spawning import plan_spawning
from baton.handoff.staging import STAGING_MS, stage_hash
from baton.ids import new_operation_id
from baton.redis_client import redis_errors
from baton.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.agents.runner import ChildTask
    from baton.binary_redis import BinaryRedis
    from baton.handoff.claims import Move, Renewal, Verdict

_CLAIM: Final = Script("baton.handoff", "claim")
_RENEW: Final = Script("baton.handoff", "renew")
_FINISH: Final = Script("baton.handoff", "finish")
_SUSPEND: Final = Script("baton.handoff", "suspend")
_HAND_BACK: Final = Script("baton.handoff", "hand_back")
_PROGRESS: Final = Script("baton.handoff", "progress")

INLINE_BYTES: Final = 32 * 1024


class NodeWork:
    """What moves single nodes along. See `HandoffTree`."""

    _redis: BinaryRedis

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
            return Refusal(answer[1].decode(), decode_moves(answer[2]))
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
                    return state.decode(), decode_moves(moves)
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
                stage_hash(pipeline, plan_key, spawning.plan)
                pipeline.set(draft_key, blob, px=STAGING_MS)
                kind, *rest = _SUSPEND.after(pipeline, self._redis, [keys.base], args)
                if kind in (b"suspended", b"cancelled"):
                    return Suspension(kind.decode(), decode_moves(rest[0]))
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
        return decode_moves(moves)

    def progress(self, claim: Claim, text: str) -> None:
        """Append a line to the events, if the claim still holds."""
        with redis_errors(self._redis):
            _PROGRESS(
                self._redis,
                [HandoffKeys.of(claim.handoff_id).base],
                [claim.node_id, claim.fence, text],
            )


def _is_stopped(node_id: str, cancelled_at: bytes | None, cuts: bytes | None) -> bool:
    if cancelled_at is not None:
        return True
    below = f"{node_id}."
    return cuts is not None and any(below.startswith(f"{cut}.") for cut in cuts.decode().split(","))


def _fenced(claim: Claim, state: str) -> FencedError:
    return FencedError(
        f"handoff {claim.handoff_id} node {claim.node_id}: claim {claim.fence} is no longer valid "
        f"(the node is {state}); this result is refused"
    )
