"""Finds open handoffs that nothing moves any more, and has the sweep care for them again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from baton.errors import PermanentError
from baton.handoff.keys import INDEX, INDEX_RETENTION_MS, OPEN, HandoffKeys
from baton.handoff.sweeping import UNOPENED_SECONDS, TreeSweep
from baton.redis_client import redis_errors, redis_now_ms, require_binary
from baton.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import redis

    from baton.handoff.dispatcher import Dispatcher
    from baton.handoff.tree import HandoffTree

# A dozen periods of the sweep: what it does is not taken for its work left undone.
NEGLECTED_SECONDS: Final = 120.0
SLICE: Final = 200

T = TypeVar("T")

_REVIVE: Final = Script("baton.handoff", "revive")


@dataclass(frozen=True, slots=True)
class Neglected:
    """An open handoff that the sweep should have seen to, and has not.

    Attributes:
        why: `ended`: it has ended, or is gone, and is on the sweep's list. `overdue`: something has
            been due for two minutes. `lost`: it waits for what nobody will see to. `unlisted`: it
            goes on, and no sweep knows of it.
        members: of a lost one: nodes, `start` or `join`.
    """

    handoff_id: str
    why: Literal["ended", "overdue", "lost", "unlisted"]
    members: tuple[str, ...] = ()


class NeglectedHandoffs:
    """Looks after open handoffs. Every method raises StoreUnavailableError where Redis is away.

    Args:
        redis_client: a binary client.
        tree: of all handoffs.
        dispatcher: takes the messages of what is moved along.
    """

    def __init__(
        self, redis_client: redis.Redis, tree: HandoffTree, dispatcher: Dispatcher
    ) -> None:
        self._redis = require_binary(redis_client)
        self._tree = tree
        self._dispatcher = dispatcher

    def find(self) -> Iterator[Neglected]:
        """All of them."""
        with redis_errors(self._redis):
            now_ms = redis_now_ms(self._redis)
        for handoff_id, age_seconds in self._tree.open_ages():
            try:
                found = self._look_at(handoff_id, age_seconds, now_ms)
            except PermanentError:
                continue  # what no sweep can read, the sweep logs
            if found is not None:
                yield found
        for handoff_id in self._unlisted():
            yield Neglected(handoff_id, "unlisted")

    def mend(self, found: Neglected) -> bool:
        """Do what the sweep should have done; whether there still was something to do.

        Raises:
            BrokerUnavailableError: nothing was done.
        """
        if found.why == "ended":
            return self._close(found.handoff_id)
        if found.why == "unlisted":
            return self._list(found.handoff_id)
        with redis_errors(self._redis):
            base = HandoffKeys.of(found.handoff_id).base
            revived = sum(_REVIVE(self._redis, [base], part) for part in _slices(found.members))
        backlog = self._dispatcher.backlog() > 0
        sweeping = TreeSweep(self._tree, self._dispatcher)
        _, published = sweeping.sweep_one(found.handoff_id, backlog=backlog)
        return bool(revived or published or found.why == "overdue")

    def _close(self, handoff_id: str) -> bool:
        """Looked at again, for it may have been reopened meanwhile: that enters it anew."""
        ages = dict(self._tree.open_ages())
        with redis_errors(self._redis):
            state = self._redis.hget(HandoffKeys.of(handoff_id).base, "state")
        is_old = ages.get(handoff_id, 0.0) > NEGLECTED_SECONDS
        if not is_old or state in (b"running", b"joining"):
            return False
        self._tree.close(handoff_id)
        return True

    def _list(self, handoff_id: str) -> bool:
        """Have the sweep look after it; one that has ended meanwhile, it takes off again."""
        with redis_errors(self._redis):
            seconds, _ = self._redis.time()
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.zadd(OPEN, {handoff_id: seconds}, nx=True)
            pipeline.pexpire(OPEN, INDEX_RETENTION_MS)
            entered, _ = pipeline.execute()
        return bool(entered)

    def _unlisted(self) -> Iterator[str]:
        """Handoffs that go on and are not on the sweep's list.

        Looked for there before and after their states: each is entered before it begins, and ends
        before it is taken off.
        """
        with redis_errors(self._redis):
            entries = self._redis.zscan_iter(INDEX, count=SLICE)
            for part in _slices(entries):
                named = self._not_listed([name.decode() for name, _ in part])
                going_on = self._going_on(named)
                yield from self._not_listed(going_on)

    def _not_listed(self, handoff_ids: list[str]) -> list[str]:
        scores = self._redis.zmscore(OPEN, handoff_ids) if handoff_ids else []
        return [each for each, at in zip(handoff_ids, scores, strict=True) if at is None]

    def _going_on(self, handoff_ids: list[str]) -> list[str]:
        pipeline = self._redis.pipeline(transaction=False)
        for handoff_id in handoff_ids:
            pipeline.hget(HandoffKeys.of(handoff_id).base, "state")
        states = pipeline.execute()
        return [
            each
            for each, state in zip(handoff_ids, states, strict=True)
            if state in (b"running", b"joining")
        ]

    def _look_at(self, handoff_id: str, age_seconds: float, now_ms: int) -> Neglected | None:
        keys = HandoffKeys.of(handoff_id)
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hmget(keys.base, ["state", "ended_at", "queued"])
        pipeline.zrange(keys.due, 0, 0, withscores=True)
        pipeline.zscore(keys.due, "join")
        pipeline.zscore(keys.due, "start")
        pipeline.zscore(OPEN, handoff_id)
        with redis_errors(self._redis):
            (state, ended_at, queued), first, join, start, is_open = pipeline.execute()
        if is_open is None:
            return None  # the sweep has just seen to it
        if state is None:
            late = age_seconds > UNOPENED_SECONDS + NEGLECTED_SECONDS
            return Neglected(handoff_id, "ended") if late else None
        if state not in (b"running", b"joining"):
            # One that is being reopened is entered anew, and then no longer ended.
            ended_seconds = (now_ms - int(ended_at or 0)) / 1000
            late = min(age_seconds, ended_seconds) > NEGLECTED_SECONDS
            return Neglected(handoff_id, "ended") if late else None
        lost = self._lost(keys, state, int(queued or 0), join, start, nothing_due=not first)
        if lost:
            return Neglected(handoff_id, "lost", tuple(lost))
        if first and (now_ms - first[0][1]) / 1000 > NEGLECTED_SECONDS:
            return Neglected(handoff_id, "overdue")
        return None

    def _lost(
        self,
        keys: HandoffKeys,
        state: bytes,
        queued: int,
        join: float | None,
        start: float | None,
        *,
        nothing_due: bool,
    ) -> list[str]:
        """What the handoff waits for that is in no list of what is due."""
        if state == b"joining":
            return ["join"] if join is None else []
        # While a node is queued, one that waits may be it; a window that is full has others due.
        lost = ["start"] if queued > 0 and nothing_due and start is None else []
        return lost + list(self._lost_nodes(keys, waiting_too=queued == 0))

    def _lost_nodes(self, keys: HandoffKeys, *, waiting_too: bool) -> Iterator[str]:
        states = {"leased", "waiting"} if waiting_too else {"leased"}
        with redis_errors(self._redis):
            entries = self._redis.hscan_iter(keys.nodes, count=SLICE)
            for part in _slices(entries):
                yield from self._not_due(keys, [
                    name.decode() for name, node in part if _state(node) in states
                ])  # fmt: skip

    def _not_due(self, keys: HandoffKeys, node_ids: list[str]) -> Iterator[str]:
        """Those that are not due, looked at after their states: one that has gone on is due."""
        if not node_ids:
            return
        scores = self._redis.zmscore(keys.due, node_ids)
        missing = [node_id for node_id, at in zip(node_ids, scores, strict=True) if at is None]
        if not missing:
            return
        # One that ended between the two looks is not due either.
        again = self._redis.hmget(keys.nodes, missing)
        for node_id, node in zip(missing, again, strict=True):
            if node is not None and _state(node) in ("leased", "waiting"):
                yield node_id


def _state(node: bytes) -> str:
    found: dict[str, Any] = json.loads(node)
    return str(found["state"])


def _slices(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while part := list(islice(rest, SLICE)):
        yield part
