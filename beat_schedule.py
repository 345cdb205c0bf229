"""Data only: which sweep runs when, on which queue.

Beat keeps no state and may run twice: each sweep claims its period in Redis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from baton import routes

if TYPE_CHECKING:
    from config.settings import AppSettings


def schedule(settings: AppSettings) -> dict[str, dict[str, Any]]:
    """Celery's `beat_schedule`, with the periods of `settings`."""
    return {
        "re-enqueue lapsed nodes and due joins": _every(
            settings.node_sweep_seconds, routes.SWEEP_NODES
        ),
        "clean up dead agents": _every(settings.agent_sweep_seconds, routes.SWEEP_AGENTS),
        "drain access notes": _every(settings.access_sweep_seconds, routes.SWEEP_ACCESS),
    }


def _every(seconds: float, task: str) -> dict[str, Any]:
    # It expires with its period: workers that come back find one sweep to do, not a day's.
    options = {"queue": routes.QUEUE_OF[task], "expires": seconds}
    return {"task": task, "schedule": seconds, "options": options}
