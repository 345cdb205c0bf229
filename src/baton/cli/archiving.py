"""Asks the archive: its pool where one runs, else the archive itself, opened here."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from baton.archive.opening import open_archive
from baton.archive.requests import Request, RequestDesk, do
from baton.cli.connection import open_client, registry_of
from baton.cli.output import say
from baton.dispatch import client_dispatcher
from baton.routes import ARCHIVE
from baton.store.configured import open_context_store
from baton.swarm.pools import PoolBoard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from baton.archive.requests import Kind
    from baton.settings import ClientSettings

# Longer than a session's embedding takes between two signs of progress.
SILENCE_SECONDS: Final = 600.0


def ask(kind: Kind, agent_id: str, **fields: Any) -> Any:
    """What the archive answers, progress shown on standard error.

    Raises:
        ArchiveAnswerError: its pool gave no answer.
        ArchiveBusyError: no pool runs, and another process has the archive.
        ArchiveNotInstalledError: no pool runs, and the archive's packages are not here.
        BatonError: what the archive raises.
    """
    request = Request(kind, agent_id, fields)
    with open_client() as (settings, client), _bar() as progress:
        if _pool_runs(client):
            return _ask_pool(settings, client, request, progress)
        say("No archive pool runs: the archive is opened here.")
        store = open_context_store(
            client, settings, live_agents=registry_of(client, settings).live_among
        )
        with (
            contextlib.closing(store),
            contextlib.closing(open_archive(settings, client, store)) as service,
        ):
            return do(service, request, progress)


def _pool_runs(client: redis.Redis) -> bool:
    return any(pool.pool == ARCHIVE and pool.up for pool in PoolBoard(client).list())


def _ask_pool(
    settings: ClientSettings,
    client: redis.Redis,
    request: Request,
    progress: Callable[[str, int, int], None],
) -> Any:
    url = "" if settings.redis_url is None else settings.redis_url.get_secret_value()
    desk = RequestDesk(client)
    request_id = desk.leave(request)
    with contextlib.closing(client_dispatcher(url, settings)) as dispatcher:
        dispatcher.ask_archive(request_id)
        return desk.wait(request_id, SILENCE_SECONDS, progress)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show
