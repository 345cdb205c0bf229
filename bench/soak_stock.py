"""The same soak's work on stock Celery: chords under default settings, and with late acks."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery

from bench.soak_runners import note


def _app(*, acks_late: bool) -> Celery:
    """Broker and results come from Celery's own variables."""
    app = Celery("soak", set_as_current=False)
    app.conf.update(task_acks_late=acks_late, task_reject_on_worker_lost=acks_late)

    @app.task(name="soak.work", shared=False)
    def work(ledger: str, group: str, node: str, seconds: float) -> str:
        note(ledger, "start", [group, node, 0, 0])
        time.sleep(seconds)
        note(ledger, "end", [group, node, 0, 0])
        return node

    @app.task(name="soak.gather", shared=False)
    def gather(results: list[Any], ledger: str, group: str) -> int:
        note(ledger, "start", [group, "join", 0, 0])
        note(ledger, "end", [group, "join", 0, 0])
        return len(results)

    return app


default = _app(acks_late=False)
late = _app(acks_late=True)
