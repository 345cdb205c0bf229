"""The Celery app: `celery -A workers.app worker|beat|flower`.

Importing it reads nothing and connects to nothing; settings are read when Celery first needs one.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import cached_property
from typing import Any

from celery import Celery, signals
from pydantic import SecretStr

from baton import failpoints, routes
from baton.broker_url import choose_broker_url
from baton.embedded import running_url, server_folder
from baton.errors import SettingsError
from baton.settings import load_settings
from config.celery_options import celery_options, unacked_keys
from config.settings import AppSettings
from workers import lifeline
from workers.durable_start import exit_if_volatile
from workers.event_dispatch import ReferenceEvents
from workers.metrics_endpoint import MetricsEndpoint, pool_of
from workers.reporting import PoolReport, report_beat
from workers.runtime import Runtime, sweep_periods
from workers.script_loading import keep_scripts
from workers.transport import ResilientAMQP
from workers.visibility import VisibilityHeartbeat


class BatonApp(Celery):
    """Celery with the settings, and with the services that tasks use as `self.app.runtime`."""

    _runtime: Runtime | None
    _runtime_lock: threading.Lock

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._forget_runtime()
        os.register_at_fork(after_in_child=self._forget_runtime)

    @cached_property
    def settings(self) -> AppSettings:
        """The process's settings, with the embedded server's URL where none is set.

        Raises:
            SettingsError: a value is refused, or no Redis is set and no embedded one runs.
        """
        settings = load_settings(AppSettings)
        if settings.redis_url is not None:
            return settings
        url = running_url(server_folder(settings.state_dir))
        if url is None:
            raise SettingsError(
                "BATON_REDIS_URL", "a URL, as no embedded server runs (`baton up`)", "<unset>"
            )
        return settings.model_copy(update={"redis_url": SecretStr(url)})

    @property
    def runtime(self) -> Runtime:
        """This process's services, made at first use; a forked child makes its own."""
        with self._runtime_lock:
            if self._runtime is None:
                self._runtime = Runtime(self.settings, self, pool=pool_of(self))
            return self._runtime

    def hand_back(self) -> None:
        """Give back the nodes that this process runs, if any, as it has to stop."""
        with self._runtime_lock:
            runtime = self._runtime
        if runtime is not None:
            runtime.hand_back()

    def close_runtime(self) -> None:
        """Close this process's services, if it made any."""
        with self._runtime_lock:
            if self._runtime is not None:
                self._runtime.close()
                self._runtime = None

    def _forget_runtime(self) -> None:
        """In a forked child the parent's connections, and its lock, are of no use."""
        self._runtime = None
        self._runtime_lock = threading.Lock()


def _options() -> dict[str, Any]:
    settings = app.settings
    store_url = _value(settings.redis_url) or ""
    broker = choose_broker_url(store_url, _value(settings.broker_url))
    results = choose_broker_url(store_url, _value(settings.result_url) or broker)
    return celery_options(settings, broker_url=broker, result_url=results)


def _value(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


app = BatonApp(
    "baton",
    amqp=ResilientAMQP,
    events=ReferenceEvents,
    include=["tasks.archive", "tasks.context", "tasks.handoff", "tasks.lifecycle"],
)
app.add_defaults(_options)
app.steps["worker"].add(VisibilityHeartbeat)
app.steps["consumer"].add(PoolReport)
app.steps["consumer"].add(MetricsEndpoint)


@signals.worker_init.connect(weak=False)
def _prepare_worker(**_: Any) -> None:
    prepare()
    exit_if_volatile(app.settings)
    unacked = unacked_keys(tuple(app.amqp.queues.consume_from))
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, **unacked}


def prepare() -> None:
    """What a process needs that runs nodes: its parent's lifeline, and where runners are found."""
    failpoints.arm(app.settings.failpoints)
    _hold_lifeline()
    if app.settings.runner_path is not None:
        # Last: a user's module must not stand in for an installed one of its name.
        sys.path.append(str(app.settings.runner_path))


@signals.before_task_publish.connect(weak=False)
def _stamp(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """Say when it was sent: a queue's oldest message tells its age by that."""
    if headers is not None:
        headers[routes.SENT_AT] = round(time.time() * 1000)


@signals.beat_init.connect(weak=False)
def _prepare_beat(sender: Any, **_: Any) -> None:
    _hold_lifeline()
    exit_if_volatile(app.settings)
    keep_scripts(app.settings)
    report_beat(app, sender.hostname or "beat", sweep_periods(app.settings))


@signals.worker_shutting_down.connect(weak=False)
def _bound_shutdown(**_: Any) -> None:
    lifeline.exit_in(app.settings.warm_shutdown_seconds, first=app.hand_back)


@signals.worker_shutdown.connect(weak=False)
@signals.worker_process_shutdown.connect(weak=False)
def _close_runtime(**_: Any) -> None:
    app.close_runtime()


def _hold_lifeline() -> None:
    settings = app.settings
    if settings.lifeline_fd is not None:
        lifeline.watch(settings.lifeline_fd, then_exit_seconds=settings.warm_shutdown_seconds)
