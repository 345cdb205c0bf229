"""Writes to contexts for clients that speak Celery only, and merges on demand, by reference."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task

from baton import routes
from baton.errors import InvalidInputError, TransientError
from baton.store.requests import MergeRequest, StoreRequest, parse_request
from tasks.retrying import retry_or_give_up
from tasks.services import services_of


# Whoever calls these by name waits for the version, so the answer, a few words, is kept.
@shared_task(name=routes.STORE, bind=True, ignore_result=False)
def store(self: Task[Any, Any], /, **fields: Any) -> dict[str, Any]:
    """Store small content or an envelope; once for each message, however often delivered."""
    request = parse_request(StoreRequest, fields)
    once = request.operation_id or self.request.id
    given = request.model_dump(exclude={"session_id", "content", "envelope", "operation_id"})
    try:
        if request.envelope is not None and request.content is None:
            commit = services_of(self).store.import_envelope(
                request.envelope,
                session_id=request.session_id,
                agent_id=request.agent_id,
                base_version=request.base_version,
                sealed=request.sealed,
                operation_id=once,
            )
        elif request.content is not None and request.envelope is None:
            commit = services_of(self).store.put(
                request.session_id, request.content, **given, operation_id=once
            )
        else:
            raise InvalidInputError("content", "either it or envelope", "<both or none>")
    except TransientError as error:
        raise retry_or_give_up(self, error) from error
    return commit.summary()


@shared_task(name=routes.MERGE, bind=True, ignore_result=False)
def merge(self: Task[Any, Any], /, **fields: Any) -> dict[str, Any]:
    """Merge one session's version into another's head."""
    request = parse_request(MergeRequest, fields)
    once = request.operation_id or self.request.id
    try:
        commit = services_of(self).store.merge(
            **request.model_dump(exclude={"operation_id"}), operation_id=once
        )
    except TransientError as error:
        raise retry_or_give_up(self, error) from error
    return commit.summary()
