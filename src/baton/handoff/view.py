"""Reading handoffs: outcome, nodes, events. Needs read rights only."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from baton.agents.budget import to_usd
from baton.clock import utc_from_ms
from baton.errors import HandoffNotFoundError
from baton.handoff.keys import INDEX, HandoffKeys
from baton.handoff.outcome import (
    NODE_STATES,
    TERMINAL_HANDOFF_STATES,
    Census,
    NodeRecord,
    Outcome,
    unknown_handoff,
)
from baton.handoff.packages import HandoffPackages
from baton.redis_client import read_at_once, redis_errors, require_binary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    import redis

EVENTS_AT_ONCE: Final = 1_000
NODES_AT_ONCE: Final = 500
BLOCK_MS: Final = 1_000
_NODE_FIELDS: Final = (
    "attempt",
    "worker",
    "error_type",
    "error",
    "size_bytes",
    "round",
)


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a handoff's stream.

    `type` is `handoff` (its state changed), `node` (a node's state changed), `progress` (a runner
    said something), `cost` (a paid call was settled: `tokens`, `cost_usd`) or `acknowledgement`
    (its package was `accepted` or `refused`; `text` says by whom). `id` orders the events and is
    where a reader can go on.
    """

    id: str
    at: datetime
    type: str
    node_id: str
    state: str
    text: str
    error: str
    tokens: int = 0
    cost_usd: float = 0.0


class HandoffView:
    """What can be seen of handoffs. Every method raises StoreUnavailableError without Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._redis = require_binary(redis_client)
        self.packages = HandoffPackages(redis_client)

    def outcome(self, handoff_id: str) -> Outcome:
        """The handoff's state now.

        Raises:
            HandoffNotFoundError: it does not exist or has expired.
        """
        keys = HandoffKeys.of(handoff_id)
        with redis_errors(self._redis):
            header = _decoded(self._redis.hgetall(keys.base))
        if "state" not in header:
            raise unknown_handoff(handoff_id)
        return Outcome(
            handoff_id=handoff_id,
            state=header["state"],
            session_id=header["session"],
            base_version=header["version"],
            agent_id=header["agent"],
            merge=header["merge"],
            policy=header["policy"],
            first_level=int(header["first_level"]),
            version=header.get("merged_version"),
            census=Census(
                int(header["total"]),
                {state: int(header.get(f"n:{state}", 0)) for state in NODE_STATES},
            ),
            created_at=utc_from_ms(int(header["created_at"])),
            ended_at=_instant(header.get("ended_at")),
            error_type=header.get("error_type", ""),
            error=header.get("error", ""),
            round=int(header.get("round", 0)),
            refused_children=int(header.get("refused_children", 0)),
        )

    def nodes(self, handoff_id: str) -> list[NodeRecord]:
        """All nodes, in slot order: a node's children follow it.

        Raises:
            HandoffNotFoundError: it does not exist or has expired.
        """
        keys = HandoffKeys.of(handoff_id)
        with redis_errors(self._redis):
            answers = read_at_once(
                self._redis,
                lambda pipeline: pipeline.hgetall(keys.plan),
                lambda pipeline: pipeline.hgetall(keys.nodes),
            )
            plan, nodes = map(_decoded, answers)
            if not plan:
                raise unknown_handoff(handoff_id)
            parents = {each: count for each, node in nodes.items() if (count := _children(node))}
            below = self._plans_below(keys, list(parents))
        for parent_id, planned in below.items():
            # Of children that a later spawn added since the nodes were read, nothing is told yet.
            ids = (f"{parent_id}.{slot}" for slot in range(parents[parent_id]))
            if not planned:
                raise HandoffNotFoundError(f"handoff {handoff_id} has expired")
            plan.update((each, planned[each]) for each in ids)
        return [_node(each, plan[each], nodes.get(each)) for each in sorted(plan, key=_slot_order)]

    def _plans_below(self, keys: HandoffKeys, parents: Sequence[str]) -> dict[str, dict[str, str]]:
        """The plans of each node's children, by parent."""
        plans: dict[str, dict[str, str]] = {}
        for first in range(0, len(parents), NODES_AT_ONCE):
            batch = parents[first : first + NODES_AT_ONCE]
            pipeline = self._redis.pipeline(transaction=False)
            for parent_id in batch:
                pipeline.hgetall(keys.plan_below(parent_id))
            plans.update(zip(batch, map(_decoded, pipeline.execute()), strict=True))
        return plans

    def siblings(self, handoff_id: str, parent_id: str | None, count: int) -> list[NodeRecord]:
        """The first `count` children of a node, or of the handoff itself, in slot order.

        A tree may hold thousands of nodes; whoever joins a few of them reads those only.

        Raises:
            HandoffNotFoundError: it does not exist, has expired, or has fewer.
        """
        keys = HandoffKeys.of(handoff_id)
        prefix = "" if parent_id is None else f"{parent_id}."
        plan_key = keys.plan if parent_id is None else keys.plan_below(parent_id)
        found: list[NodeRecord] = []
        for first in range(0, count, NODES_AT_ONCE):
            ids = [f"{prefix}{slot}" for slot in range(first, min(first + NODES_AT_ONCE, count))]
            with redis_errors(self._redis):
                plan = self._redis.hmget(plan_key, ids)
                nodes = self._redis.hmget(keys.nodes, ids)
            for node_id, planned, stored in zip(ids, plan, nodes, strict=True):
                if planned is None:
                    raise HandoffNotFoundError(f"handoff {handoff_id} has no node {node_id}")
                found.append(_node(node_id, planned, stored))
        return found

    def newest(self, limit: int = 20) -> list[Outcome]:
        """The newest `limit` (1 or more) handoffs, newest first."""
        with redis_errors(self._redis):
            members = self._redis.zrevrange(INDEX, 0, max(limit, 1) - 1, withscores=True)
        found = []
        for member, _ in members:
            try:
                found.append(self.outcome(member.decode()))
            except HandoffNotFoundError:
                continue  # recorded but never opened, or expired
        return found

    def events(self, handoff_id: str, after: str = "0-0") -> list[Event]:
        """Events after `after`, oldest first, at most 1,000; the stream keeps the newest 20,000."""
        with redis_errors(self._redis):
            entries = self._redis.xrange(
                HandoffKeys.of(handoff_id).events, f"({after}", "+", count=EVENTS_AT_ONCE
            )
        return [_event(entry_id, fields) for entry_id, fields in entries]

    def watch(
        self, handoff_id: str, after: str = "0-0", *, timeout_seconds: float | None = None
    ) -> Iterator[Event]:
        """Events from `after` on as they happen, until the handoff has ended.

        Args:
            handoff_id: the handoff; it must exist.
            after: where to begin; the default replays everything that is still kept.
            timeout_seconds: give up waiting after this long; None waits for ever.

        Raises:
            HandoffNotFoundError: it does not exist or has expired.
            TimeoutError: it had not ended in time.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        ended = self.outcome(handoff_id).ended
        while True:
            events = self.events(handoff_id, after)
            yield from events
            if events:
                after = events[-1].id
                ended = _ended_after(events, ended=ended)
            elif ended:
                return
            else:
                ended = self._wait(handoff_id, after, deadline)
            if not ended and deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"handoff {handoff_id} had not ended in {timeout_seconds} s")

    def _wait(self, handoff_id: str, after: str, deadline: float | None) -> bool:
        """Wait a little for an event; True if the handoff ended without one we could see."""
        left_ms = BLOCK_MS if deadline is None else (deadline - time.monotonic()) * 1000
        with redis_errors(self._redis):
            found = self._redis.xread(
                {HandoffKeys.of(handoff_id).events: after},
                count=1,
                block=max(1, min(BLOCK_MS, round(left_ms))),  # 0 would be for ever
            )
        return not found and self.outcome(handoff_id).ended


def _ended_after(events: Sequence[Event], *, ended: bool) -> bool:
    """Whether it has ended; a handoff that is retried begins again behind its end."""
    for event in events:
        if event.type == "handoff":
            ended = event.state in TERMINAL_HANDOFF_STATES
    return ended


def _children(stored: str) -> int:
    """How many a node has spawned; most have none, and are not decoded."""
    if '"children":0' in stored:
        return 0
    count: int = json.loads(stored)["children"]
    return count


def _slot_order(node_id: str) -> list[int]:
    return [int(part) for part in node_id.split(".")]


def _decoded(answer: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in answer.items()}


def _instant(milliseconds: str | float | None) -> datetime | None:
    return None if milliseconds is None else utc_from_ms(float(milliseconds))


def _node(node_id: str, plan: str | bytes, stored: str | bytes | None) -> NodeRecord:
    planned = json.loads(plan)
    node: dict[str, Any] = {} if stored is None else json.loads(stored)
    started, ended = node.get("started_at"), node.get("ended_at")
    return NodeRecord(
        node_id=node_id,
        instruction=planned["instruction"],
        runner=planned["runner"],
        state=node.get("state", "waiting"),
        started_at=_instant(started),
        ended_at=_instant(ended),
        duration_seconds=None if started is None or ended is None else (ended - started) / 1000,
        usage={kind: int(count) for kind, count in node.get("usage", {}).items()},
        cost_usd=float(to_usd(int(node.get("cost_nano", 0)))),
        details=json.loads(node.get("details", "{}")),
        earlier_details=tuple(json.loads(each) for each in node.get("earlier", ())),
        child_count=node.get("children", 0),
        **{name: node[name] for name in _NODE_FIELDS if name in node},
    )


def _event(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Event:
    said = json.loads(fields[b"event"])
    return Event(
        id=entry_id.decode(),
        at=utc_from_ms(int(entry_id.partition(b"-")[0])),
        type=said["type"],
        node_id=said.get("node", ""),
        state=said.get("state", ""),
        text=said.get("text", ""),
        error=said.get("error", ""),
        tokens=int(said.get("tokens", 0)),
        cost_usd=float(to_usd(int(said.get("nano", 0)))),
    )
