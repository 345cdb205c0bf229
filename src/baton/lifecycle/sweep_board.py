"""Runs a sweep once a period and keeps how that went, where health and metrics read it.

`sweep:{NAME}` is the claim of the current period, `sweep:{NAME}:running` the lease of the run that
is at it, `sweep:{NAME}:status` a hash; `sweep:index` is a sorted set of names by their last run.
All times are the server's own, and every key expires.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from baton.clock import utc_from_ms
from baton.content.secrets import redact_secrets
from baton.errors import BatonError
from baton.ids import check_id, new_operation_id
from baton.redis_client import redis_errors, redis_now_ms
from baton.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    import redis

# So that the next tick finds its period free, although clocks and queues are never quite on time.
CLAIMED_SHARE: Final = 0.9
LATE_PERIODS: Final = 3
RENEWALS_PER_LEASE: Final = 3
SHORTEST_LEASE_SECONDS: Final = 2.0
LONGEST_LEASE_SECONDS: Final = 30.0
# Above three periods of the rarest sweep, so that none is forgotten before it is late.
KEEP_SECONDS: Final = 90 * 86_400
MAX_ERROR_CHARACTERS: Final = 500
INDEX: Final = "sweep:index"

_KEEP_MS: Final = KEEP_SECONDS * 1000

_CLAIM: Final = Script("baton.lifecycle", "claim_sweep")
_RENEW: Final = Script("baton.lifecycle", "renew_sweep")
_END: Final = Script("baton.lifecycle", "end_sweep")
_EXPECT: Final = Script("baton.lifecycle", "expect_sweep")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SweepStatus:
    """How a sweep fares, when read.

    `late`: it has not succeeded for three periods, nor been scheduled for less. `error` is why the
    last run failed, `` if it did not; `result` what the last success did; `done` of `total` is how
    far the run is that goes on. `runs`, `failures`, `items` and `busy_seconds` only rise, while the
    status is kept (90 days from its last change).
    """

    name: str
    period_seconds: float
    running: bool
    late: bool
    started_at: datetime | None
    ended_at: datetime | None
    succeeded_at: datetime | None
    seconds_since_success: float | None
    result: int | None
    error: str
    done: int | None
    total: int | None
    runs: int
    failures: int
    items: int
    busy_seconds: float


class SweepRun:
    """A run that goes on. Work that takes long tells how far it is, and looks whether to stop."""

    def __init__(self, name: str, period_seconds: float) -> None:
        self.name = name
        self.period_seconds = period_seconds
        self.run_id = new_operation_id()
        self.done: int | None = None
        self.total: int | None = None
        self._lost = threading.Event()

    @property
    def lease_seconds(self) -> float:
        """Within a period where that is short, so that a death costs no more than it."""
        lease_seconds = min(LONGEST_LEASE_SECONDS, self.period_seconds * CLAIMED_SHARE)
        return max(SHORTEST_LEASE_SECONDS, lease_seconds)

    @property
    def lost(self) -> bool:
        """Whether the lease has ended, so that another may be at it: stop where that is easy."""
        return self._lost.is_set()

    def progress(self, done: int, total: int | None = None) -> None:
        """Note how far it is; Redis is told with the next renewal."""
        self.done, self.total = done, total

    def lose(self) -> None:
        """The lease has ended."""
        self._lost.set()


class SweepBoard:
    """Claims, leases and records of sweeps in Redis. Safe for threads and processes.

    Every method raises StoreUnavailableError where Redis does not answer, and InvalidIdError for
    a name that is none.
    """

    def __init__(self, redis_client: redis.Redis) -> None:
        self._redis = redis_client

    def run(self, name: str, period_seconds: float, work: Callable[[SweepRun], int]) -> int | None:
        """Do `work`, unless this period is taken or a run goes on; what it did, or None.

        While it works its lease is renewed from a thread, so nobody starts it again however long
        it takes; where its process dies, another may after at most 30 s. What it raises is
        recorded and raised; the next period then does what this one did not.
        """
        run = SweepRun(name, period_seconds)
        if not self._claim(run):
            return None
        with self._renewed(run):
            try:
                result = work(run)
            except Exception as error:
                self._record_failure(run, error)
                raise
        self._end(run, result=str(result))
        return result

    def expect(self, name: str, period_seconds: float) -> None:
        """Somebody schedules this sweep from now on: it is late if nothing comes of that."""
        with redis_errors(self._redis):
            _EXPECT(self._redis, [_key(name)], [_ms(period_seconds), _KEEP_MS])
        self._list(name)

    def list(self) -> list[SweepStatus]:
        """All sweeps that were scheduled or run in the last 90 days, by name."""
        with redis_errors(self._redis):
            found: Any = self._redis.zrange(INDEX, 0, -1)
            names = sorted(each.decode() for each in found)
            now_ms = redis_now_ms(self._redis)
            with self._redis.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.hgetall(f"{_key(name)}:status")
                    pipeline.exists(f"{_key(name)}:running")
                answers = pipeline.execute()
        statuses = zip(names, answers[::2], answers[1::2], strict=True)
        return [_status(name, raw, bool(running), now_ms) for name, raw, running in statuses if raw]

    def _claim(self, run: SweepRun) -> bool:
        period_ms = _ms(run.period_seconds)
        claimed_ms = _ms(run.period_seconds * CLAIMED_SHARE)
        args: list[str | float] = [
            run.run_id,
            period_ms,
            claimed_ms,
            _ms(run.lease_seconds),
            _KEEP_MS,
        ]
        with redis_errors(self._redis):
            answer = _CLAIM(self._redis, [_key(run.name)], args)
        if answer != b"claimed":
            return False
        self._list(run.name)
        return True

    def _list(self, name: str) -> None:
        """A command of its own: the index lies in another slot."""
        with redis_errors(self._redis):
            seconds, _ = self._redis.time()
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.zremrangebyscore(INDEX, "-inf", seconds - KEEP_SECONDS)
                pipeline.zadd(INDEX, {name: seconds})
                pipeline.pexpire(INDEX, _KEEP_MS)
                pipeline.execute()

    @contextlib.contextmanager
    def _renewed(self, run: SweepRun) -> Iterator[None]:
        stopped = threading.Event()
        thread = threading.Thread(
            target=self._keep, args=(run, stopped), name=f"baton-sweep-{run.name}", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def _keep(self, run: SweepRun, stopped: threading.Event) -> None:
        ends_at = time.monotonic() + run.lease_seconds
        while not run.lost and not stopped.wait(run.lease_seconds / RENEWALS_PER_LEASE):
            asked_at = time.monotonic()
            try:
                held = self._renew(run)
            except BatonError as error:
                logger.warning("sweep %s could not renew its lease: %s", run.name, error)
                held = time.monotonic() < ends_at
            else:
                ends_at = asked_at + run.lease_seconds
            if not held:
                run.lose()

    def _renew(self, run: SweepRun) -> bool:
        done, total = ("" if each is None else each for each in (run.done, run.total))
        args: list[str | float] = [run.run_id, _ms(run.lease_seconds), done, total, _KEEP_MS]
        with redis_errors(self._redis):
            return bool(_RENEW(self._redis, [_key(run.name)], args))

    def _record_failure(self, run: SweepRun, error: Exception) -> None:
        told = f"{type(error).__name__}: {redact_secrets(str(error))}"[:MAX_ERROR_CHARACTERS]
        try:
            self._end(run, error=told)
        except BatonError as unrecorded:
            logger.warning("sweep %s failed, and could not record it: %s", run.name, unrecorded)

    def _end(self, run: SweepRun, *, result: str = "", error: str = "") -> None:
        with redis_errors(self._redis):
            recorded = _END(self._redis, [_key(run.name)], [run.run_id, result, error, _KEEP_MS])
        if not recorded:
            logger.warning("sweep %s outlived its lease; its end is not recorded", run.name)


def _key(name: str) -> str:
    return f"sweep:{{{check_id(name, 'sweep')}}}"


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _status(name: str, raw: Mapping[bytes, bytes], running: bool, now_ms: int) -> SweepStatus:
    fields = {key.decode(): value.decode() for key, value in raw.items()}
    period_ms, succeeded_ms = int(fields["period_ms"]), _whole(fields, "succeeded_at_ms")
    since_ms = max(succeeded_ms or 0, int(fields["expected_since_ms"]))
    return SweepStatus(
        name=name,
        period_seconds=period_ms / 1000,
        running=running,
        late=now_ms - since_ms > LATE_PERIODS * period_ms,
        started_at=_instant(fields, "started_at_ms"),
        ended_at=_instant(fields, "ended_at_ms"),
        succeeded_at=_instant(fields, "succeeded_at_ms"),
        seconds_since_success=(
            None if succeeded_ms is None else max(0, now_ms - succeeded_ms) / 1000
        ),
        result=_whole(fields, "result"),
        error=fields.get("error", ""),
        done=_whole(fields, "done"),
        total=_whole(fields, "total"),
        runs=_whole(fields, "runs") or 0,
        failures=_whole(fields, "failures") or 0,
        items=_whole(fields, "items") or 0,
        busy_seconds=(_whole(fields, "busy_ms") or 0) / 1000,
    )


def _whole(fields: Mapping[str, str], name: str) -> int | None:
    return int(fields[name]) if name in fields else None


def _instant(fields: Mapping[str, str], name: str) -> datetime | None:
    milliseconds = _whole(fields, name)
    return None if milliseconds is None else utc_from_ms(milliseconds)
