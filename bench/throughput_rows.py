"""How many stores and cached reads a second one server gives several client processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.store.contexts import ContextStore
from bench.clients import PROCESSES, THREADS, Clients
from bench.corpus import pieces
from bench.measure import interleave
from bench.report import Row, Side
from bench.sessions import AGENT, new_session

if TYPE_CHECKING:
    import redis

    from bench.plan import Plan
    from config.settings import AppSettings

_CONTEXT_BYTES: Final = 100_000
_READ_SESSIONS: Final = 8
_STORES_A_SECOND: Final = 1_000
_READS_A_SECOND: Final = 5_000


def throughput(client: redis.Redis, settings: AppSettings, plan: Plan, text: str) -> list[Row]:
    """Stores into new sessions, and reads of unchanged ones that each process has in its cache."""
    texts = pieces(text, _CONTEXT_BYTES)
    store = ContextStore(client)
    sessions = {new_session(store, each): each for each in texts[:_READ_SESSIONS]}
    with Clients(settings, texts, sessions) as clients:

        def stores(_: int) -> float:
            took = clients.run("store", plan.client_stores)
            clients.run("check_stored", 0)
            return took / plan.client_stores

        took = interleave(
            {
                "stores": stores,
                "raw_sets": lambda _: (
                    clients.run("raw_set", plan.client_stores) / plan.client_stores
                ),
                "reads": lambda _: clients.run("read", plan.client_reads) / plan.client_reads,
                "raw_gets": lambda _: clients.run("raw_get", plan.client_reads) / plan.client_reads,
            },
            plan.rounds,
        )
    for session_id in sessions:
        store.delete(session_id, agent_id=AGENT)
    store.close()
    return [
        _row(
            plan,
            "stores",
            Side(name="put, new sessions", took=took["stores"]),
            Side(name="floor: igzip -1, raw SET", took=took["raw_sets"]),
            _STORES_A_SECOND,
        ),
        _row(
            plan,
            "reads",
            Side(name="get, unchanged and cached", took=took["reads"]),
            Side(name="floor: raw GET of 1 KB", took=took["raw_gets"]),
            _READS_A_SECOND,
        ),
    ]


def _row(plan: Plan, name: str, ours: Side, floor: Side, wanted_a_second: int) -> Row:
    a_second = 1 / ours.spread.median
    fact = plan.judged(
        f"{a_second:,.0f} {name}/s",
        target=f"≥ {wanted_a_second:,}",
        met=a_second >= wanted_a_second,
    )
    return Row(
        key=f"throughput_{name}",
        what=f"{name} of 100 KB contexts, {PROCESSES} processes of {THREADS} threads, one server",
        ours=ours,
        other=floor,
        limit=plan.target(1 / wanted_a_second),
        facts=[fact],
        figures={f"{name}_a_second": a_second},
    )
