"""A Celery app for the tests of the two mends, which the environment turns on one by one.

It is also the source of `app.py` in pytest-celery's worker container. The broker's and the
result backend's URLs come from Celery's own variables.
"""

from __future__ import annotations

import os
import time

import redis
from celery import Celery
from celery.utils.log import get_task_logger

from workers.transport import ResilientAMQP
from workers.visibility import VisibilityHeartbeat

logger = get_task_logger(__name__)

app = Celery("mend", amqp=ResilientAMQP if os.environ.get("MEND_TRANSPORT") == "1" else None)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": float(os.environ.get("MEND_VISIBILITY_SECONDS", "60")),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "global_keyprefix": os.environ.get("MEND_KEYPREFIX", ""),
    },
    task_acks_late=True,
    task_ignore_result=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    # Celery's default; the stock worker's death needs a second channel, here remote control's.
    worker_enable_remote_control=True,
    worker_prefetch_multiplier=int(os.environ.get("MEND_PREFETCH", "1")),
)
if os.environ.get("MEND_HEARTBEAT") == "1":
    app.steps["consumer"].add(VisibilityHeartbeat)


@app.task(name="hold")
def hold(gate: str) -> None:
    """Run until the key `gate` exists, even if Redis is away for a while."""
    logger.info("%s started", gate)
    with app.connection_for_read() as connection:
        channel = connection.channel()
        with channel.conn_or_acquire() as client:
            while not _exists(client, gate):
                time.sleep(0.05)
    logger.info("%s passed", gate)


def _exists(client: redis.Redis, key: str) -> bool:
    try:
        return bool(client.exists(key))
    except redis.RedisError:
        return False
