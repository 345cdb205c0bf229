"""What plain Celery runs in the bench, in the same worker processes as Baton's own tasks.

Each task says when it ran: a chord's end is then known without its callback's own journey.
"""

from __future__ import annotations

import time

from celery import shared_task


@shared_task(name="bench.noop", ignore_result=False)
def noop() -> float:
    """Nothing; the time."""
    return time.time()


@shared_task(name="bench.length", ignore_result=False)
def length(text: str) -> tuple[float, int]:
    """The time, and the length of a text that came within the message."""
    return time.time(), len(text)


@shared_task(name="bench.done", ignore_result=False)
def done(answers: list[object]) -> list[object]:
    """A chord's callback."""
    return answers
