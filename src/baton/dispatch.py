"""Enqueues by task name: the one module of the library that imports Celery."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from celery import Celery
from celery.backends import redis as redis_results
from kombu.exceptions import ChannelError, OperationalError
from kombu.transport import redis as redis_transport

from baton import routes
from baton.broker_url import choose_broker_url
from baton.errors import BrokerUnavailableError
from baton.failpoints import reach
from baton.redis_client import redact_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from baton.settings import ClientSettings

PUBLISH_RETRY: Final = {"max_retries": 5, "interval_start": 0.1, "interval_step": 0.4}


class CeleryDispatcher:
    """Publishes task messages through a Celery app. See `baton.handoff.dispatcher.Dispatcher`.

    Messages carry ids only, and ask for no result: whoever waits, waits on the tree.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    def start(self, handoff_id: str) -> None:
        """Publish `handoff.start`."""
        self._send(routes.START, [(handoff_id,)])

    def run(self, handoff_id: str, node_ids: Sequence[str]) -> None:
        """Publish `agent.run` for each node."""
        self._send(routes.RUN, [(handoff_id, node_id) for node_id in node_ids])

    def join(self, handoff_id: str) -> None:
        """Publish `handoff.join`."""
        self._send(routes.JOIN, [(handoff_id,)])

    def ask_archive(self, request_id: str) -> None:
        """Publish `archive.do`."""
        self._send(routes.ARCHIVE_DO, [(request_id,)])

    def carry_audit(self) -> None:
        """Publish `archive.carry_audit`, as beat does."""
        self._send(routes.ARCHIVE_AUDIT, [()])

    def backlog(self) -> int:
        """Messages in the agents' queue that no worker has taken yet."""
        with (
            self._broker_errors(),
            self._app.connection_for_write() as connection,
            connection.channel() as channel,
        ):
            try:
                declared: Any = cast("Any", channel).queue_declare(routes.AGENTS, passive=True)
            except ChannelError:
                return 0  # an empty queue is a list that does not exist
            return int(declared.message_count)

    def close(self) -> None:
        """Close the app's connections to the broker."""
        self._app.close()

    def _send(self, task: str, argument_lists: Sequence[tuple[str, ...]]) -> None:
        with self._broker_errors(), self._app.producer_or_acquire() as producer:
            for arguments in argument_lists:
                reach("dispatch.publishing")
                self._app.send_task(
                    task,
                    args=arguments,
                    queue=routes.QUEUE_OF[task],
                    headers={routes.SENT_AT: round(time.time() * 1000)},
                    ignore_result=True,
                    producer=producer,
                    retry=True,
                    retry_policy=PUBLISH_RETRY,
                )
                reach("dispatch.published")

    @property
    def _unavailable(self) -> tuple[type[BaseException], ...]:
        """Publishing raises Kombu's error; all else, what the transport's own client raises."""
        vendors: Any = self._app.connection_for_write().connection_errors
        return (OperationalError, *vendors)

    @contextmanager
    def _broker_errors(self) -> Iterator[None]:
        try:
            yield
        except self._unavailable as error:
            address = redact_url(self._app.connection_for_write().as_uri())
            raise BrokerUnavailableError(
                f"the broker at {address} took no message ({error}); "
                "what was recorded will be published by the sweep"
            ) from error


def celery_scripts() -> tuple[str, ...]:
    """The sources of the Lua scripts that Celery and kombu run by their SHA."""
    return tuple(
        source
        for module in (redis_results, redis_transport)
        for name, source in sorted(vars(module).items())
        if name.isupper() and isinstance(source, str) and "redis.call(" in source
    )


def client_dispatcher(store_url: str, settings: ClientSettings) -> CeleryDispatcher:
    """A dispatcher of a process that is not a worker. Connects at its first message."""
    configured = settings.broker_url.get_secret_value() if settings.broker_url else None
    app = Celery("baton-client", set_as_current=False)
    app.conf.update(_client_options(choose_broker_url(store_url, configured), settings))
    return CeleryDispatcher(app)


def _client_options(broker_url: str, settings: ClientSettings) -> dict[str, Any]:
    """What a publisher needs of the workers' options: wire format, and no endless waiting."""
    return {
        "broker_url": broker_url,
        "broker_transport_options": {
            # One list for a queue, as the workers read it.
            "priority_steps": [0],
            "socket_timeout": settings.redis_timeout_seconds,
            "socket_connect_timeout": min(5.0, settings.redis_timeout_seconds),
        },
        "broker_connection_timeout": 5.0,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_create_missing_queues": True,
        "enable_utc": True,
    }
