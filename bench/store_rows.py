"""Storing and reading one context against raw Redis commands on the same bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from isal import igzip

from baton.settings import KIB
from baton.store.cache import ContextCache
from baton.store.contexts import ContextStore
from bench.corpus import EDIT_BYTES, edited, fresh_text
from bench.measure import WARM_UP, expect, interleave, timed
from bench.report import Row, Side
from bench.sessions import AGENT, new_session, time_cold_get, time_new_put

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from baton.store.records import Commit
    from bench.measure import Contestant
    from bench.plan import Plan

_FLOOR_KEY: Final = "bench:floor"
_EDIT_LIMIT_BYTES: Final = 300 * KIB
_APPEND_LIMIT_BYTES: Final = 96 * KIB


class StoreRows:
    """The rows of the context store. Every contestant checks its result outside of its time."""

    def __init__(self, client: redis.Redis, plan: Plan, text: str) -> None:
        self._redis = client
        self._plan = plan
        self._text = text
        self._store = ContextStore(client)
        self._base = ""
        self._base_text = text
        self._base_head = ""
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
            ours=Side(name="put", took=took["ours"]),
            other=Side(
                name="floor: encode, sha256, igzip -1, raw SET, one thread", took=took["floor"]
            ),
            target=self._plan.target(0.9),
        )

    def get_cold(self) -> Row:
        """A read by a process that has nothing of the session."""
        session_id = new_session(self._store, self._text)
        self._floor_put(WARM_UP)
        took = interleave(
            {
                "ours": lambda _: time_cold_get(self._redis, session_id, self._text),
                "floor": self._floor_get,
            },
            self._plan.rounds,
        )
        self._store.delete(session_id, agent_id=AGENT)
        return Row(
            key="get_cold",
            what=f"get {self._plan.size}, cold",
            ours=Side(name="get", took=took["ours"]),
            other=Side(
                name="floor: raw GET, igunzip, sha256, decode, one thread", took=took["floor"]
            ),
            target=self._plan.target(1.15),
        )

    def get_cached(self) -> Row:
        """A read of what the process holds: only the head is asked for."""
        calls = self._plan.calls
        store = ContextStore(self._redis, cache=ContextCache(4 * self._plan.size_bytes))
        session_id = new_session(self._store, self._text)
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
        self._store.delete(session_id, agent_id=AGENT)
        return Row(
            key="get_cached",
            what=f"get {self._plan.size}, unchanged and cached",
            ours=Side(name="get", took=took["ours"]),
            other=Side(name="floor: raw GET of 1 KB", took=took["floor"]),
            target=self._plan.target(2.0),
            facts=[f"each time is the mean of {calls} calls"],
        )

    def edit(self) -> Row:
        """A small change to a large context, by the process that wrote what it changes."""
        took = self._against_new(self._put_edit)
        most = max(self._sent_bytes)
        return Row(
            key="edit",
            what=f"store {self._plan.size} after a 1 KB edit in the middle, base known",
            ours=Side(name="put, base written by this process", took=took["ours"]),
            other=Side(name="put, new session", took=took["new"]),
            target=self._plan.target(0.6),
            facts=[self._sent_at_most(most, "≤ 300 KiB", _EDIT_LIMIT_BYTES)],
            figures={"sent_bytes": most},
        )

    def append(self) -> Row:
        """A small addition to a large context, by the process that wrote what it adds to."""
        took = self._against_new(self._append)
        most = max(self._sent_bytes)
        return Row(
            key="append",
            what=f"append 1 KB to {self._plan.size}, base known",
            ours=Side(name="append, head written by this process", took=took["ours"]),
            other=Side(name="put, new session", took=took["new"]),
            target=self._plan.target(0.5),
            facts=[self._sent_at_most(most, "≤ 96 KiB", _APPEND_LIMIT_BYTES)],
            figures={"sent_bytes": most},
        )

    def _against_new(self, write: Contestant) -> dict[str, list[float]]:
        """Seconds of writes to one session that this process began, and of new sessions."""
        self._base = new_session(self._store, self._text)
        self._base_text, self._sent_bytes = self._text, []
        self._base_head = self._store.get(self._base).version
        took = interleave({"ours": write, "new": self._put_new}, self._plan.rounds)
        self._store.delete(self._base, agent_id=AGENT)
        return took

    def _sent_at_most(self, sent_bytes: float, target: str, limit_bytes: int) -> str:
        figure = f"{sent_bytes / KIB:.0f} KiB sent at most"
        return self._plan.judged(figure, target=target, met=sent_bytes <= limit_bytes)

    def _put_new(self, number: int) -> float:
        return time_new_put(self._store, self._text, number)

    def _put_edit(self, number: int) -> float:
        text = edited(self._text, number)
        return self._write(
            text,
            lambda: self._store.put(self._base, text, agent_id=AGENT, base_version=self._base_head),
        )

    def _append(self, number: int) -> float:
        added = fresh_text(EDIT_BYTES, number)
        return self._write(
            self._base_text + added,
            lambda: self._store.append(self._base, added, agent_id=AGENT),
        )

    def _write(self, right: str, write: Callable[[], Commit]) -> float:
        """Seconds of a write after which the session must hold `right`; counts what it sends."""
        # Notes of the reads below are sent within a second, and are not to count as ours.
        self._store.flush_notes()
        before = self._net_input_bytes()
        took, commit = timed(write)
        self._sent_bytes.append(self._net_input_bytes() - before)
        self._base_head, self._base_text = commit.version, right
        expect("write", "accepted", commit.action)
        expect("write", right, self._store.get(self._base).content)
        return took

    def _net_input_bytes(self) -> int:
        return int(self._redis.info("stats")["total_net_input_bytes"])

    def _floor_put(self, _number: int) -> float:
        took, _ = timed(lambda: _raw_put(self._redis, self._text))
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
