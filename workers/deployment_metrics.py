"""What the whole deployment looks like at a scrape: sweeps, queues, pools, agents, Redis."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from baton import routes
from baton.archive.report import find_report
from baton.errors import BatonError, UnexpectedAnswerError
from baton.handoff.keys import OPEN
from baton.lifecycle.due_index import DueIndex
from baton.lifecycle.sweep_board import SweepBoard
from baton.metrics import catalog
from baton.redis_client import redis_errors
from baton.swarm.keys import INDEX as AGENTS_INDEX
from baton.swarm.pools import PoolBoard
from baton.swarm.registry import AgentRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis
    from celery import Celery

    from baton.archive.report import ArchiveReport
    from baton.metrics.catalog import Metric

Sample = tuple["Metric", dict[str, str], float]

_SAFE_POLICY: Final = "noeviction"


class DeploymentMetrics:
    """Reads what `source` `deployment` has in the catalog. Cheap: no key is scanned for."""

    def __init__(self, client: redis.Redis, app: Celery, *, dead_after_seconds: float) -> None:
        self._redis = client
        self._app = app
        self._registry = AgentRegistry(client, dead_after_seconds=dead_after_seconds)

    def samples(self) -> Iterator[Sample]:
        """All values; of a Redis that does not answer, that it does not."""
        parts = (
            self._of_redis, self._of_sweeps, self._of_handoffs, self._of_agents, self._of_pools,
            self._of_archive,
        )  # fmt: skip
        try:
            found = [sample for part in parts for sample in part()]
        except BatonError:
            yield catalog.REDIS_UP, {}, 0
            return
        yield from found
        with contextlib.suppress(*self._broker_errors()):
            yield from list(self._of_queues())

    def _of_redis(self) -> Iterator[Sample]:
        with redis_errors(self._redis):
            info: Any = self._redis.info("memory", "persistence")
        durable = info.get("aof_enabled") and info.get("maxmemory_policy") == _SAFE_POLICY
        yield catalog.REDIS_UP, {}, 1
        yield catalog.REDIS_MEMORY, {}, info["used_memory"]
        yield catalog.REDIS_MEMORY_LIMIT, {}, info["maxmemory"]
        yield catalog.REDIS_DURABLE, {}, int(bool(durable))

    def _of_sweeps(self) -> Iterator[Sample]:
        for sweep in SweepBoard(self._redis).list():
            labels = {"sweep": sweep.name}
            if sweep.seconds_since_success is not None:
                yield catalog.SWEEP_AGE, labels, sweep.seconds_since_success
            yield catalog.SWEEP_LATE, labels, int(sweep.late)
            yield catalog.SWEEP_RUNNING, labels, int(sweep.running)
            yield catalog.SWEEP_RUNS, labels, sweep.runs
            yield catalog.SWEEP_FAILURES, labels, sweep.failures
            yield catalog.SWEEP_ITEMS, labels, sweep.items
            yield catalog.SWEEP_BUSY, labels, sweep.busy_seconds

    def _of_handoffs(self) -> Iterator[Sample]:
        with redis_errors(self._redis):
            count: Any = self._redis.zcard(OPEN)
        yield catalog.HANDOFFS_OPEN, {}, count

    def _of_agents(self) -> Iterator[Sample]:
        active = self._registry.count_active()
        with redis_errors(self._redis):
            known: Any = self._redis.zcard(AGENTS_INDEX)
        yield catalog.ACTIVE_SESSIONS, {}, active
        yield catalog.AGENTS, {"state": "active"}, active
        yield catalog.AGENTS, {"state": "dead"}, known - active

    def _of_pools(self) -> Iterator[Sample]:
        workers, restarts = Counter[tuple[str, str]](), Counter[str]()
        for pool in PoolBoard(self._redis).list():
            for worker in pool.workers:
                workers[pool.pool, worker.state] += 1
                restarts[pool.pool] += worker.restarts
        for name in catalog.POOLS:
            yield catalog.POOL_RESTARTS, {"pool": name}, restarts[name]
            for state in catalog.WORKER_STATES:
                labels = {"pool": name, "state": state}
                yield catalog.POOL_WORKERS, labels, workers[name, state]

    def _of_archive(self) -> Iterator[Sample]:
        known, due = DueIndex(self._redis).sizes()
        yield catalog.SESSIONS, {}, known
        yield catalog.ARCHIVE_DUE, {}, due
        try:
            report = find_report(self._redis)
        except UnexpectedAnswerError:
            report = None
        if report is not None:
            yield from self._of_report(report)

    def _of_report(self, report: ArchiveReport) -> Iterator[Sample]:
        with redis_errors(self._redis):
            now: Any = self._redis.time()
        for state in catalog.ARCHIVE_STATES:
            yield catalog.ARCHIVE_SESSIONS, {"state": state}, getattr(report, state)
        yield catalog.ARCHIVE_HEALTHY, {}, int(report.problem is None)
        yield catalog.ARCHIVE_REPORT_AGE, {}, max(0.0, now[0] - report.checked_at_ms / 1000)
        yield catalog.ARCHIVE_SEARCHABLE, {}, report.passages
        yield catalog.ARCHIVE_WAITING, {}, report.waiting
        yield catalog.ARCHIVE_FREE, {}, report.free_bytes

    def _of_queues(self) -> Iterator[Sample]:
        with self._app.connection_for_read() as connection, connection.channel() as channel:
            client: Any = getattr(channel, "client", None)
            if not hasattr(client, "lindex"):
                return  # another broker than Redis has an exporter of its own
            for queue in routes.QUEUES:
                labels = {"queue": queue}
                oldest = client.lindex(queue, -1)
                yield catalog.QUEUE_DEPTH, labels, client.llen(queue)
                age_seconds = 0.0 if oldest is None else _age_seconds(oldest)
                if age_seconds is not None:
                    yield catalog.QUEUE_AGE, labels, age_seconds

    def _broker_errors(self) -> tuple[type[BaseException], ...]:
        errors: Any = self._app.connection_for_read()
        return (*errors.connection_errors, *errors.channel_errors)


def _age_seconds(message: bytes) -> float | None:
    """How long ago it was published, by the publisher's clock; None where it does not say."""
    try:
        sent_at_ms = float(json.loads(message)["headers"][routes.SENT_AT])
    except (ValueError, KeyError, TypeError):
        return None
    return max(0.0, time.time() - sent_at_ms / 1000)
