"""Fan-outs through the whole engine against plain Celery on the same workers and options."""

from __future__ import annotations

import gc
import time
from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from celery import Celery, chord

from baton import routes
from baton.agents.runner import ChildTask
from baton.broker_url import choose_broker_url
from baton.dispatch import client_dispatcher
from baton.handoff.submission import Handoffs
from baton.ids import new_session_id
from baton.store.contexts import ContextStore
from bench import tasks
from bench.corpus import edited
from bench.measure import WrongResultError, expect, interleave
from bench.render import duration
from bench.report import Row, Side
from config.celery_options import celery_options

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis
    from celery.canvas import Signature

    from baton.handoff.handle import Handoff
    from bench.plan import Plan
    from config.settings import AppSettings

_AGENT: Final = "bench"
_WAIT_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 0.01
_FAIR_SECONDS: Final = 2.0


class _Took(NamedTuple):
    """Seconds from submit until the last node was through, and until all was over."""

    last_node: float
    end: float


class HandoffRows:
    """The rows of the engine. The clock is the machine's, the same for workers and Redis."""

    def __init__(self, client: redis.Redis, settings: AppSettings, plan: Plan, text: str) -> None:
        url = settings.redis_url.get_secret_value() if settings.redis_url else ""
        self._plan = plan
        self._text = text
        self._store = ContextStore(client)
        self._handoffs = Handoffs(client, self._store, client_dispatcher(url, settings))
        self._celery = _plain_celery(url, settings)
        self._session_id = new_session_id()
        self._store.put(self._session_id, "a small context", agent_id=_AGENT)

    def close(self) -> None:
        """Close the connections to the broker."""
        self._handoffs.close()
        # Results unsubscribe when they are collected; that needs their Redis, which stops next.
        gc.collect()
        self._celery.close()
        self._store.close()

    def no_ops(self, nodes: int) -> Row:
        """What the engine costs: nodes that do nothing."""
        ends: dict[str, list[float]] = {"ours": [], "chord": []}

        def last_node(name: str, took: _Took) -> float:
            ends[name].append(took.end)
            return took.last_node

        took = interleave(
            {
                "ours": lambda _: last_node("ours", self._noop_nodes(nodes)),
                "chord": lambda _: last_node("chord", self._noop_chord(nodes)),
            },
            self._plan.rounds,
        )
        joined, called = (median(ends[name][1:]) for name in ("ours", "chord"))
        return Row(
            key=f"noop_{nodes}",
            what=f"{nodes:,} no-op nodes, full engine",
            ours=Side(name="handoff", took=took["ours"]),
            other=Side(name=f"plain chord of {nodes:,} no-ops", took=took["chord"]),
            target=self._plan.target(1.5 if nodes <= 100 else 1.3),
            facts=[f"joined {duration(joined)}, the chord's callback {duration(called)}"],
            figures={"joined_seconds": joined, "callback_seconds": called},
        )

    def behind_many(self) -> Row:
        """One node of another handoff, submitted while thousands of a first one wait their turn."""
        many = self._plan.waiting_nodes
        took = interleave(
            {"ours": lambda _: self._single_behind(many), "alone": lambda _: self._single()},
            self._plan.rounds,
        )
        return Row(
            key="fairness",
            what=f"a handoff of one node, submitted behind one of {many:,}",
            ours=Side(name="submit to end", took=took["ours"]),
            other=Side(name="the same on idle workers", took=took["alone"]),
            limit=self._plan.target(_FAIR_SECONDS),
        )

    def over_context(self) -> list[Row]:
        """Nodes that each look at one large context, which their process loads once."""
        nodes, few = self._plan.nodes, self._plan.by_value_nodes
        what = f"{nodes:,} nodes that call len() on one {self._plan.size} context"
        took = interleave(
            {
                "ours": lambda number: self._length_nodes(number, nodes),
                "chord": lambda _: self._noop_chord(nodes).last_node,
                "by_value": lambda _: self._by_value_chord(few).last_node,
            },
            self._plan.rounds,
        )
        return [
            Row(
                key="context_fan_out",
                what=what,
                ours=Side(name="handoff, a new context each round", took=took["ours"]),
                other=Side(name=f"plain chord of {nodes:,} no-ops", took=took["chord"]),
                target=self._plan.target(1.5),
            ),
            Row(
                key="context_by_value",
                what=f"{what}, per node",
                ours=Side(name="handoff, per node", took=[each / nodes for each in took["ours"]]),
                other=Side(
                    name=f"Celery, the text in each of {few} messages, per node",
                    took=[each / few for each in took["by_value"]],
                ),
                target=self._plan.target(1 / 30),
            ),
        ]

    def _single(self) -> float:
        took, _ = self._hand_off(self._session_id, "noop", 1)
        return took.end

    def _single_behind(self, many: int) -> float:
        crowd = self._handoffs.submit(
            self._session_id, [ChildTask("measure", "noop")] * many, agent_id=_AGENT, merge="none"
        )
        _poll(lambda: crowd.outcome().census["ok"] > 0, "the crowd's start")
        took = self._single()
        expect("crowd", "running", crowd.outcome().state)
        crowd.cancel()
        _poll(lambda: crowd.outcome().ended, "the crowd's end")
        return took

    def _noop_nodes(self, nodes: int) -> _Took:
        took, _ = self._hand_off(self._session_id, "noop", nodes)
        return took

    def _length_nodes(self, number: int, nodes: int) -> float:
        # Another text each time: the workers' cache must not hold it yet.
        text = edited(self._text, number)
        session_id = new_session_id()
        self._store.put(session_id, text, agent_id=_AGENT)
        took, handoff = self._hand_off(session_id, "length", nodes)
        answers = {handoff.node_result(str(slot)) for slot in range(nodes)}
        expect("handoff over a context", {str(len(text))}, answers)
        self._store.delete(session_id, agent_id=_AGENT)
        return took.last_node

    def _hand_off(self, session_id: str, runner: str, nodes: int) -> tuple[_Took, Handoff]:
        begin = time.time()
        handoff = self._handoffs.submit(
            session_id, [ChildTask("measure", runner)] * nodes, agent_id=_AGENT, merge="none"
        )
        _poll(lambda: handoff.outcome().ended, "handoff")
        end = time.time()
        outcome = handoff.outcome()
        expect("handoff", ("done", nodes), (outcome.state, outcome.census["ok"]))
        ended = [node.ended_at.timestamp() for node in handoff.nodes() if node.ended_at]
        return _Took(max(ended) - begin, end - begin), handoff

    def _noop_chord(self, nodes: int) -> _Took:
        (begin, end), ran_at = self._chord([self._message(tasks.noop.name)] * nodes)
        expect("plain chord", nodes, len(ran_at))
        return _Took(max(ran_at) - begin, end - begin)

    def _by_value_chord(self, nodes: int) -> _Took:
        header = [self._message(tasks.length.name, self._text)] * nodes
        (begin, end), answers = self._chord(header)
        lengths = {length for _, length in answers}
        expect("content in arguments", ({len(self._text)}, nodes), (lengths, len(answers)))
        return _Took(max(at for at, _ in answers) - begin, end - begin)

    def _message(self, task: str, *args: object) -> Signature[Any]:
        return self._celery.signature(task, args=args, queue=routes.AGENTS)

    def _chord(self, header: list[Signature[Any]]) -> tuple[tuple[float, float], list[Any]]:
        """When it was sent and when its callback had run, and what its tasks answered."""
        callback = self._celery.signature(tasks.done.name, queue=routes.CONTEXT)
        begin = time.time()
        result = chord(header, callback, app=self._celery).apply_async()
        # Not `result.get()`: it asks for every header's result, on the workers' cores.
        _poll(result.ready, "plain chord")
        end = time.time()
        expect("plain chord", "SUCCESS", result.state)
        answers = cast("list[Any]", result.result)
        return (begin, end), answers


def _poll(ended: Callable[[], bool], contestant: str) -> None:
    """Ask now and then, the same for all: what waits must not take the workers' cores."""
    give_up_at = time.monotonic() + _WAIT_SECONDS
    while not ended():
        if time.monotonic() > give_up_at:
            raise WrongResultError(f"{contestant}: expected its end within {_WAIT_SECONDS:g} s")
        time.sleep(_POLL_SECONDS)


def _plain_celery(url: str, settings: AppSettings) -> Celery:
    """A client with the very options of the workers."""
    broker = choose_broker_url(url, None)
    app = Celery("bench", set_as_current=False)
    app.conf.update(celery_options(settings, broker_url=broker, result_url=broker))
    return app
