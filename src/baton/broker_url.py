"""Turns a store's URL into Celery's: kombu spells unix sockets, databases and TLS its own way."""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from baton.cluster_url import names_cluster
from baton.errors import InvalidInputError, SettingsError

_TCP = ("redis", "rediss")


def broker_url(store_url: str, *, database: int) -> str:
    """The URL of database `database` on the server of `store_url`, for a broker or a result store.

    `redis://` and `rediss://` keep host and credentials; of the query only `ssl_*` stays, as kombu
    refuses what else redis-py understands. `unix:///path` becomes `redis+socket:///path`.

    Raises:
        InvalidInputError: `store_url` is of none of these forms.
    """
    parts = urlsplit(store_url)
    if parts.scheme in _TCP and parts.netloc:
        return _tcp(parts, database)
    if parts.scheme == "unix" and parts.path:
        return _socket(parts, database)
    raise InvalidInputError(
        "store_url", "a redis://, rediss:// or unix:// URL", f"<{parts.scheme or 'no'} scheme>"
    )


def choose_broker_url(store_url: str, configured: str | None) -> str:
    """The broker's URL for Celery: the configured one, else the store server's next database.

    A configured URL may be in redis-py's spelling or in kombu's (`sentinel://`, ...).

    Raises:
        SettingsError: the URL that counts is a Redis Cluster's, on which Celery cannot work.
        InvalidInputError: it is of no known form.
    """
    if names_cluster(configured or store_url):
        raise SettingsError(
            "BATON_BROKER_URL",
            "a server that is no Redis Cluster, for Celery cannot work on one",
            "<unset, and the store is a cluster>" if configured is None else "<a cluster>",
        )
    if configured is None:
        return broker_url(store_url, database=database_of(store_url) + 1)
    if urlsplit(configured).scheme in {*_TCP, "unix"}:
        return broker_url(configured, database=database_of(configured))
    return configured


def database_of(store_url: str) -> int:
    """The database number that redis-py would select for `store_url`.

    Raises:
        InvalidInputError: it is not a number.
    """
    parts = urlsplit(store_url)
    path = parts.path.strip("/") if parts.scheme in _TCP else ""
    text = dict(parse_qsl(parts.query)).get("db", path) or "0"
    if not text.isdecimal():
        raise InvalidInputError("store_url", "a database number", text)
    return int(text)


def _tcp(parts: SplitResult, database: int) -> str:
    ssl_options = [pair for pair in parse_qsl(parts.query) if pair[0].startswith("ssl_")]
    return parts._replace(path=f"/{database}", query=urlencode(ssl_options)).geturl()


def _socket(parts: SplitResult, database: int) -> str:
    user, at, _ = parts.netloc.rpartition("@")
    # Quoted whole: kombu reads `;` as the next broker and `+` as the end of a transport's name.
    path = quote(unquote(parts.path))
    return f"redis+socket://{user}{at}{path}?virtual_host={database}"
