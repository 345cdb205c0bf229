"""What is judged: a Redis as this client reaches it, and the store on top of it."""

from __future__ import annotations

import itertools
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from baton.store.contexts import ContextStore
from baton.testing.kit import CLIENT_NAME, Kit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis


class Deployment:
    """A Redis, by a client with the rights that yours have, and the store class to judge on it.

    All sessions of one deployment object begin with its `prefix`, which no other has. A case's
    sessions are deleted when it ends. What stays is their audit trails, which expire by
    themselves (128 days), but for those of sessions that a case looked into or tampered with.
    Nothing is ever flushed, no setting of the server is changed, and no key of others is touched.

    Args:
        client: a binary client, such as `baton.redis_client.connect` gives. It is not closed here.
        store_class: makes a store from a client and `ContextStore`'s keyword arguments.
        tampers: whether cases may look at and damage what is stored in their own sessions. Without
            it they are skipped.
        allow_volatile: whether it is meant to lose everything in a crash of Redis.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        store_class: Callable[..., ContextStore] = ContextStore,
        tampers: bool = True,
        allow_volatile: bool = False,
    ) -> None:
        self.client = client
        self.store_class = store_class
        self.tampers = tampers
        self.allow_volatile = allow_volatile
        self.prefix = f"conformance_{secrets.token_hex(4)}_"
        self._numbers = itertools.count(1)

    @contextmanager
    def kit(self) -> Iterator[Kit]:
        """What one case works with; its sessions are deleted at the end, however that comes."""
        kit = Kit(self, f"{self.prefix}{next(self._numbers)}_")
        try:
            yield kit
        finally:
            kit.close()

    def open_store(self, client: Any = None, **options: Any) -> ContextStore:
        """A store on `client`, or on the deployment's own."""
        options.setdefault("client_name", CLIENT_NAME)
        return self.store_class(self.client if client is None else client, **options)
