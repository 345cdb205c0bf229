"""The names that travel: tasks and queues. They are wire format; changing one is a migration."""

from __future__ import annotations

from typing import Final

START: Final = "handoff.start"
RUN: Final = "agent.run"
JOIN: Final = "handoff.join"
STORE: Final = "context.store"
MERGE: Final = "context.merge"
SWEEP_AGENTS: Final = "lifecycle.sweep_agents"
SWEEP_NODES: Final = "lifecycle.sweep_nodes"
SWEEP_ACCESS: Final = "lifecycle.sweep_access"
SEAL_AUDIT: Final = "lifecycle.seal_audit"
AGE: Final = "lifecycle.age"
RECONCILE: Final = "lifecycle.reconcile"
COLLECT: Final = "lifecycle.collect"
ARCHIVE_DUE: Final = "archive.sweep_due"
ARCHIVE_SETTLE: Final = "archive.settle"
ARCHIVE_PURGE: Final = "archive.sweep_purge"
ARCHIVE_AUDIT: Final = "archive.carry_audit"
ARCHIVE_DO: Final = "archive.do"
ARCHIVE_SESSION: Final = "archive.archive"
RESTORE_SESSION: Final = "archive.restore"
PURGE_SESSION: Final = "archive.purge"
REFRESH_TTL: Final = "lifecycle.refresh_ttl"

AGENTS: Final = "agents"
CONTEXT: Final = "context"
LIFECYCLE: Final = "lifecycle"
ARCHIVE: Final = "archive"

# A message header: when it was published, ms since 1970 by its publisher's clock.
SENT_AT: Final = "baton_sent_at_ms"

QUEUES: Final = (AGENTS, CONTEXT, LIFECYCLE, ARCHIVE)

QUEUE_OF: Final[dict[str, str]] = {
    START: CONTEXT,
    RUN: AGENTS,
    JOIN: CONTEXT,
    STORE: CONTEXT,
    MERGE: CONTEXT,
    SWEEP_AGENTS: LIFECYCLE,
    SWEEP_NODES: LIFECYCLE,
    SWEEP_ACCESS: LIFECYCLE,
    SEAL_AUDIT: LIFECYCLE,
    AGE: LIFECYCLE,
    RECONCILE: LIFECYCLE,
    COLLECT: LIFECYCLE,
    ARCHIVE_DUE: ARCHIVE,
    ARCHIVE_SETTLE: ARCHIVE,
    ARCHIVE_PURGE: ARCHIVE,
    ARCHIVE_AUDIT: ARCHIVE,
    ARCHIVE_DO: ARCHIVE,
    ARCHIVE_SESSION: ARCHIVE,
    RESTORE_SESSION: ARCHIVE,
    PURGE_SESSION: ARCHIVE,
    REFRESH_TTL: LIFECYCLE,
}
