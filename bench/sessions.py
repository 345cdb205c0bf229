"""What the rows of the store have in common: new sessions, and reads by who has nothing of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.ids import new_session_id
from baton.store.contexts import ContextStore
from bench.measure import WARM_UP, expect, timed

if TYPE_CHECKING:
    import redis

    from baton.key_providers.provider import KeyProvider

AGENT: Final = "bench"


def new_session(store: ContextStore, text: str, *, sealed: bool = False) -> str:
    """The id of a new session that holds `text`."""
    session_id = new_session_id()
    store.put(session_id, text, agent_id=AGENT, sealed=sealed)
    return session_id


def time_new_put(store: ContextStore, text: str, number: int, *, sealed: bool = False) -> float:
    """Seconds of a `put` into a new session, which is gone afterwards."""
    session_id = new_session_id()
    took, _ = timed(lambda: store.put(session_id, text, agent_id=AGENT, sealed=sealed))
    if number == WARM_UP:
        expect("put", text, store.get(session_id).content)
    store.delete(session_id, agent_id=AGENT)
    return took


def time_cold_get(
    client: redis.Redis,
    session_id: str,
    right: str,
    *,
    version: str | None = None,
    key_provider: KeyProvider | None = None,
) -> float:
    """Seconds of a `get` by a store that knows nothing of the session, which holds `right`."""
    store = ContextStore(client, key_provider=key_provider)
    took, context = timed(lambda: store.get(session_id, version))
    store.close()
    expect("cold get", right, context.content)
    return took
