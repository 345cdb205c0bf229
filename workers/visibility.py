"""A worker bootstep that keeps the broker from handing a living worker's tasks to another.

`docs/decisions/0003-visibility-heartbeat.md` tells why, what it does not cover, and when this
module can go.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from celery import bootsteps
from celery.worker import state
from kombu.transport.redis import Channel, Transport

if TYPE_CHECKING:
    from celery import Celery
    from celery.worker.consumer import Consumer

logger = logging.getLogger(__name__)

BEATS_PER_TIMEOUT: Final = 4

_REDIS_ERRORS: Final = Transport.connection_errors + Transport.channel_errors


class VisibilityHeartbeat(bootsteps.StartStopStep):
    """Renews, every quarter of the visibility timeout, what this worker has yet to finish.

    Installed by `app.steps["consumer"].add(VisibilityHeartbeat)`. It covers messages that run
    and messages that wait in the worker, but not those that wait for a rate limit.

    There is no `stop`: a warm shutdown still waits for running tasks, so the beat goes on until
    the process ends.
    """

    def __init__(self, parent: Consumer, **options: Any) -> None:
        super().__init__(parent, **options)
        self._thread: threading.Thread | None = None

    def start(self, parent: Consumer) -> None:
        """Start the beat, if this is the worker's first connection to the broker."""
        if self._thread is not None:
            return
        app = parent.app
        timeout_seconds = float(
            app.conf.broker_transport_options.get("visibility_timeout", Channel.visibility_timeout)
        )
        self._thread = threading.Thread(
            target=_beat_for_ever,
            args=(app, timeout_seconds / BEATS_PER_TIMEOUT),
            name="visibility-heartbeat",
            daemon=True,
        )
        self._thread.start()


def renew(app: Celery, delivery_tags: set[str], *, timeout_seconds: float) -> None:
    """Make unacknowledged messages look newly delivered; tags that were acknowledged stay gone.

    Connects anew each time: a beat that keeps nothing has nothing to repair after Redis restarts,
    and it shares no connection with the event loop, which may be closing its own.

    Raises:
        Exception: one of `kombu.transport.redis.Transport.connection_errors` or `channel_errors`.
    """
    options = {"socket_timeout": timeout_seconds, "socket_connect_timeout": timeout_seconds}
    with app.connection_for_read(transport_options=options) as connection:
        channel: Any = connection.channel()  # the stubs do not know which transport it is of
        with channel.conn_or_acquire() as client:
            # kombu scores by the local clock, so the beat has to.
            scores = dict.fromkeys(delivery_tags, time.time())
            client.zadd(channel.unacked_index_key, scores, xx=True)


def unfinished_delivery_tags() -> set[str]:
    """The tags of the messages that this process's worker runs or is going to run."""
    while True:
        try:
            reserved = list(state.reserved_requests)
            scheduled = list(state.scheduled_requests)  # type: ignore[attr-defined]  # new in 5.7
        except RuntimeError:  # the event loop changed one of the sets; look again
            continue
        return {request.message.delivery_tag for request in (*reserved, *scheduled)}


def _beat_for_ever(app: Celery, interval_seconds: float) -> None:
    while True:
        time.sleep(interval_seconds)
        delivery_tags = unfinished_delivery_tags()
        if delivery_tags:
            _renew_or_log(app, delivery_tags, interval_seconds)


def _renew_or_log(app: Celery, delivery_tags: set[str], interval_seconds: float) -> None:
    try:
        renew(app, delivery_tags, timeout_seconds=interval_seconds)
    except _REDIS_ERRORS as error:
        logger.warning(
            "visibility of %d unfinished messages not renewed (%s); next try in %.1f s",
            len(delivery_tags),
            error,
            interval_seconds,
        )
