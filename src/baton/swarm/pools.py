"""The board on which workers and their supervisor report, and anyone reads which pools are up.

`pools:{POOL}` and `pools:{POOL}:supervisor` are hashes, worker -> `TIME JSON`; `pools:index` is a
sorted set of pools by their last report. All times are the server's own, so that no reader's
clock matters, and every key expires.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import redis

from baton.errors import StoreUnavailableError
from baton.ids import check_id
from baton.redis_client import redis_now_ms
from baton.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REPORT_SECONDS: Final = 5.0
STALE_SECONDS: Final = 20.0
FORGET_SECONDS: Final = 300.0

State = Literal["up", "starting", "backing_off", "down"]

_INDEX: Final = "pools:index"
_REPORT: Final = Script("baton.swarm", "pool_report")


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker process.

    `up`: it reported within 20 s. `starting`: its supervisor has started it and it has yet to
    report. `backing_off`: it died and starts again in `retry_in_seconds`. `down`: neither it nor
    a supervisor has been heard of for 20 s. `restarts` counts since the supervisor's start;
    `info` is what the worker said of itself.
    """

    worker: str
    state: State
    seconds_since_report: float | None
    restarts: int = 0
    retry_in_seconds: float | None = None
    last_exit: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool and its workers, by name. It is `up` while one of them is."""

    pool: str
    workers: tuple[WorkerStatus, ...]

    @property
    def up(self) -> bool:
        """Whether some worker of the pool is up."""
        return any(worker.state == "up" for worker in self.workers)


class PoolBoard:
    """Reports of workers and supervisors in Redis. Thread-safe, as its client is.

    Every method raises `StoreUnavailableError` when Redis does not answer.
    """

    def __init__(self, redis_client: redis.Redis) -> None:
        self._redis = redis_client

    def report(self, pool: str, worker: str, info: Mapping[str, Any]) -> None:
        """A worker's sign of life, to be renewed every 5 s. `info` needs its `pid`."""
        self._put(_workers_key(pool), pool, worker, info)

    def supervise(self, pool: str, worker: str, info: Mapping[str, Any]) -> None:
        """A supervisor's word on its worker, to be renewed every 5 s.

        `info`: `pid` (None while it is not running), `restarts`, `retry_in_seconds` (None while
        it is running), `last_exit` (text, None before its first).
        """
        self._put(_supervisor_key(pool), pool, worker, info)

    def withdraw(self, pool: str, worker: str) -> None:
        """Forget a worker that was stopped on purpose. Withdrawing twice is harmless."""
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hdel(_workers_key(pool), worker)
                pipeline.hdel(_supervisor_key(pool), worker)
                pipeline.execute()
        except redis.RedisError as error:
            raise StoreUnavailableError(f"The pool board did not answer ({error})") from error

    def list(self) -> list[PoolStatus]:
        """All pools heard of in the last 5 minutes, by name."""
        try:
            return list(self._read())
        except redis.RedisError as error:
            raise StoreUnavailableError(f"The pool board did not answer ({error})") from error

    def _put(self, key: str, pool: str, worker: str, info: Mapping[str, Any]) -> None:
        keep_ms = int(FORGET_SECONDS * 1000)
        report = json.dumps(dict(info), separators=(",", ":"))
        try:
            now_ms = _REPORT(self._redis, [key], [worker, report, keep_ms])
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.zadd(_INDEX, {pool: now_ms})
                pipeline.zremrangebyscore(_INDEX, "-inf", now_ms - keep_ms)
                pipeline.pexpire(_INDEX, keep_ms)
                pipeline.execute()
        except redis.RedisError as error:
            raise StoreUnavailableError(f"The pool board did not answer ({error})") from error

    def _read(self) -> Iterator[PoolStatus]:
        names: Any = self._redis.zrange(_INDEX, 0, -1)
        pools = sorted(name.decode() for name in names)
        now_ms = redis_now_ms(self._redis)
        with self._redis.pipeline(transaction=False) as pipeline:
            for pool in pools:
                pipeline.hgetall(_workers_key(pool))
                pipeline.hgetall(_supervisor_key(pool))
            answers = pipeline.execute()
        for pool, reports, supervised in zip(pools, answers[::2], answers[1::2], strict=True):
            own, watched = _decode(reports, now_ms), _decode(supervised, now_ms)
            workers = tuple(
                _status(worker, own.get(worker), watched.get(worker))
                for worker in sorted(own.keys() | watched.keys())
            )
            if workers:
                yield PoolStatus(pool, workers)


@dataclass(frozen=True, slots=True)
class _Report:
    age_seconds: float
    info: dict[str, Any]

    @property
    def fresh(self) -> bool:
        return self.age_seconds <= STALE_SECONDS


def _decode(raw: Mapping[bytes, bytes], now_ms: int) -> dict[str, _Report]:
    reports = {}
    for worker, value in raw.items():
        at_ms, _, text = value.partition(b" ")
        age_seconds = max(0.0, (now_ms - int(at_ms)) / 1000)
        reports[worker.decode()] = _Report(age_seconds, json.loads(text))
    return reports


def _status(worker: str, own: _Report | None, watched: _Report | None) -> WorkerStatus:
    watch = watched.info if watched is not None and watched.fresh else {}
    return WorkerStatus(
        worker=worker,
        state=_state(own, watch),
        seconds_since_report=own.age_seconds if own is not None else None,
        restarts=watch.get("restarts", 0),
        retry_in_seconds=watch.get("retry_in_seconds"),
        last_exit=watch.get("last_exit"),
        info=own.info if own is not None else {},
    )


def _state(own: _Report | None, watch: Mapping[str, Any]) -> State:
    """The supervisor knows of a death at once; without one, only silence tells."""
    reported = own is not None and own.fresh
    if not watch:
        return "up" if reported else "down"
    if watch.get("pid") is None:
        return "backing_off"
    if own is not None and reported and own.info.get("pid") == watch["pid"]:
        return "up"
    # A fresh process has sent no report yet; one that has fallen silent is not starting.
    silent = own is not None and own.info.get("pid") == watch["pid"]
    return "down" if silent else "starting"


def _workers_key(pool: str) -> str:
    return f"pools:{{{check_id(pool, 'pool')}}}"


def _supervisor_key(pool: str) -> str:
    return f"{_workers_key(pool)}:supervisor"
