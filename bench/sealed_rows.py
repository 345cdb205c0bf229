"""Sealed sessions against unsealed ones."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from baton.key_providers.file import FileKeyProvider
from baton.store.contexts import ContextStore
from bench.measure import interleave
from bench.report import Row, Side
from bench.sessions import AGENT, new_session, time_cold_get, time_new_put

if TYPE_CHECKING:
    import redis

    from bench.plan import Plan


class SealedRows:
    """The rows of sealing, under a master key in a file, which is read at each use."""

    def __init__(self, client: redis.Redis, plan: Plan, text: str) -> None:
        self._redis = client
        self._plan = plan
        self._text = text
        self._folder = tempfile.TemporaryDirectory(prefix="baton-bench-")
        self._keys = FileKeyProvider.create(Path(self._folder.name) / "master-keys")
        self._store = ContextStore(client, key_provider=self._keys)

    def close(self) -> None:
        """Stop the store's thread and remove the key."""
        self._store.close()
        self._folder.cleanup()

    def put(self) -> Row:
        """A new session and its data key."""
        took = interleave(
            {
                "sealed": lambda number: self._time_put(number, sealed=True),
                "unsealed": lambda number: self._time_put(number, sealed=False),
            },
            self._plan.rounds,
        )
        return Row(
            key="sealed_put",
            what=f"store {self._plan.size}, new sealed session",
            ours=Side(name="put, sealed", took=took["sealed"]),
            other=Side(name="put, unsealed", took=took["unsealed"]),
            target=self._plan.target(1.2),
        )

    def get(self) -> Row:
        """A read by a process that has neither content nor data key."""
        sealed, unsealed = (
            new_session(self._store, self._text, sealed=is_sealed) for is_sealed in (True, False)
        )
        took = interleave(
            {
                "sealed": lambda _: self._time_get(sealed),
                "unsealed": lambda _: self._time_get(unsealed),
            },
            self._plan.rounds,
        )
        for session_id in (sealed, unsealed):
            self._store.delete(session_id, agent_id=AGENT)
        return Row(
            key="sealed_get",
            what=f"get {self._plan.size}, cold and sealed",
            ours=Side(name="get, sealed", took=took["sealed"]),
            other=Side(name="get, unsealed", took=took["unsealed"]),
            target=self._plan.target(1.2),
        )

    def _time_put(self, number: int, *, sealed: bool) -> float:
        return time_new_put(self._store, self._text, number, sealed=sealed)

    def _time_get(self, session_id: str) -> float:
        return time_cold_get(self._redis, session_id, self._text, key_provider=self._keys)
