"""Redis clients made one way: bounded pool, deadlines, a retry that suits idempotent scripts."""

from __future__ import annotations

import re
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry

from baton.cluster_redis import PASSING_ERRORS, ClusterRedis
from baton.cluster_url import ClusterUrl, names_cluster
from baton.errors import (
    AccessDeniedError,
    BatonError,
    InvalidInputError,
    StoreRefusedError,
    StoreUnavailableError,
    UnexpectedAnswerError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from baton.binary_redis import BinaryPipeline, BinaryRedis
    from baton.settings import ClientSettings


T = TypeVar("T")

_REFUSALS: Final = ("OOM", "READONLY", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN")
_PIPELINE: Final = " of pipeline caused error: "  # what redis-py puts before the server's words
# What Redis 6.2 puts before a command's error inside a script.
_IN_SCRIPT: Final = re.compile(r"Error running script \(.*?\): @user_script:\d+: .*?: -(.*)")
_NO_CLUSTER: Final = "cluster support disabled"  # what such a server answers to CLUSTER
_LOGIN_ERRORS: Final = (
    redis.AuthenticationError,
    redis.exceptions.AuthorizationError,
    redis.exceptions.AuthenticationWrongNumberOfArgsError,
)

# Whatever is not plainly a URL is not shown: where its password ends is a guess.
_HOST: Final = r"(?:\[[0-9a-f:.]+\]|[\w.-]*)(?::[0-9]*)?"
_PLAIN_URL: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<secret>[^/?#\s]*@)?"
    rf"(?P<place>{_HOST}(?:,{_HOST})*(?:/[^?#@\x00-\x1f]*)?)(?:\?(?P<query>[^#@\s]*))?",
    re.IGNORECASE,
)
_SHOWN_OPTION: Final = re.compile(r"(?:db|virtual_host)=[\w/]*")


class _BoundedRetry(Retry):
    """Begins nothing again after `patience_seconds`, nor what a wrong password ended.

    A count alone is no bound: redis-py nests its retries (a command's holds those of connecting),
    so that 7 tries are 49, and each may wait for the whole timeout of a server that hangs. A
    negative count leaves the time as the only bound.
    """

    def __init__(
        self,
        patience_seconds: float,
        *,
        retries: int = 6,
        errors: tuple[type[Exception], ...] = (
            redis.ConnectionError,
            redis.TimeoutError,
            TimeoutError,
        ),
    ) -> None:
        backoff = ExponentialWithJitterBackoff(base=0.05, cap=1.0)
        super().__init__(backoff, retries=retries, supported_errors=errors)
        self._patience_seconds = patience_seconds

    def call_with_retry(
        self, do: Callable[[], T], fail: Callable[..., Any], *args: Any, **options: Any
    ) -> T:
        # A little less than the timeout: a socket's may fire a moment before it.
        give_up_at = time.monotonic() + 0.9 * self._patience_seconds

        def fail_in_time(error: Exception, *count: int) -> None:
            fail(error, *count)
            if isinstance(error, _LOGIN_ERRORS) or time.monotonic() >= give_up_at:
                raise error

        return super().call_with_retry(do, fail_in_time, *args, **options)


def connect(url: str, settings: ClientSettings, *, field: str = "BATON_REDIS_URL") -> redis.Redis:
    """A binary client for `url`; it connects at its first command, not here.

    The retry repeats commands whose reply was lost: every script of ours recognises a repeat by
    its operation id, and our plain commands are idempotent. `field` is where `url` came from.
    A URL of a cluster (`baton.cluster_url`) gives a `ClusterRedis`.

    Raises:
        InvalidInputError: `url` is not a redis://, rediss:// or unix:// URL, or one of a cluster,
            or has an option that redis-py does not know; names `field`, and shows no password.
    """
    is_cluster = names_cluster(url)
    try:
        return (_cluster if is_cluster else _server)(url, settings)
    except (ValueError, TypeError, AttributeError, redis.RedisError):
        expected = "a redis://, rediss:// or unix:// URL with known options"
        if is_cluster:
            expected = "redis+cluster://HOST:PORT,HOST:PORT with known options and no database"
        # Without its cause, which may quote the password.
        raise InvalidInputError(field, expected, redact_url(url)) from None


def _server(url: str, settings: ClientSettings) -> redis.Redis:
    return _client(url, settings, _BoundedRetry(settings.redis_timeout_seconds))


def _cluster(url: str, settings: ClientSettings) -> ClusterRedis:
    """The cluster's client; it alone retries, as another node may have to be asked."""
    cluster = ClusterUrl.of(url)
    retry = _BoundedRetry(settings.redis_timeout_seconds, retries=-1, errors=PASSING_ERRORS)
    return ClusterRedis(
        cluster.seeds,
        lambda host, port: _client(
            cluster.node_url(host, port), settings, Retry(NoBackoff(), retries=0)
        ),
        retry,
    )


def _client(url: str, settings: ClientSettings, retry: Retry) -> redis.Redis:
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=settings.redis_max_connections,
        timeout=settings.redis_timeout_seconds,
        socket_timeout=settings.redis_timeout_seconds,
        socket_connect_timeout=min(5.0, settings.redis_timeout_seconds),
        health_check_interval=25,
        retry=retry,
    )
    # Made, not connected: else an unknown option of the URL fails at the first command.
    pool.connection_class(**pool.connection_kwargs)
    return redis.Redis.from_pool(pool)


def why_silent(url: str) -> str | None:
    """Why no server answers at `url`; None if one does. Asks once; of a cluster, each node named.

    Raises:
        AccessDeniedError: one answers and refuses us.
        InvalidInputError: it is no URL of a Redis, or a cluster's and the server is none.
    """
    try:
        if not names_cluster(url):
            return _why_node_silent(url, "PING")
        cluster = ClusterUrl.of(url)
        silent: str | None = None
        for seed in cluster.seeds:
            silent = _why_node_silent(cluster.node_url(*seed), "CLUSTER SLOTS")
            if silent is None:
                return None
    except ValueError as error:
        if isinstance(error, BatonError):
            raise
        raise InvalidInputError(
            "BATON_REDIS_URL",
            "a redis://, rediss:// or unix:// URL, or a cluster's",
            f"<{redact_url(url)}>",
        ) from error
    return silent


def _why_node_silent(url: str, command: str) -> str | None:
    shown = redact_url(url)
    try:
        with redis.Redis.from_url(
            url, socket_timeout=5, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0)
        ) as client:
            client.execute_command(command)
    except redis.BusyLoadingError:
        return None
    except (redis.AuthenticationError, redis.ResponseError) as error:
        if _NO_CLUSTER in str(error):
            raise InvalidInputError(
                "BATON_REDIS_URL", "a URL without +cluster, as the server is none", f"<{shown}>"
            ) from error
        raise AccessDeniedError(
            f"Redis at {shown} refused us ({error}); check user and password in the URL"
        ) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        return f"Redis at {shown} does not answer ({error})"
    return None


def require_binary(client: redis.Redis) -> BinaryRedis:
    """Return `client`, typed as giving bytes, if it does; chunks are bytes, not text.

    Raises:
        InvalidInputError: the client was made with `decode_responses=True`, or is redis-py's own
            of a cluster, which refuses our pipelines.
    """
    if isinstance(client, redis.RedisCluster):
        raise InvalidInputError(
            "redis_client", "what `connect('redis+cluster://...')` gives", "<a RedisCluster>"
        )
    if client.get_connection_kwargs().get("decode_responses"):
        raise InvalidInputError(
            "redis_client", "a client with decode_responses=False", "decode_responses=True"
        )
    return cast("BinaryRedis", client)


def redis_seconds(client: redis.Redis | BinaryRedis) -> float:
    """Seconds since 1970 by the server's clock, which all of its clients share."""
    now: Any = client.time()
    seconds, microseconds = now
    return float(seconds + microseconds / 1e6)


def redis_now_ms(client: redis.Redis | BinaryRedis) -> int:
    """The same in whole milliseconds."""
    now: Any = client.time()
    seconds, microseconds = now
    return int(seconds * 1000 + microseconds // 1000)


def read_at_once(
    client: BinaryRedis,
    witness: Callable[[BinaryPipeline], object],
    *asked: Callable[[BinaryPipeline], object],
) -> list[Any]:
    """The witness and what is asked, all of one instant; each queues one command that reads.

    In a transaction; but a full server queues no command of one, whatever it does. There the
    witness is looked at before and after, and all of it again where it changed: it has to be what
    changes with all that is asked.
    """
    looks = (witness, *asked)
    try:
        return _read(client, looks, transaction=True)
    except redis.exceptions.OutOfMemoryError:
        while True:
            *found, again = _read(client, (*looks, witness), transaction=False)
            if found[0] == again:
                return found


def _read(
    client: BinaryRedis, looks: Iterable[Callable[[BinaryPipeline], object]], *, transaction: bool
) -> list[Any]:
    pipeline = client.pipeline(transaction=transaction)
    for look in looks:
        look(pipeline)
    return pipeline.execute()


def redis_errors(client: redis.Redis | BinaryRedis) -> AbstractContextManager[None]:
    """Turn what redis-py raises within the block into our own errors.

    Raises:
        StoreUnavailableError: the server refused, hung up, timed out or is still loading.
        StoreRefusedError: it takes no writes now: out of memory, read-only, cannot persist.
        AccessDeniedError: user or password are wrong, or the user has no right to the command or
            the key.
        UnexpectedAnswerError: any other error of its own, such as WRONGTYPE.
    """
    return _RedisErrors(client)


class _RedisErrors(AbstractContextManager[None]):
    """Every read passes here, and a generator would cost it a tenth of its time."""

    __slots__ = ("_client",)

    def __init__(self, client: redis.Redis | BinaryRedis) -> None:
        self._client = client

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, redis.RedisError):
            ours = _translated(self._client, error)
            if ours is not None:
                raise ours from error


def _translated(client: redis.Redis | BinaryRedis, error: redis.RedisError) -> BatonError | None:
    if isinstance(error, _LOGIN_ERRORS):  # before ConnectionError, which most of them are
        return AccessDeniedError(
            f"Redis at {_address(client)} refused our user or password ({error}); "
            "correct them in the URL"
        )
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return StoreUnavailableError(
            f"Redis at {_address(client)} did not answer ({error}); "
            "is it running, and is the URL right?"
        )
    if isinstance(error, redis.exceptions.NoPermissionError):
        return AccessDeniedError(
            f"Redis at {_address(client)}: this user may not do that ({error})"
        )
    return _answered(client, error) if isinstance(error, redis.ResponseError) else None


def _answered(client: redis.Redis | BinaryRedis, error: redis.ResponseError) -> BatonError:
    where, text = f"Redis at {_address(client)}", str(error)
    if isinstance(error, redis.exceptions.AskError):  # MOVED as well; a cluster's client follows
        return UnexpectedAnswerError(
            f"{where} is a node of a cluster ({text}); its URL must begin with redis+cluster://"
        )
    if _NO_CLUSTER in text:
        return UnexpectedAnswerError(f"{where} is no cluster; its URL must begin with redis://")
    if (error.status_code or "") in _REFUSALS or _server_words(text).startswith(_REFUSALS):
        return StoreRefusedError(
            f"{where} takes no writes now ({text}); free memory, or see why it refuses"
        )
    return UnexpectedAnswerError(
        f"{where} answered {text!r}; does a key hold what Baton did not put there?"
    )


def _server_words(text: str) -> str:
    """An error's text without what redis-py and a script of Redis 6.2 put before it."""
    words = text.rpartition(_PIPELINE)[2]
    in_script = _IN_SCRIPT.match(words)
    return words if in_script is None else in_script[1]


def _address(client: redis.Redis | BinaryRedis) -> str:
    where = client.get_connection_kwargs()
    if "path" in where:
        return str(where["path"])
    address = f"{where.get('host', 'localhost')}:{where.get('port', '')}".rstrip(":")
    return f"{address} (a cluster)" if isinstance(client, ClusterRedis) else address


def redact_url(url: str) -> str:
    """`url` for messages and logs: no user, no password, and of its options the database alone.

    Of what is not plainly a URL only the scheme is left.
    """
    plain = _PLAIN_URL.fullmatch(url)
    if plain is None:
        scheme, separator, _ = url.partition("://")
        return f"{scheme}://***" if separator and scheme.isalnum() else "***"
    secret = "***@" if plain["secret"] else ""
    options = [_redact_option(option) for option in (plain["query"] or "").split("&") if option]
    query = f"?{'&'.join(options)}" if options else ""
    return f"{plain['scheme']}{secret}{plain['place']}{query}"


def _redact_option(option: str) -> str:
    if _SHOWN_OPTION.fullmatch(option):
        return option
    name, separator, _ = option.partition("=")
    return f"{name}=***" if separator else "***"
