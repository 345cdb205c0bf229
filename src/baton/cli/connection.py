"""Opens the Redis a command works on: the configured one, else the state folder's own."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretStr

from baton import failpoints
from baton.cli.output import say
from baton.embedded import EmbeddedRedis, server_folder
from baton.errors import SettingsError, StoreUnavailableError
from baton.redis_client import connect, why_silent
from baton.settings import ClientSettings, load_settings
from baton.store.configured import open_context_store
from baton.swarm.registry import AgentRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

    from baton.store.contexts import ContextStore


@dataclass(frozen=True, slots=True)
class Where:
    """The Redis in use; `settings` have its URL, and no broker of a Redis that it replaces.

    `embedded`: it is the state folder's own. `replaced`: it stands in for a configured one that
    did not answer.
    """

    settings: ClientSettings
    url: str
    embedded: bool
    replaced: bool = False


def client_settings() -> ClientSettings:
    """The settings, with the state folder's full path.

    Raises:
        SettingsError: names the variable that is wrong.
    """
    settings = load_settings(ClientSettings)
    failpoints.arm(settings.failpoints)
    return settings.model_copy(update={"state_dir": settings.state_dir.expanduser().resolve()})


@contextlib.contextmanager
def open_redis(settings: ClientSettings, *, fall_back: bool = False) -> Iterator[Where]:
    """The Redis to work on, for as long as this is open.

    Without a configured one, the embedded server is used, and started if it does not run; it
    stops with its last user. With `fall_back`, that is also done where the configured one does
    not answer, with a loud warning.

    Raises:
        StoreUnavailableError: the configured Redis does not answer; or none is configured and
            BATON_EMBEDDED_REDIS is `never`.
        AccessDeniedError: it refuses us.
        EmbeddedRedisError: the embedded server does not start.
        InvalidInputError: the configured URL is none, or the state folder cannot be used.
    """
    url = configured_url(settings)
    silent = why_silent(url) if url is not None else "BATON_REDIS_URL is not set"
    if url is not None and silent is None:
        yield Where(settings, url, embedded=False)
        return
    if settings.embedded_redis == "never":
        raise StoreUnavailableError(
            f"{silent}, and BATON_EMBEDDED_REDIS is `never`: start that Redis, or correct the URL"
        )
    if url is not None and not fall_back:
        raise StoreUnavailableError(
            f"{silent}; start it, correct BATON_REDIS_URL, or unset that to work on the embedded "
            "Redis"
        )
    if url is not None:
        say(
            f"WARNING: {silent}. Using the embedded Redis in {settings.state_dir} instead: what "
            "is stored there is NOT seen here, and the reverse. BATON_EMBEDDED_REDIS=never makes "
            "this an error."
        )
    make_folders(settings.state_dir)
    with EmbeddedRedis(server_folder(settings.state_dir)) as own_url:
        yield _embedded(settings, own_url, replaced=url is not None)


@contextlib.contextmanager
def open_client() -> Iterator[tuple[ClientSettings, redis.Redis]]:
    """The settings and a client of the Redis to work on. Errors: `open_redis`."""
    with (
        open_redis(client_settings()) as where,
        contextlib.closing(connect(where.url, where.settings)) as client,
    ):
        yield where.settings, client


@contextlib.contextmanager
def open_store() -> Iterator[ContextStore]:
    """The context store of the Redis to work on. Errors: `open_redis`."""
    with (
        open_client() as (settings, client),
        contextlib.closing(store_of(client, settings)) as store,
    ):
        yield store


def store_of(client: redis.Redis, settings: ClientSettings) -> ContextStore:
    """The context store of the Redis of `client`; to be closed."""
    live_agents = registry_of(client, settings).live_among
    return open_context_store(client, settings, live_agents=live_agents)


def registry_of(client: redis.Redis, settings: ClientSettings) -> AgentRegistry:
    """Who takes part, as the Redis of `client` knows it."""
    return AgentRegistry(client, dead_after_seconds=settings.agent_dead_after_seconds)


def configured_url(settings: ClientSettings) -> str | None:
    """BATON_REDIS_URL, or None."""
    return None if settings.redis_url is None else settings.redis_url.get_secret_value()


def make_folders(state_dir: Path) -> None:
    """Make the state folder and its folder of logs, for our eyes only.

    Raises:
        SettingsError: they cannot be made.
    """
    try:
        for folder in (state_dir, state_dir / "logs"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError("BATON_STATE_DIR", "a folder to write to", f"<{error}>") from error


def _embedded(settings: ClientSettings, url: str, *, replaced: bool) -> Where:
    changed: dict[str, object] = {"redis_url": SecretStr(url)}
    if replaced:
        changed["broker_url"] = None
    return Where(settings.model_copy(update=changed), url, embedded=True, replaced=replaced)
