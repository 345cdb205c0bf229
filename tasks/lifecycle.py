"""The sweeps that beat schedules. Each claims its period, so two beats do no harm."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task

from baton import routes
from baton.errors import TransientError
from tasks.retrying import retry_or_give_up
from tasks.services import services_of


@shared_task(name=routes.SWEEP_NODES, bind=True)
def sweep_nodes(self: Task[Any, Any]) -> int | None:
    """Re-enqueue lapsed nodes and due joins."""
    return services_of(self).sweeps.nodes()


@shared_task(name=routes.SWEEP_AGENTS, bind=True)
def sweep_agents(self: Task[Any, Any]) -> int | None:
    """Mark silent agents dead."""
    return services_of(self).sweeps.agents()


@shared_task(name=routes.SWEEP_ACCESS, bind=True)
def sweep_access(self: Task[Any, Any]) -> int | None:
    """Drain notes of reads."""
    return services_of(self).sweeps.access()


@shared_task(name=routes.AGE, bind=True)
def age(self: Task[Any, Any]) -> int | None:
    """Look at sessions whose time has come."""
    return services_of(self).sweeps.age()


@shared_task(name=routes.RECONCILE, bind=True)
def reconcile(self: Task[Any, Any]) -> int | None:
    """Find sessions that the due index does not know."""
    return services_of(self).sweeps.reconcile()


@shared_task(name=routes.COLLECT, bind=True)
def collect(self: Task[Any, Any]) -> int | None:
    """Collect versions, chunks and staged pieces that nothing needs."""
    return services_of(self).sweeps.collect()


@shared_task(name=routes.REFRESH_TTL, bind=True)
def refresh_ttl(self: Task[Any, Any], session_id: str) -> None:
    """Move the expiry of all keys of a session to its backstop from now."""
    try:
        services_of(self).store.refresh_expiry(session_id)
    except TransientError as error:
        raise retry_or_give_up(self, error) from error


@shared_task(name=routes.SEAL_AUDIT, bind=True)
def seal_audit(self: Task[Any, Any]) -> int | None:
    """Seal and anchor the audit trails."""
    return services_of(self).sweeps.seal_audit()
