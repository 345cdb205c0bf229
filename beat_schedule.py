"""Data only: which sweep runs when, on which queue.

Beat keeps no state and may run twice: each sweep claims its period in Redis.
"""

from __future__ import annotations

from typing import Any, Final

from baton import routes

# A beat counts from its own start: one that is restarted every hour would never get to what is
# scheduled every day. So it asks at least this often, and the sweep claims its own period.
LONGEST_TICK_SECONDS: Final = 60.0


def schedule(  # noqa: PLR0913  # the sweeps, by name
    *,
    nodes_seconds: float,
    agents_seconds: float,
    access_seconds: float,
    audit_seconds: float,
    age_seconds: float,
    reconcile_seconds: float,
    collect_seconds: float,
    archive_seconds: float,
    settle_seconds: float,
    purge_seconds: float,
    audit_carry_seconds: float,
) -> dict[str, dict[str, Any]]:
    """Celery's `beat_schedule`, with these periods."""
    return {
        "re-enqueue lapsed nodes and due joins": _every(nodes_seconds, routes.SWEEP_NODES),
        "clean up dead agents": _every(agents_seconds, routes.SWEEP_AGENTS),
        "drain access notes": _every(access_seconds, routes.SWEEP_ACCESS),
        "seal the audit": _every(audit_seconds, routes.SEAL_AUDIT),
        "age sessions": _every(age_seconds, routes.AGE),
        "find sessions unknown to the due index": _every(reconcile_seconds, routes.RECONCILE),
        "collect what nothing needs": _every(collect_seconds, routes.COLLECT),
        "archive what is due": _every(archive_seconds, routes.ARCHIVE_DUE),
        "put the archive right": _every(settle_seconds, routes.ARCHIVE_SETTLE),
        "purge what is past its time": _every(purge_seconds, routes.ARCHIVE_PURGE),
        "carry the audit to the archive": _every(audit_carry_seconds, routes.ARCHIVE_AUDIT),
    }


def _every(seconds: float, task: str) -> dict[str, Any]:
    tick_seconds = min(seconds, LONGEST_TICK_SECONDS)
    # It expires with its tick: workers that come back find one sweep to do, not a day's.
    options = {"queue": routes.QUEUE_OF[task], "expires": tick_seconds}
    return {"task": task, "schedule": tick_seconds, "options": options}
