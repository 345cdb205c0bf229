"""What a case works with: stores, session ids of its own, and hands on what is stored."""

from __future__ import annotations

import secrets
import tempfile
import time
from contextlib import ExitStack, closing, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from unittest import SkipTest

from baton.errors import ContextNotFoundError
from baton.key_providers.environment import EnvKeyProvider
from baton.store.contexts import ContextStore
from baton.testing.raw import RawSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.testing.deployment import Deployment

T = TypeVar("T")

CLIENT_NAME: Final = "baton.testing"

_DEADLINE_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.02


class Kit:
    """One case's part of a deployment.

    Args:
        deployment: what is judged.
        prefix: begins the id of each of its sessions.
    """

    def __init__(self, deployment: Deployment, prefix: str) -> None:
        self.deployment = deployment
        self._prefix = prefix
        self._sessions: dict[str, None] = {}
        self._raw: dict[str, RawSession] = {}
        self._open = ExitStack()

    @cached_property
    def store(self) -> ContextStore:
        """A store with the default settings, for the whole case."""
        return self.open_store()

    @cached_property
    def key_provider(self) -> EnvKeyProvider:
        """A master key made for this case, known to nobody else."""
        return EnvKeyProvider(secrets.token_hex(32))

    def open_store(self, client: Any = None, **options: Any) -> ContextStore:
        """Another store, which remembers nothing of what others did: another process, so to say.

        Args:
            client: None: the deployment's.
            options: as `ContextStore` takes them.
        """
        store = self.deployment.open_store(client, **options)
        self._open.callback(store.close)
        return store

    def open_sealing_store(self) -> ContextStore:
        """Another store, with the case's master key."""
        return self.open_store(key_provider=self.key_provider)

    def session(self, name: str = "s") -> str:
        """The id of a session of this case; it is deleted when the case ends."""
        session_id = f"{self._prefix}{name}"
        self._sessions[session_id] = None
        return session_id

    def raw(self, session_id: str) -> RawSession:
        """What Redis holds of a session of this case, to look at and to damage.

        Raises:
            SkipTest: this deployment is not to be tampered with.
        """
        if not self.deployment.tampers:
            raise SkipTest("needs to look at what is stored, which this run may not")
        if session_id not in self._raw:
            self._raw[session_id] = RawSession(self.deployment.client, session_id)
        return self._raw[session_id]

    def folder(self) -> Path:
        """An empty folder on this machine, for as long as the case runs."""
        return Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="baton-")))

    def until(self, probe: Callable[[], T], what: str) -> T:
        """Poll `probe` until it is truthy, and return what it gave.

        Raises:
            AssertionError: it was not within 20 seconds.
        """
        end = time.monotonic() + _DEADLINE_SECONDS
        while not (found := probe()):
            if time.monotonic() > end:
                raise AssertionError(f"expected {what} within {_DEADLINE_SECONDS:g} s")
            time.sleep(_POLL_SECONDS)
        return found

    def close(self) -> None:
        """Close the stores and delete the sessions."""
        self._open.close()
        client = self.deployment.client
        # Of the real class: what is judged may be unable to.
        with closing(ContextStore(client, client_name=CLIENT_NAME)) as store:
            for session_id in self._sessions:
                raw = self._raw.get(session_id)
                if raw is not None:
                    raw.remove()
                    continue
                with suppress(ContextNotFoundError):
                    store.delete(session_id, agent_id="conformance")
                RawSession(client, session_id).remove_marker()
