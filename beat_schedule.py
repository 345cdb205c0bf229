"""Data only: which sweep runs when, on which queue.

Beat keeps no state and may run twice: each sweep claims its period in Redis.
"""

from __future__ import annotations

from typing import Any

from baton import routes


def schedule(
    *, nodes_seconds: float, agents_seconds: float, access_seconds: float, audit_seconds: float
) -> dict[str, dict[str, Any]]:
    """Celery's `beat_schedule`, with these periods."""
    return {
        "re-enqueue lapsed nodes and due joins": _every(nodes_seconds, routes.SWEEP_NODES),
        "clean up dead agents": _every(agents_seconds, routes.SWEEP_AGENTS),
        "drain access notes": _every(access_seconds, routes.SWEEP_ACCESS),
        "seal the audit": _every(audit_seconds, routes.SEAL_AUDIT),
    }


def _every(seconds: float, task: str) -> dict[str, Any]:
    # It expires with its period: workers that come back find one sweep to do, not a day's.
    options = {"queue": routes.QUEUE_OF[task], "expires": seconds}
    return {"task": task, "schedule": seconds, "options": options}
