"""Adds up what the processes of one place count, in Redis, where any of them can show the sums.

`metrics:{POOL:HOST}` is a hash, series -> whole number; `metrics:index` a sorted set of such places
by their last news. Sums in Redis and not in files: nodes that run in a process of their own, and
clients that live for one command, count too, and a process that is replaced takes nothing along.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import secrets
import threading
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from baton.errors import BatonError, PermanentError
from baton.ids import check_id
from baton.metrics.series import SeriesNames, parts_of
from baton.redis_client import redis_errors
from baton.scripts import Script

if TYPE_CHECKING:
    from baton.metrics.catalog import Metric

logger = logging.getLogger(__name__)

FLUSH_EVERY_SECONDS: Final = 1.0
EXIT_SECONDS: Final = 2.0
KEEP_SECONDS: Final = 30 * 86_400
SENDER_SECONDS: Final = 3_600
INDEX: Final = "metrics:index"
CLIENTS: Final = "clients:all"

_TALLY: Final = Script("baton.metrics", "tally")
_NOT_IN_HOSTS: Final = re.compile(r"[^A-Za-z0-9_.-]")

_tallies: Final[weakref.WeakSet[RedisTally]] = weakref.WeakSet()


class RedisTally:
    """A `Meter` that sends what it counted about a second later, each batch added once.

    A process that is killed loses at most the last second. What Redis does not take waits for the
    next count; where this user has no right to it, it is dropped.

    Args:
        redis_client: not closed here.
        scope: whose sums these are: `scope_of(pool, host)`, or `CLIENTS`.
    """

    _pending: Counter[str]
    _unsent: dict[str, int]
    _batch: int
    _thread: threading.Thread | None

    def __init__(self, redis_client: Any, scope: str) -> None:
        self._redis = redis_client
        self._scope = scope
        self._key = sums_key(scope)
        self._renew()
        _tallies.add(self)

    def count(self, metric: Metric, amount: int = 1, **labels: str) -> None:
        """See `Meter.count`."""
        if amount:
            self._add(metric, labels, amount, None)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """See `Meter.observe`."""
        self._add(metric, labels, 0, value)

    @property
    def waits(self) -> bool:
        """Whether there is anything to send."""
        return self._pid == os.getpid() and bool(self._pending or self._unsent)

    def flush(self) -> None:
        """Send what waits.

        Raises:
            BatonError: Redis did not take it; what may help to send again is kept.
        """
        with self._flushing:
            while self._unsent or self._take():
                try:
                    self._send()
                except PermanentError:
                    self._unsent = {}
                    raise
                self._unsent = {}

    def close(self) -> None:
        """See `Meter.close`."""
        try:
            self.flush()
        except BatonError as error:
            logger.info("some counts were not sent: %s", error)

    def end(self) -> None:
        """The process exits, which must not hang on a Redis that does."""
        self._ending.set()
        thread = self._thread
        if thread is not None and self._pid == os.getpid():
            thread.join(EXIT_SECONDS)
        elif self.waits:
            self.close()

    def _add(
        self, metric: Metric, labels: dict[str, str], amount: int, value: float | None
    ) -> None:
        if self._pid != os.getpid():
            self._renew()
        with self._lock:
            series = self._names.of(metric, labels)
            if value is None:
                self._pending[series] += amount
            else:
                for part, one in parts_of(metric, series, value):
                    self._pending[part] += one
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="baton-tally", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return  # no thread to be had, or the interpreter ends: the exit sends it
        self._thread = thread

    def _run(self) -> None:
        """Send once a second while there is anything to send; the next count begins anew."""
        while True:
            self._ending.wait(FLUSH_EVERY_SECONDS)
            try:
                self.flush()
            except BatonError as error:
                logger.info("counts wait for Redis: %s", error)
            with self._lock:
                if not self._pending or self._ending.is_set():
                    self._thread = None
                    return

    def _take(self) -> bool:
        with self._lock:
            self._unsent, self._pending = dict(self._pending), Counter()
        if self._unsent:
            self._batch += 1
        return bool(self._unsent)

    def _send(self) -> None:
        amounts = [part for item in self._unsent.items() for part in item]
        args = [self._sender, self._batch, KEEP_SECONDS * 1000, SENDER_SECONDS * 1000, *amounts]
        with redis_errors(self._redis):
            _TALLY(self._redis, [self._key], args)
            seconds, _ = self._redis.time()
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.zadd(INDEX, {self._scope: seconds})
                pipeline.zremrangebyscore(INDEX, "-inf", seconds - KEEP_SECONDS)
                pipeline.pexpire(INDEX, KEEP_SECONDS * 1000)
                pipeline.execute()

    def _renew(self) -> None:
        """Begin anew, also in a forked child: what the parent counted, it sends."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._ending = threading.Event()
        self._names = SeriesNames()
        self._pending = Counter()
        self._unsent = {}
        self._sender = secrets.token_hex(16)
        self._batch = 0
        self._thread = None


def scope_of(pool: str, host: str) -> str:
    """The place of a pool's processes on one machine, or in one container."""
    place = _NOT_IN_HOSTS.sub("_", host).strip("_.-")[:100] or "localhost"
    return f"{check_id(pool, 'pool')}:{place}"


def sums_key(scope: str) -> str:
    """The hash of a place's sums."""
    pool, _, host = scope.partition(":")
    return f"metrics:{{{check_id(pool, 'pool')}:{check_id(host, 'host')}}}"


def read_sums(redis_client: Any, scope: str) -> dict[str, int]:
    """Series -> whole number.

    Raises:
        StoreUnavailableError: Redis did not answer.
    """
    with redis_errors(redis_client):
        raw = redis_client.hgetall(sums_key(scope))
    return {name.decode(): int(value) for name, value in raw.items()}


def list_scopes(redis_client: Any) -> list[str]:
    """The places that counted anything in the last 30 days.

    Raises:
        StoreUnavailableError: Redis did not answer.
    """
    with redis_errors(redis_client):
        return sorted(name.decode() for name in redis_client.zrange(INDEX, 0, -1))


def _end_all() -> None:
    for tally in list(_tallies):
        tally.end()


atexit.register(_end_all)
