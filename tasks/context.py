"""Writes to contexts for clients that speak Celery only, and merges on demand, by reference."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task

from baton import routes
from baton.errors import TransientError
from baton.store.requests import (
    MergeRequest,
    StoreRequest,
    merge_requested,
    parse_request,
    store_requested,
)
from tasks.retrying import retry_or_give_up
from tasks.services import services_of


# Whoever calls these by name waits for the version, so the answer, a few words, is kept.
@shared_task(name=routes.STORE, bind=True, ignore_result=False)
def store(self: Task[Any, Any], /, **fields: Any) -> dict[str, Any]:
    """Store small content or an envelope; once for each message, however often delivered.

    Never sealed: what came here, the broker has held in clear.
    """
    request = parse_request(StoreRequest, fields)
    once = request.operation_id or self.request.id
    try:
        return store_requested(services_of(self).store, request, once).summary()
    except TransientError as error:
        raise retry_or_give_up(self, error) from error


@shared_task(name=routes.MERGE, bind=True, ignore_result=False)
def merge(self: Task[Any, Any], /, **fields: Any) -> dict[str, Any]:
    """Merge one session's version into another's head."""
    request = parse_request(MergeRequest, fields)
    once = request.operation_id or self.request.id
    try:
        return merge_requested(services_of(self).store, request, once).summary()
    except TransientError as error:
        raise retry_or_give_up(self, error) from error
