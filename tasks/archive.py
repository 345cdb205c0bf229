"""The archive's tasks: its scheduled passes, and what is asked of it on demand."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task

from baton import routes
from baton.archive.requests import perform, refuse
from baton.errors import ArchiveAnswerError, BatonError, TransientError
from tasks.retrying import retry_or_give_up
from tasks.services import services_of


@shared_task(name=routes.ARCHIVE_DUE, bind=True)
def sweep_due(self: Task[Any, Any]) -> int | None:
    """Archive what is due."""
    return services_of(self).sweeps.archive()


@shared_task(name=routes.ARCHIVE_SETTLE, bind=True)
def settle(self: Task[Any, Any]) -> int | None:
    """Put the archive right after crashes."""
    return services_of(self).sweeps.settle()


@shared_task(name=routes.ARCHIVE_PURGE, bind=True)
def sweep_purge(self: Task[Any, Any]) -> int | None:
    """Erase archived sessions past their time."""
    return services_of(self).sweeps.purge()


@shared_task(name=routes.ARCHIVE_AUDIT, bind=True)
def carry_audit(self: Task[Any, Any]) -> int | None:
    """Carry sealed audit segments to the archive's file."""
    return services_of(self).sweeps.carry_audit()


@shared_task(name=routes.ARCHIVE_DO, bind=True)
def do(self: Task[Any, Any], request_id: str) -> bool:
    """Do what a request asks of the archive, and answer it where it was left."""
    services = services_of(self)
    desk = services.archive_desk
    try:
        return perform(services.archive, desk, request_id)
    except TransientError as error:
        again = retry_or_give_up(self, error)
        if again is error:
            refuse(desk, request_id, error)
        raise again from error
    except BatonError as error:
        refuse(desk, request_id, error)
        raise
    except Exception as error:  # whoever asked must not wait for what nobody will answer
        reason = f"the archive's pool failed ({type(error).__name__}); its log tells why"
        refuse(desk, request_id, ArchiveAnswerError(reason))
        raise


# Whoever calls these by name waits for the answer, ids and numbers, so it is kept.
@shared_task(name=routes.ARCHIVE_SESSION, bind=True, ignore_result=False)
def archive_session(self: Task[Any, Any], session_id: str) -> dict[str, Any]:
    """Archive one session now. Idempotent; `outcome` is `kept` where it was used meanwhile."""
    try:
        done = services_of(self).archive.archive(session_id)
    except TransientError as error:
        raise retry_or_give_up(self, error) from error
    return {
        "session_id": done.session_id,
        "outcome": done.outcome,
        "version": done.version,
        "passages": done.passages,
        "embedded": done.embedded,
    }


@shared_task(name=routes.RESTORE_SESSION, bind=True, ignore_result=False)
def restore_session(self: Task[Any, Any], session_id: str) -> dict[str, Any]:
    """Bring one session back. Idempotent until it is archived again."""
    try:
        done = services_of(self).archive.restore(session_id)
    except TransientError as error:
        raise retry_or_give_up(self, error) from error
    return {"session_id": done.session_id, "version": done.version, "was_here": done.was_here}


@shared_task(name=routes.PURGE_SESSION, bind=True, ignore_result=False)
def purge_session(self: Task[Any, Any], session_id: str) -> dict[str, Any]:
    """Erase every archived copy of one session for good. Idempotent."""
    try:
        done = services_of(self).archive.purge(session_id)
    except TransientError as error:
        raise retry_or_give_up(self, error) from error
    return {"session_id": session_id, "erased": len(done)}
