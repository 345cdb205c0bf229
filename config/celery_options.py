"""Settings as Celery options; each option that differs from a default says why."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from baton import routes
from beat_schedule import schedule
from config.queues import TASK_QUEUES, TASK_ROUTES

if TYPE_CHECKING:
    from config.settings import AppSettings

# Above kombu's BRPOP wait of 1 s, or every idle poll would count as a dead connection.
_SHORTEST_SOCKET_TIMEOUT_SECONDS: Final = 3.0
_CONNECT_TIMEOUT_SECONDS: Final = 5.0
# A worker hears on a connection that died in silence after two of these: 50 s by the default.
_HEALTH_CHECK_SECONDS: Final = 5


def celery_options(settings: AppSettings, *, broker_url: str, result_url: str) -> dict[str, Any]:
    """All options of the workers and of beat.

    The URLs are Celery's, as `baton.broker_url.broker_url` makes them. Every process on the
    broker needs the same visibility timeout: the shortest wins.
    """
    return {
        **_broker(settings, broker_url),
        **_delivery(),
        **_results(settings, result_url),
        **_wire(settings),
        **_beat(settings),
    }


def unacked_keys(queues: tuple[str, ...]) -> dict[str, str]:
    """Transport options of a worker that reads `queues`: where the messages are that it holds.

    The archive's are apart from the others': whoever restores a dead worker's messages has to be
    able to publish them, and who writes the archive may publish nothing else.
    """
    if queues != (routes.ARCHIVE,):
        return {}
    own = f"unacked:{routes.ARCHIVE}"
    return {
        "unacked_key": own,
        "unacked_index_key": f"{own}:index",
        "unacked_mutex_key": f"{own}:mutex",
    }


def _broker(settings: AppSettings, url: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "broker_url": url,
        "broker_connection_retry_on_startup": True,
        # For ever: a supervisor that restarts the worker would only wait for the same Redis.
        "broker_connection_max_retries": None,
        "broker_pool_limit": 32,
        # The default waits for a free connection without end.
        "broker_pool_acquire_timeout": 30.0,
        "broker_transport_options": _transport_options(settings),
        # Some 30 s; the default gives up after one, sooner than Redis restarts.
        "task_publish_retry_policy": {
            "max_retries": 20,
            "interval_start": 0.1,
            "interval_step": 0.2,
            "interval_max": 2.0,
        },
    }
    if urlsplit(url).scheme == "rediss":
        # Unset, kombu would accept any certificate. `ssl_*` in the URL goes before.
        options["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return options


def _transport_options(settings: AppSettings) -> dict[str, Any]:
    return {
        "visibility_timeout": settings.visibility_timeout_seconds,
        # Look for abandoned messages every 2 s; the default (10 s times 10) adds 100 s.
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 1,
        # One list per queue instead of four: no priorities here.
        "priority_steps": [0],
        # None, the default, hangs for ever on a Redis that is frozen.
        "socket_timeout": _socket_timeout(settings),
        "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": _HEALTH_CHECK_SECONDS,
        # The pool raises when exhausted, and each thread that acks needs one.
        "max_connections": max(64, 2 * settings.agents_threads),
        # Not `retry_on_timeout`: it switches batched publishing off.
    }


def _delivery() -> dict[str, Any]:
    return {
        # A message outlives the worker that runs it. Claims make a second run harmless.
        "task_acks_late": True,
        "task_acks_on_failure": True,
        "task_reject_on_worker_lost": True,
        # With reject alone a task that kills its process is redelivered without end.
        "task_retry_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_eta_task_limit": 1_000,
        # A task that waits for its rate is not one whose message the worker renews.
        "worker_disable_rate_limits": True,
        # True loses tasks where Redis is broker and result store (celery 5.7.0).
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # One PUBLISH could stop every worker.
        "worker_enable_remote_control": False,
    }


def _results(settings: AppSettings, url: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "result_backend": url,
        "result_expires": settings.result_expires_seconds,
        # Chords opt in; nothing else has a result worth a key.
        "task_ignore_result": True,
        "redis_socket_timeout": _socket_timeout(settings),
        "redis_socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "redis_backend_health_check_interval": _HEALTH_CHECK_SECONDS,
        "redis_max_connections": max(64, 2 * settings.agents_threads),
    }
    if urlsplit(url).scheme == "rediss":
        options["redis_backend_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    if urlsplit(url).scheme in {"redis", "rediss"}:
        # A unix socket's connection does not know the option.
        options["redis_socket_keepalive"] = True
    return options


def _wire(settings: AppSettings) -> dict[str, Any]:
    return {
        "task_queues": TASK_QUEUES,
        "task_routes": TASK_ROUTES,
        # A misspelt queue is an error, not a queue that nobody reads.
        "task_create_missing_queues": False,
        # Celery's own canvas tasks have no route.
        "task_default_queue": routes.CONTEXT,
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "enable_utc": True,
        "timezone": "UTC",
        "worker_send_task_events": settings.events,
        "task_send_sent_event": settings.events,
        # The launcher's files hold the logs; colours belong on a terminal.
        "worker_log_color": False,
    }


def _beat(settings: AppSettings) -> dict[str, Any]:
    return {
        "beat_schedule": schedule(
            nodes_seconds=settings.node_sweep_seconds,
            agents_seconds=settings.agent_sweep_seconds,
            access_seconds=settings.access_sweep_seconds,
            audit_seconds=settings.audit_seal_seconds,
            age_seconds=settings.age_sweep_seconds,
            reconcile_seconds=settings.reconcile_sweep_seconds,
            collect_seconds=settings.collect_sweep_seconds,
            archive_seconds=settings.archive_sweep_seconds,
            settle_seconds=settings.settle_sweep_seconds,
            purge_seconds=settings.purge_sweep_seconds,
            audit_carry_seconds=settings.audit_carry_seconds,
        ),
        # In memory: sweeps every few seconds need no file of last runs, which would be a pickle.
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_max_loop_interval": 5,
    }


def _socket_timeout(settings: AppSettings) -> float:
    return max(_SHORTEST_SOCKET_TIMEOUT_SECONDS, settings.redis_timeout_seconds)
