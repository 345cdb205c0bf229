"""The work of a soak, and what has to hold of it afterwards: Baton's, and stock Celery's."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from celery import chord
from kombu.exceptions import OperationalError

from baton.agents.runner import ChildTask
from baton.dispatch import client_dispatcher
from baton.errors import HandoffNotFoundError, TransientError
from baton.handoff.keys import HandoffKeys
from baton.handoff.request import Limits
from baton.handoff.submission import Handoffs
from baton.handoff.tree import HandoffTree
from baton.handoff.view import HandoffView
from baton.redis_client import connect
from baton.store.contexts import ContextStore
from bench import soak_ledger, soak_stock
from bench.soak_ledger import Ledger, Place

if TYPE_CHECKING:
    import random
    from pathlib import Path

    import redis
    from celery import Celery

    from config.settings import AppSettings

_AGENT: Final = "soak_1"
_CONTEXT: Final = "What the soak hands off.\n"
_AT_ONCE: Final = 10
_POISON_LEASE_SECONDS: Final = 5.0
_STOCK_SLOT_SECONDS: Final = 15.0
_ENDED: Final = frozenset({"ok", "failed", "cancelled", "lost", "skipped", "over_budget"})


@dataclass(slots=True)
class Verdict:
    """What became of a soak's work. `violations` are what must not be."""

    submitted: int = 0
    nodes: int = 0
    lost: int = 0
    twice: int = 0
    paid_again: int = 0
    stuck: int = 0
    miscounted: int = 0
    other: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)

    @property
    def violations(self) -> int:
        """0 is the only good number."""
        return (
            self.lost + self.twice + self.paid_again + self.stuck + self.miscounted
            + len(self.other)
        )  # fmt: skip


class Load(Protocol):
    """Submits work, bit by bit, and judges it."""

    def tick(self, *, submits: bool) -> None:
        """Submit what there is room for, and see what has ended. Bears with every outage."""

    @property
    def under_way(self) -> int:
        """What was submitted and has not ended."""

    def judge(self, ledger: Ledger, client: redis.Redis) -> Verdict:
        """What became of it. `client` reaches a Redis that lives."""

    def close(self) -> None:
        """Close the connections."""


class BatonLoad:
    """Handoffs of a dozen nodes in trees: some attempts fail, some handoffs are cancelled."""

    def __init__(
        self, url: str, settings: AppSettings, ledger: Path, chance: random.Random
    ) -> None:
        self._redis = connect(url, settings)
        self._dispatcher = client_dispatcher(url, settings)
        self._store = ContextStore(self._redis)
        limits = Limits(
            lease_seconds=settings.lease_seconds, node_timeout_seconds=60, max_attempts=60
        )
        self._handoffs = Handoffs(self._redis, self._store, self._dispatcher, limits=limits)
        self._ledger = str(ledger)
        self._chance = chance
        self._plans: dict[str, tuple[list[ChildTask], float]] = {}
        self._open: dict[str, str] = {}
        self._accepted: dict[str, str] = {}
        self._cancel_at: dict[str, float] = {}

    def tick(self, *, submits: bool) -> None:
        """See `Load`."""
        try:
            if submits and len(self._open) + len(self._plans) < _AT_ONCE:
                self._plan()
            for session in list(self._plans):
                self._submit(session)
            self._cancel_due()
            for session, handoff_id in list(self._open.items()):
                if self._handoffs.find(handoff_id).outcome().ended:
                    del self._open[session]
        except (TransientError, HandoffNotFoundError):
            pass  # the next tick tries again, under the same key

    @property
    def under_way(self) -> int:
        """See `Load`."""
        return len(self._open) + len(self._plans)

    def close(self) -> None:
        """See `Load`."""
        self._store.close()
        self._handoffs.close()
        self._redis.close()

    def judge(self, ledger: Ledger, client: redis.Redis) -> Verdict:
        """See `Load`."""
        verdict = Verdict(submitted=len(self._accepted), stuck=self.under_way)
        stored: dict[Place, int] = {}
        for session, handoff_id in self._accepted.items():
            try:
                self._judge_one(session, handoff_id, client, verdict, stored)
            except HandoffNotFoundError:
                verdict.lost += 1
        paid_again = soak_ledger.paid_again(ledger, stored)
        verdict.paid_again = len(paid_again)
        verdict.other += [f"no expiry: {key!r}" for key in client.scan_iter("handoff*", count=1000)
                          if client.pttl(key) == -1]  # fmt: skip
        for each in paid_again[:5]:
            print(f"  paid again: {each}")
        return verdict

    def poison(self) -> str:
        """Submit a task that kills whoever runs it; the handoff."""
        self._store.put("poison", _CONTEXT, agent_id=_AGENT)
        tasks = [ChildTask(json.dumps({"ledger": self._ledger}), "soak_poison")]
        limits = Limits(lease_seconds=_POISON_LEASE_SECONDS, max_attempts=5)
        handoff = self._handoffs.submit("poison", tasks, agent_id=_AGENT, limits=limits)
        return handoff.handoff_id

    def fate(self, handoff_id: str) -> str:
        """What became of its one node, and why."""
        node = self._handoffs.find(handoff_id).nodes()[0]
        return f"is {node.state} after {node.attempt} attempts: {node.error or 'no reason yet'}"

    def _plan(self) -> None:
        session = f"soak_{len(self._accepted) + len(self._plans)}"
        draws = [self._chance.random() for _ in range(12)]
        tasks = [self._task(draw) for draw in draws[: 4 + int(4 * draws[-1])]]
        cancel_after = 3 * draws[-2] if draws[-3] < 0.06 else -1.0
        self._plans[session] = (tasks, cancel_after)

    def _task(self, draw: float) -> ChildTask:
        order: dict[str, Any] = {"ledger": self._ledger, "seconds": 0.05 + 1.5 * draw**3}
        if draw < 0.06:
            return ChildTask(json.dumps(order | {"fails": 1}), "soak_work")
        if draw < 0.3:
            shape = {"levels": 1 + (draw < 0.12), "children": 2 + int(draw * 10) % 3}
            return ChildTask(json.dumps(order | shape), "soak_family")
        return ChildTask(json.dumps(order), "soak_work")

    def _submit(self, session: str) -> None:
        tasks, cancel_after = self._plans[session]
        if not self._store.exists(session):
            self._store.put(session, _CONTEXT, agent_id=_AGENT)
        handoff = self._handoffs.submit(session, tasks, agent_id=_AGENT, idempotency_key="soak")
        del self._plans[session]
        self._open[session] = self._accepted[session] = handoff.handoff_id
        if cancel_after >= 0:
            self._cancel_at[handoff.handoff_id] = time.monotonic() + cancel_after

    def _cancel_due(self) -> None:
        for handoff_id, at in list(self._cancel_at.items()):
            if time.monotonic() >= at:
                self._handoffs.find(handoff_id).cancel()
                del self._cancel_at[handoff_id]

    def _judge_one(
        self,
        session: str,
        handoff_id: str,
        client: redis.Redis,
        verdict: Verdict,
        stored: dict[Place, int],
    ) -> None:
        view, tree = HandoffView(client), HandoffTree(client)
        outcome, nodes = view.outcome(handoff_id), view.nodes(handoff_id)
        counted = Counter(node.state for node in nodes)
        census = {state: count for state in counted if (count := outcome.census[state])}
        if census != dict(counted) or outcome.census.total != len(nodes):
            verdict.miscounted += 1
        verdict.nodes += len(nodes)
        verdict.states.update(counted)
        ok = [node.node_id for node in nodes if node.state == "ok"]
        verdict.lost += len(set(ok) - set(tree.results(handoff_id, ok)))
        events = [json.loads(fields[b"event"])
                  for _, fields in client.xrange(HandoffKeys.of(handoff_id).events)]  # fmt: skip
        of_nodes = [event for event in events if event["type"] == "node"]
        ends = Counter(event["node"] for event in of_nodes if event["state"] in _ENDED)
        verdict.twice += sum(count > 1 for count in ends.values())
        stored.update(_stored(handoff_id, of_nodes))
        if not outcome.ended:
            return
        expected = {"done", "cancelled"}
        if outcome.state not in expected:
            verdict.other.append(f"{handoff_id} is {outcome.state}: {dict(counted)}")
        versions = len(ContextStore(client).history(session))
        wanted = 2 if outcome.state == "done" else 1
        if versions != wanted:
            verdict.other.append(f"{handoff_id}: {versions} versions instead of {wanted}")


def _stored(handoff_id: str, events: list[dict[str, Any]]) -> dict[Place, int]:
    """The attempt that stored each result."""
    stored: dict[Place, int] = {}
    steps: Counter[str] = Counter()
    for event in events:
        if event["state"] in ("ok", "suspended"):
            stored[Place(handoff_id, event["node"], steps[event["node"]])] = event["attempt"]
            steps[event["node"]] += event["state"] == "suspended"
    return stored


class StockLoad:
    """Chords of as many tasks, without trees: stock Celery would have to nest them."""

    def __init__(self, app: Celery, ledger: Path, chance: random.Random) -> None:
        self._app = app
        self._ledger = ledger
        self._chance = chance
        self._groups: dict[str, int] = {}
        self._given_up_at: dict[str, float] = {}
        self._seen_bytes = 0
        self._ended: set[str] = set()

    def tick(self, *, submits: bool) -> None:
        """See `Load`."""
        self._see_ended()
        # One that hangs is stuck; it is not to keep others from being tried.
        now = time.monotonic()
        tried = sum(at > now for group, at in self._given_up_at.items() if group not in self._ended)
        if submits and tried < _AT_ONCE:
            self._submit(f"group_{len(self._groups)}")

    @property
    def under_way(self) -> int:
        """See `Load`."""
        return len(self._groups) - len(self._ended)

    def close(self) -> None:
        """See `Load`."""
        self._app.close()

    def judge(self, ledger: Ledger, client: redis.Redis) -> Verdict:
        """See `Load`. A chord whose callback never ran is lost; so is a task that never ended."""
        del client
        verdict = Verdict(submitted=len(self._groups), nodes=sum(self._groups.values()))
        ended = {place for place, runs in ledger.items() if any(e.what == "end" for e in runs)}
        for group, count in self._groups.items():
            nodes = [str(node) for node in range(count)]
            verdict.lost += sum(Place(group, node, 0) not in ended for node in nodes)
            verdict.stuck += Place(group, "join", 0) not in ended
        again = soak_ledger.run_again(ledger)
        verdict.twice = sum(place.node == "join" for place in again)
        verdict.paid_again = len(again) - verdict.twice
        return verdict

    def _submit(self, group: str) -> None:
        draws = [self._chance.random() for _ in range(12)]
        header = [
            self._app.signature(
                "soak.work", args=(str(self._ledger), group, str(node), 0.05 + 1.5 * draw**3)
            )
            for node, draw in enumerate(draws)
        ]
        callback = self._app.signature("soak.gather", args=(str(self._ledger), group))
        try:
            chord(header, callback, app=self._app).apply_async()
        except (OperationalError, *self._errors()):
            return  # not accepted: nothing is owed
        self._groups[group] = len(header)
        self._given_up_at[group] = time.monotonic() + _STOCK_SLOT_SECONDS

    def _errors(self) -> tuple[type[BaseException], ...]:
        errors: Any = self._app.connection_for_write().connection_errors
        return tuple(errors)

    def _see_ended(self) -> None:
        if not self._ledger.exists():
            return
        with self._ledger.open() as lines:
            lines.seek(self._seen_bytes)
            while line := lines.readline():
                _, _, what, group, node, *_ = json.loads(line)
                if node == "join" and what == "end":
                    self._ended.add(group)
            self._seen_bytes = lines.tell()


STOCK_APPS: Final = {"default": soak_stock.default, "late": soak_stock.late}
