"""Storing and reading one context against raw Redis commands on the same bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from isal import igzip

from baton.ids import new_session_id
from baton.settings import KIB
from baton.store.cache import ContextCache
from baton.store.contexts import ContextStore
from bench.corpus import edited
from bench.measure import WARM_UP, expect, interleave, timed
from bench.report import Row, Side

if TYPE_CHECKING:
    import redis

    from bench.plan import Plan

_FLOOR_KEY: Final = "bench:floor"
_AGENT: Final = "bench"
_EDIT_LIMIT_BYTES: Final = 300 * KIB


class StoreRows:
    """The rows of the context store. Every contestant checks its result outside of its time."""

    def __init__(self, client: redis.Redis, plan: Plan, text: str) -> None:
        self._redis = client
        self._plan = plan
        self._text = text
        self._store = ContextStore(client)
        self._edit_base = ""
        self._edit_head = ""
        self._sent_bytes: list[float] = []

    def close(self) -> None:
        """Stop the store's thread."""
        self._store.close()

    def store_new(self) -> Row:
        """A new session against the least work that could be called storing."""
        took = interleave({"ours": self._put_new, "floor": self._floor_put}, self._plan.rounds)
        return Row(
            key="store",
            what=f"store {self._plan.size}, new session",
            ours=Side(name="put", seconds=took["ours"]),
            other=Side(
                name="floor: encode, sha256, igzip -1, raw SET, one thread", seconds=took["floor"]
            ),
            target=self._plan.target(0.9),
        )

    def get_cold(self) -> Row:
        """A read by a process that has nothing of the session."""
        session_id = self._new_session()
        self._floor_put(WARM_UP)
        took = interleave(
            {"ours": lambda _: self._get_cold(session_id), "floor": self._floor_get},
            self._plan.rounds,
        )
        self._store.delete(session_id, agent_id=_AGENT)
        return Row(
            key="get_cold",
            what=f"get {self._plan.size}, cold",
            ours=Side(name="get", seconds=took["ours"]),
            other=Side(
                name="floor: raw GET, igunzip, sha256, decode, one thread", seconds=took["floor"]
            ),
            target=self._plan.target(1.15),
        )

    def get_cached(self) -> Row:
        """A read of what the process holds: only the head is asked for."""
        calls = self._plan.calls
        store = ContextStore(self._redis, cache=ContextCache(4 * self._plan.size_bytes))
        session_id = self._new_session()
        self._redis.set(_FLOOR_KEY, self._text[:KIB].encode()[:KIB])

        def ours(_: int) -> float:
            took, content = timed(lambda: [store.get(session_id) for _ in range(calls)][-1].content)
            expect("cached get", self._text, content)
            return took / calls

        def floor(_: int) -> float:
            took, value = timed(lambda: [self._redis.get(_FLOOR_KEY) for _ in range(calls)][-1])
            expect("raw GET", KIB, len(value or b""))
            return took / calls

        took = interleave({"ours": ours, "floor": floor}, self._plan.rounds)
        store.close()
        self._store.delete(session_id, agent_id=_AGENT)
        return Row(
            key="get_cached",
            what=f"get {self._plan.size}, unchanged and cached",
            ours=Side(name="get", seconds=took["ours"]),
            other=Side(name="floor: raw GET of 1 KB", seconds=took["floor"]),
            target=self._plan.target(2.0),
            facts=[f"each time is the mean of {calls} calls"],
        )

    def edit(self) -> Row:
        """A small change to a large context, by a writer that knows what it changes."""
        self._edit_base = self._new_session()
        self._edit_head = self._store.get(self._edit_base).version
        self._sent_bytes = []
        took = interleave({"ours": self._put_edit, "new": self._put_new}, self._plan.rounds)
        self._store.delete(self._edit_base, agent_id=_AGENT)
        most = max(self._sent_bytes)
        verdict = "met" if most <= _EDIT_LIMIT_BYTES else "missed"
        return Row(
            key="edit",
            what=f"store {self._plan.size} after a 1 KB edit in the middle, base known",
            ours=Side(name="put, base known", seconds=took["ours"]),
            other=Side(name="put, new session", seconds=took["new"]),
            target=self._plan.target(0.6),
            facts=[f"{most / KIB:.0f} KiB sent at most (target ≤ 300 KiB: {verdict})"],
            figures={"sent_bytes": most},
        )

    def _new_session(self) -> str:
        session_id = new_session_id()
        self._store.put(session_id, self._text, agent_id=_AGENT)
        return session_id

    def _put_new(self, number: int) -> float:
        session_id = new_session_id()
        took, _ = timed(lambda: self._store.put(session_id, self._text, agent_id=_AGENT))
        if number == WARM_UP:
            expect("put", self._text, self._store.get(session_id).content)
        self._store.delete(session_id, agent_id=_AGENT)
        return took

    def _put_edit(self, number: int) -> float:
        text = edited(self._text, number)
        before = self._net_input_bytes()
        took, commit = timed(
            lambda: self._store.put(
                self._edit_base, text, agent_id=_AGENT, base_version=self._edit_head
            )
        )
        self._sent_bytes.append(self._net_input_bytes() - before)
        self._edit_head = commit.version
        expect("edit", "accepted", commit.action)
        expect("edit", text, self._store.get(self._edit_base).content)
        return took

    def _net_input_bytes(self) -> int:
        return int(self._redis.info("stats")["total_net_input_bytes"])

    def _floor_put(self, _number: int) -> float:
        took, _ = timed(lambda: _raw_put(self._redis, self._text))
        return took

    def _get_cold(self, session_id: str) -> float:
        # A new store knows no manifest; its thread for notes of reads is part of a first read.
        store = ContextStore(self._redis)
        took, context = timed(lambda: store.get(session_id))
        store.close()
        expect("cold get", self._text, context.content)
        return took

    def _floor_get(self, _number: int) -> float:
        took, text = timed(lambda: _raw_get(self._redis))
        expect("raw get", self._text, text)
        return took


def _raw_put(client: redis.Redis, text: str) -> str:
    data = text.encode()
    digest = hashlib.sha256(data).hexdigest()
    client.set(_FLOOR_KEY, igzip.compress(data, 1))
    return digest


def _raw_get(client: redis.Redis) -> str:
    data: bytes = igzip.decompress(client.get(_FLOOR_KEY))  # type: ignore[no-untyped-call]
    hashlib.sha256(data).hexdigest()
    return data.decode()
