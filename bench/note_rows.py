"""What notes of reads, their way into the audit and its seals cost reads from the cache."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from baton.redis_client import require_binary
from baton.store.access import AccessNotes
from baton.store.cache import ContextCache
from baton.store.contexts import ContextStore
from baton.store.drain import AccessDrain
from bench.measure import expect, interleave, timed
from bench.report import Row, Side
from bench.sessions import AGENT, new_session

if TYPE_CHECKING:
    import redis

    from bench.plan import Plan

_READERS: Final = tuple(f"reader_{number}" for number in range(10))
_DRAIN_EVERY_SECONDS: Final = 1.0


class _NoNotes(AccessNotes):
    """Takes notes and leaves it at that."""

    def add(self, *_: Any, **__: Any) -> None:
        pass


class _UnnotedStore(ContextStore):
    """A store whose reads leave no note; all else is as ever."""

    def __init__(self, client: redis.Redis, cache: ContextCache) -> None:
        super().__init__(client, cache=cache)
        self._parts = replace(self._parts, notes=_NoNotes(require_binary(client)))


class _Sweeps:
    """The sweeps of notes and of the audit, once a second, in a thread of this very process."""

    def __init__(self, client: redis.Redis, store: ContextStore, session_id: str) -> None:
        self._drain = AccessDrain(client, store)
        self._store = store
        self._session_id = session_id
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        """Stop, and sweep what is left."""
        self._ended.set()
        self._thread.join()
        self._store.flush_notes()
        self._sweep()

    def _run(self) -> None:
        while not self._ended.wait(_DRAIN_EVERY_SECONDS):
            self._sweep()

    def _sweep(self) -> None:
        self._drain.drain(self._session_id)
        self._store.seal_audit(self._session_id)


def notes(client: redis.Redis, plan: Plan, text: str) -> Row:
    """Cached reads by ten agents, each noted, against reads that nobody notes."""
    calls = plan.noted_calls
    cache = ContextCache(4 * plan.size_bytes)
    noted = ContextStore(client, cache=cache)
    unnoted = _UnnotedStore(client, cache)
    session_id = new_session(noted, text)
    noted_reads = 0

    def read_all(store: ContextStore) -> float:
        took, content = timed(lambda: _read(store, session_id, calls))
        expect("cached get", text, content)
        return took / calls

    def ours(_: int) -> float:
        nonlocal noted_reads
        noted_reads += calls
        with _Sweeps(client, noted, session_id):
            took = read_all(noted)
        expect("reads in the audit", noted_reads, _audited_reads(noted, session_id))
        return took

    took = interleave({"ours": ours, "without": lambda _: read_all(unnoted)}, plan.rounds)
    expect("audit", True, noted.verify_audit(session_id).ok)
    noted.delete(session_id, agent_id=AGENT)
    noted.close()
    return Row(
        key="notes",
        what=f"get {plan.size}, cached, with access notes and audit",
        ours=Side(name="get, notes swept and sealed each second", took=took["ours"]),
        other=Side(name="get by a store that takes no notes", took=took["without"]),
        target=plan.target(1.3),
        facts=[
            f"each time is the mean of {calls:,} calls by {len(_READERS)} agents in turn",
            "the audit counts every read",
        ],
    )


def _read(store: ContextStore, session_id: str, calls: int) -> str:
    content = ""
    for call in range(calls):
        content = store.get(session_id, agent_id=_READERS[call % len(_READERS)]).content
    return content


def _audited_reads(store: ContextStore, session_id: str) -> int:
    reads = (each for each in store.show_audit(session_id) if each.operation == "read")
    return sum(each.details["reads"] for each in reads)
