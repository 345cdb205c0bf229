"""Key patterns of what Baton and Celery keep in Redis, in the server's glob language.

An id holds neither `:` nor a brace, so `{*}` at a pattern's end, and `}:` within one, stand at one
place of a key only. Braces mean themselves.
"""

from __future__ import annotations

from typing import Final

from baton import routes

# A session. Of its siblings only those of the audit, `access` and `authors` begin with an `a`.
SESSION: Final = "context:claude_max:{*}"
PLAIN_SIBLINGS: Final = f"{SESSION}:[^a]*"
AUTHORS: Final = f"{SESSION}:authors"
ACCESS: Final = f"{SESSION}:access"
METADATA: Final = f"{SESSION}:metadata"
CHECKPOINTS: Final = f"{SESSION}:checkpoints"
DATA_KEY: Final = f"{SESSION}:key"
AUDIT: Final = f"{SESSION}:audit"
AUDIT_STATE: Final = f"{SESSION}:audit_state"
AUDIT_SEALS: Final = f"{SESSION}:audit_seals"
# All but the audit and the notes: what holds, or describes, what was stored.
CONTENT: Final = (SESSION, PLAIN_SIBLINGS, AUTHORS)

# What the archive's pool is asked, and what it answers: questions and snippets are contents.
ARCHIVE_REQUESTS: Final = "archive:{*}:request"
ARCHIVE_ANSWERS: Final = "archive:{*}:answers"
ARCHIVE_WAITING: Final = "archive:waiting"
ARCHIVE_REPORT: Final = "archive:health"

LOCKS: Final = "locks:{*}"
AGENTS_INDEX: Final = "agents:index"
AGENTS: Final = (AGENTS_INDEX, "agents:{*}")
POOLS: Final = "pools:*"
SWEEPS: Final = ("sweep:*", "lifecycle:*")
MODELS: Final = "models:*"
METRICS: Final = "metrics:*"
METRICS_INDEX: Final = "metrics:index"
CLIENT_METRICS: Final = "metrics:{clients:all}*"
PROBES: Final = "health:*"

# A handoff. Of its siblings `results:*` and `reopen…` begin with an `r`, `merged` with an `m`,
# `drafts:*` and `due` with a `d`.
HANDOFF: Final = "handoff:{*}"
HANDOFFS: Final = ("handoffs:*", "handoff:*")
HANDOFF_LISTS: Final = ("handoffs:index", "handoffs:open")
RESULTS: Final = (f"{HANDOFF}:results:*", f"{HANDOFF}:drafts:*", f"{HANDOFF}:merged")
HANDOFF_BUT_RESULTS: Final = (
    *HANDOFF_LISTS,
    HANDOFF,
    f"{HANDOFF}:[^rmd]*",
    f"{HANDOFF}:due",
)
BUDGET: Final = f"{HANDOFF}:budget"

# Celery's, in the broker's database and in that of results.
QUEUES: Final = routes.QUEUES
BINDINGS: Final = "_kombu.binding*"
UNACKED: Final = ("unacked", "unacked_index", "unacked_mutex")
# The archive's pool keeps the messages it holds apart: `config.celery_options.unacked_keys`.
UNACKED_OF_ARCHIVE: Final = ("unacked:archive", "unacked:archive:*")
TASK_RESULTS: Final = ("celery-task-meta-*", "celery-taskset-meta-*", "chord-unlock-*")
RESULT_CHANNEL: Final = "celery-task-meta-*"


def event_channel(broker_database: int) -> str:
    """Where workers tell of tasks, and what Flower subscribes to, word for word."""
    return f"/{broker_database}.celeryev/*"
