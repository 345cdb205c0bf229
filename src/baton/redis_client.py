"""Redis clients made one way: bounded pool, deadlines, a retry that suits idempotent scripts."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from baton.errors import (
    AccessDeniedError,
    BatonError,
    InvalidInputError,
    StoreRefusedError,
    StoreUnavailableError,
    UnexpectedAnswerError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.binary_redis import BinaryRedis
    from baton.settings import ClientSettings


_REFUSALS: Final = ("OOM", "READONLY", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN")


def connect(url: str, settings: ClientSettings) -> redis.Redis:
    """A binary client for `url`; it connects at its first command, not here.

    The retry repeats commands whose reply was lost: every script of ours recognises a repeat by
    its operation id, and our plain commands are idempotent.

    Raises:
        InvalidInputError: `url` is not a redis://, rediss:// or unix:// URL.
    """
    try:
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=settings.redis_max_connections,
            timeout=settings.redis_timeout_seconds,
            socket_timeout=settings.redis_timeout_seconds,
            socket_connect_timeout=min(5.0, settings.redis_timeout_seconds),
            health_check_interval=25,
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), retries=6),
        )
    except ValueError as error:
        raise InvalidInputError(
            "BATON_REDIS_URL", "a redis://, rediss:// or unix:// URL", redact_url(url)
        ) from error
    return redis.Redis.from_pool(pool)


def require_binary(client: redis.Redis) -> BinaryRedis:
    """Return `client`, typed as giving bytes, if it does; chunks are bytes, not text.

    Raises:
        InvalidInputError: the client was made with `decode_responses=True`.
    """
    if client.get_connection_kwargs().get("decode_responses"):
        raise InvalidInputError(
            "redis_client", "a client with decode_responses=False", "decode_responses=True"
        )
    return cast("BinaryRedis", client)


@contextmanager
def redis_errors(client: redis.Redis | BinaryRedis) -> Iterator[None]:
    """Turn what redis-py raises within the block into our own errors.

    Raises:
        StoreUnavailableError: the server refused, hung up, timed out or is still loading.
        StoreRefusedError: it takes no writes now: out of memory, read-only, cannot persist.
        AccessDeniedError: this user has no right to the command or the key.
        UnexpectedAnswerError: any other error of its own, such as WRONGTYPE.
    """
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise StoreUnavailableError(
            f"Redis at {_address(client)} did not answer ({error}); "
            "is it running, and is the URL right?"
        ) from error
    except redis.exceptions.NoPermissionError as error:
        raise AccessDeniedError(
            f"Redis at {_address(client)}: this user may not do that ({error})"
        ) from error
    except redis.ResponseError as error:
        raise _answered(client, error) from error


def _answered(client: redis.Redis | BinaryRedis, error: redis.ResponseError) -> BatonError:
    where, text = f"Redis at {_address(client)}", str(error)
    refused = isinstance(
        error, (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)
    ) or text.startswith(_REFUSALS)
    if refused:
        return StoreRefusedError(
            f"{where} takes no writes now ({text}); free memory, or see why it refuses"
        )
    return UnexpectedAnswerError(
        f"{where} answered {text!r}; does a key hold what Baton did not put there?"
    )


def _address(client: redis.Redis | BinaryRedis) -> str:
    where = client.get_connection_kwargs()
    if "path" in where:
        return str(where["path"])
    return f"{where.get('host', 'its cluster')}:{where.get('port', '')}".rstrip(":")


def redact_url(url: str) -> str:
    """`url` without its password, for messages and logs."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"***@{host}"))
