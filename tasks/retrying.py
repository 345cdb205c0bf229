"""What a task does about an error that may pass: try again, then leave it to the sweep."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from celery import Task

    from baton.errors import TransientError

MAX_RETRIES: Final = 5
MAX_PAUSE_SECONDS: Final = 20.0


def retry_or_give_up(task: Task[Any, Any], error: TransientError) -> Exception:
    """What to raise: Celery's Retry after a jittered pause; after the last try, `error` itself."""
    return error if task.request.retries >= MAX_RETRIES else _retry(task, error)


def retry_or_leave(task: Task[Any, Any], error: TransientError) -> str:
    """Retry `task` with a jittered pause; after the last try return why it was left undone.

    It returns rather than raises at the end: a failing header would fail its chord, and the tree
    knows what is undone.

    Raises:
        Retry: Celery's own, which requeues the task.
    """
    if task.request.retries >= MAX_RETRIES:
        return f"left to the sweep: {type(error).__name__}"
    raise _retry(task, error)


def _retry(task: Task[Any, Any], error: TransientError) -> Exception:
    ceiling = min(2.0**task.request.retries, MAX_PAUSE_SECONDS)
    pause_seconds = ceiling * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret
    retry: Exception = task.retry(exc=error, countdown=pause_seconds, max_retries=None, throw=False)
    return retry
