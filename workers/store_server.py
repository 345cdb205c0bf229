"""Decides which Redis a stack runs on: the configured one, or the embedded one."""

from __future__ import annotations

import contextlib
import fcntl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.embedded import EmbeddedRedis, server_folder
from baton.errors import EmbeddedRedisError, StoreUnavailableError
from baton.redis_client import why_silent
from workers.durable_start import check_durable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from config.settings import AppSettings


@dataclass(frozen=True, slots=True)
class StoreServer:
    """The Redis in use.

    `embedded` is None for one that was there; `replaced`: it stands in for a configured one that
    did not answer.
    """

    url: str
    embedded: EmbeddedRedis | None = None
    replaced: bool = False


@contextlib.contextmanager
def open_store_server(settings: AppSettings, say: Callable[[str], None]) -> Iterator[StoreServer]:
    """The configured Redis if it answers, else the embedded one for as long as this is open.

    Raises:
        StoreUnavailableError: no configured Redis answers and `embedded_redis` is `never`, or
            it answers and refuses us.
        VolatileStoreError: it, or the configured broker, may lose what it is given.
        EmbeddedRedisError: the embedded one does not start, or serves another launcher.
        InvalidInputError: the configured URL is none.
    """
    url = settings.redis_url.get_secret_value() if settings.redis_url is not None else None
    silent = why_silent(url) if url is not None else "BATON_REDIS_URL is not set"
    if url is not None and silent is None:
        check_durable(settings, say)
        yield StoreServer(url)
        return
    if settings.embedded_redis == "never":
        raise StoreUnavailableError(f"No Redis: {silent}, and BATON_EMBEDDED_REDIS is `never`.")
    if url is not None:
        say(
            f"WARNING: {silent}. Using the embedded Redis instead: what is stored there is "
            "NOT seen here, and the reverse. BATON_EMBEDDED_REDIS=never makes this an error."
        )
    embedded = EmbeddedRedis(server_folder(settings.state_dir))
    with _only_launcher(settings.state_dir), embedded as embedded_url:
        yield StoreServer(embedded_url, embedded, replaced=url is not None)


@contextlib.contextmanager
def _only_launcher(state_dir: Path) -> Iterator[None]:
    """Hold the state folder as the one launcher on its embedded Redis."""
    with (state_dir / "launcher.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmbeddedRedisError(
                f"A stack already runs in {state_dir}; use that one, stop it, or set "
                "BATON_STATE_DIR to another folder."
            ) from None
        yield
