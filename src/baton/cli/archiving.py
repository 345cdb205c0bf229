"""Asks the archive: its pool where one runs, else the archive itself, opened here."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from baton.archive.opening import ledger_path, open_archive
from baton.archive.requests import Request, RequestDesk, do
from baton.cli.bars import open_bars
from baton.cli.connection import configured_url, open_client, store_of
from baton.cli.output import say
from baton.dispatch import client_dispatcher
from baton.ids import check_id
from baton.routes import ARCHIVE
from baton.swarm.pools import PoolBoard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from baton.archive.requests import Kind
    from baton.archive.service import ArchiveService
    from baton.cli.bars import Bars
    from baton.settings import ClientSettings
    from baton.store.contexts import ContextStore

# Longer than a session's embedding takes between two signs of progress.
SILENCE_SECONDS: Final = 600.0
# Longer than the pool's process takes to start again.
POOL_GONE_SECONDS: Final = 45.0
_LOOK_SECONDS: Final = 5.0


def ask(kind: Kind, agent_id: str, **fields: Any) -> Any:
    """What the archive answers to one request; see `Archives.ask`."""
    with open_archives() as archives:
        return archives.ask(kind, agent_id, **fields)


@contextlib.contextmanager
def open_archives() -> Iterator[Archives]:
    """Whom to ask, over the Redis to work on. Errors: `open_redis`."""
    with (
        open_client() as (settings, client),
        open_bars() as bars,
        contextlib.ExitStack() as opened,
    ):
        yield Archives(settings, client, bars, opened)


class Archives:
    """Whom to ask: the archive's pool, or the archive of this machine, opened at first use.

    Args:
        settings: where it is.
        client: a binary client.
        bars: show how far it is.
        opened: closes what is opened here.
    """

    def __init__(
        self,
        settings: ClientSettings,
        client: redis.Redis,
        bars: Bars,
        opened: contextlib.ExitStack,
    ) -> None:
        self.settings = settings
        self.client = client
        self.bars = bars
        self._opened = opened
        self._store: ContextStore | None = None
        self._service: ArchiveService | None = None

    @property
    def store(self) -> ContextStore:
        """The contexts."""
        if self._store is None:
            found = contextlib.closing(store_of(self.client, self.settings))
            self._store = self._opened.enter_context(found)
        return self._store

    @property
    def anywhere(self) -> bool:
        """Whether there is an archive to ask: a pool, or one that something was put into here."""
        return self.pool_runs() or ledger_path(self.settings).exists()

    def ask(self, kind: Kind, agent_id: str, **fields: Any) -> Any:
        """What the archive answers, progress shown on standard error.

        Raises:
            InvalidInputError: session or agent are none.
            ArchiveAnswerError: its pool gave no answer.
            ArchiveBusyError: no pool runs, and another process has the archive.
            ArchiveNotInstalledError: no pool runs, and the archive's packages are not here.
            BatonError: what the archive raises.
        """
        check_id(agent_id, "--agent")
        if fields.get("session_id") is not None:
            check_id(fields["session_id"], "SESSION")
        request = Request(kind, agent_id, fields)
        if self._service is None and self.pool_runs():
            return self._ask_pool(request)
        return self._do_here(request)

    def _do_here(self, request: Request) -> Any:
        self.bars.waiting("opening the archive")
        try:
            if self._service is None:
                found = open_archive(self.settings, self.client, self.store)
                self._service = self._opened.enter_context(contextlib.closing(found))
            return do(self._service, request, self.bars.show)
        except KeyboardInterrupt:
            say("Stopped. Nothing is lost; asked again, it goes on from what is done.")
            raise

    def _ask_pool(self, request: Request) -> Any:
        desk = RequestDesk(self.client)
        request_id = desk.leave(request)
        self.bars.waiting("waiting for the archive's pool")
        url = configured_url(self.settings) or ""
        with contextlib.closing(client_dispatcher(url, self.settings)) as dispatcher:
            dispatcher.ask_archive(request_id)
            try:
                return desk.wait(
                    request_id, SILENCE_SECONDS, self.bars.show, PoolWatch(self.pool_runs).gone
                )
            except KeyboardInterrupt:
                say("The archive's pool goes on with it.")
                raise

    def pool_runs(self) -> bool:
        """Whether the archive's pool runs, here or on another machine."""
        return any(pool.pool == ARCHIVE and pool.up for pool in PoolBoard(self.client).list())


class PoolWatch:
    """Tells that the pool has been gone for so long that it will not answer.

    Args:
        runs: whether it runs now; asked every few seconds at most.
    """

    def __init__(self, runs: Callable[[], bool]) -> None:
        self._runs = runs
        self._looked_at = time.monotonic()
        self._missed_at: float | None = None

    def gone(self) -> bool:
        """Whether it is."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            if self._runs():
                self._missed_at = None
            elif self._missed_at is None:
                self._missed_at = now
        return self._missed_at is not None and now - self._missed_at >= POOL_GONE_SECONDS
