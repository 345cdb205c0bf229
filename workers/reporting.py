"""Tells the pool board that this worker, or this beat, is at work."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from celery import bootsteps
from celery.worker import state

from baton.errors import TransientError
from baton.lifecycle.sweep_board import SweepBoard
from baton.redis_client import connect
from baton.swarm.pools import REPORT_SECONDS, PoolBoard

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from baton.lifecycle.sweeps import Periods

BEAT: Final = "beat"
FLOWER: Final = "flower"

_log = logging.getLogger(__name__)


class Reporter:
    """Calls `send` now and every `period_seconds` from a thread of its own, until stopped.

    Off the worker's event loop: a Redis that hangs must not hold up messages.
    """

    def __init__(self, send: Callable[[], None], period_seconds: float = REPORT_SECONDS) -> None:
        self._send = send
        self._period_seconds = period_seconds
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to report. Once only."""
        threading.Thread(target=self._run, name="reporter", daemon=True).start()

    def stop(self) -> None:
        """Send no more, one already on its way excepted. Does not wait."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._send()
            except TransientError as error:
                _log.warning("%s", error)
            self._stopped.wait(self._period_seconds)


class PoolReport(bootsteps.StartStopStep):
    """Consumer step: reports while the worker consumes, so a worker without Redis falls silent."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._reporter: Reporter | None = None

    def start(self, parent: Any) -> None:
        """Begin, or begin again after the connection came back."""
        board = _board(parent.app)
        pools = list(parent.app.amqp.queues.consume_from)

        def send() -> None:
            for pool in pools:
                board.report(pool, parent.hostname, _worker_info(parent))

        self._reporter = Reporter(send)
        self._reporter.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery passes it
        """The connection is lost, or the worker stops."""
        if self._reporter is not None:
            self._reporter.stop()

    def shutdown(self, parent: Any) -> None:
        """The worker stops on purpose: it need not be missed."""
        self.stop(parent)
        board = _board(parent.app)
        with contextlib.suppress(TransientError):
            for pool in parent.app.amqp.queues.consume_from:
                board.withdraw(pool, parent.hostname)


def report_beat(app: Any, hostname: str, periods: Periods) -> None:
    """Report this process as beat, from now to its end, and once what it schedules."""
    board, sweeps = _board(app), SweepBoard(_store(app))
    unexpected = periods.names()

    def send() -> None:
        board.report(BEAT, hostname, {"pid": os.getpid()})
        while unexpected:
            sweeps.expect(unexpected[-1], periods.of(unexpected[-1]))
            unexpected.pop()

    Reporter(send).start()


def report_flower(app: Any, hostname: str) -> None:
    """Report this process as Flower, from now to its end."""
    board = _board(app)
    Reporter(lambda: board.report(FLOWER, hostname, {"pid": os.getpid()})).start()


def _board(app: Any) -> PoolBoard:
    return PoolBoard(_store(app))


def _store(app: Any) -> redis.Redis:
    return connect(app.settings.redis_url.get_secret_value(), app.settings)


def _worker_info(consumer: Any) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "concurrency": consumer.controller.concurrency,
        "active": len(state.active_requests),
    }
