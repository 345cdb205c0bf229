"""The queues, and which task goes to which, as Celery wants them."""

from __future__ import annotations

from typing import Final

from kombu import Exchange, Queue

from baton import routes

EXCHANGE: Final = Exchange("baton", type="direct")

TASK_QUEUES: Final = tuple(Queue(name, EXCHANGE, routing_key=name) for name in routes.QUEUES)

TASK_ROUTES: Final = {task: {"queue": queue} for task, queue in routes.QUEUE_OF.items()}
