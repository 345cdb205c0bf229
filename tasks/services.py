"""How a task gets at the services of the worker it runs in, without importing the workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from celery import Task

    from baton.archive.requests import RequestDesk
    from baton.archive.service import ArchiveService
    from baton.handoff.engine import HandoffEngine
    from baton.lifecycle.sweeps import Sweeps
    from baton.store.contexts import ContextStore


class Services(Protocol):
    """What the running app offers its tasks as `app.runtime`."""

    @property
    def engine(self) -> HandoffEngine:
        """Moves handoffs along."""

    @property
    def store(self) -> ContextStore:
        """The contexts."""

    @property
    def archive(self) -> ArchiveService:
        """The archive, in the pool that has it."""

    @property
    def archive_desk(self) -> RequestDesk:
        """Where requests to the archive are left and answered."""

    @property
    def sweeps(self) -> Sweeps:
        """The scheduled passes."""


def services_of(task: Task[Any, Any]) -> Services:
    """The services of the process that runs `task`."""
    return cast("Services", cast("Any", task.app).runtime)
