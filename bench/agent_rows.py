"""A hundred agents of one process at once, each waiting for a model that takes its time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from baton.agents.runner import ChildTask
from baton.dispatch import client_dispatcher
from baton.handoff.submission import Handoffs
from baton.ids import new_session_id
from baton.store.contexts import ContextStore
from baton.testing.fake_anthropic import FakeAnthropic, Pace, Reply
from bench.measure import expect, interleave
from bench.report import Row, Side
from bench.servers import poll, worker_pools

if TYPE_CHECKING:
    import redis

    from baton.testing.fake_anthropic import MessagesRequest
    from bench.plan import Plan
    from config.settings import AppSettings

_AGENT: Final = "bench"
_CONTEXT: Final = "A context below what a prompt cache takes.\n"
_REPLY_SECONDS: Final = 1.0
_BEYOND_SECONDS: Final = 1.25
_WAIT_SECONDS: Final = 120.0


def waiting_agents(client: redis.Redis, settings: AppSettings, plan: Plan) -> Row:
    """Nodes of the real runner with the real SDK, over a fake endpoint that answers after 1 s."""
    agents = plan.nodes
    with (
        FakeAnthropic(script=_answer_late) as fake,
        worker_pools(
            settings.model_copy(update={"agents_threads": agents}),
            BATON_ANTHROPIC_API_KEY=fake.api_key,
            BATON_ANTHROPIC_BASE_URL=fake.base_url,
        ),
    ):
        url = settings.redis_url.get_secret_value() if settings.redis_url else ""
        store = ContextStore(client)
        handoffs = Handoffs(client, store, client_dispatcher(url, settings))
        session_id = new_session_id()
        store.put(session_id, _CONTEXT, agent_id=_AGENT)
        took = interleave({"ours": lambda _: _hand_off(handoffs, session_id, agents)}, plan.rounds)
        handoffs.close()
        store.delete(session_id, agent_id=_AGENT)
        store.close()
    beyond = [each - _REPLY_SECONDS for each in took["ours"]]
    return Row(
        key="waiting_agents",
        what=f"{agents} agents at once in one process, each {_REPLY_SECONDS:g} s of waiting: "
        "time beyond that",
        ours=Side(name="runner `anthropic`", took=beyond),
        other=None,
        limit=plan.target(_BEYOND_SECONDS),
    )


def _answer_late(_: MessagesRequest) -> Reply:
    return Reply("Done.", pace=Pace(first_byte_after=_REPLY_SECONDS))


def _hand_off(handoffs: Handoffs, session_id: str, agents: int) -> float:
    tasks = [ChildTask(f"Look at part {number}", "anthropic") for number in range(agents)]
    begin = time.time()
    handoff = handoffs.submit(session_id, tasks, agent_id=_AGENT, merge="none")
    poll(lambda: handoff.outcome().ended, _WAIT_SECONDS)
    outcome = handoff.outcome()
    expect("agents", ("done", agents), (outcome.state, outcome.census["ok"]))
    ended = [node.ended_at.timestamp() for node in handoff.nodes() if node.ended_at]
    return max(ended) - begin
