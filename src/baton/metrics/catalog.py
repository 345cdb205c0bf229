"""Every metric: its name, type, labels, and where its values come from. One table for all.

The first five are the protocol's. None has a label of a session, agent or handoff: the values of
each label are listed here, or come from this deployment's settings, so that the number of series
does not grow with use (fault I18).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, get_args

from baton import routes

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["counter", "gauge", "histogram"]
# `pool`: added up from the processes of the pool whose endpoint is asked, of one machine.
# `deployment`: read from Redis when the lifecycle pool's endpoint is asked; the same for all.
Source = Literal["pool", "deployment"]

NANO: Final = 1e-9
_MILLISECONDS: Final = (10.0, 50.0, 100.0, 500.0, 1000.0)  # the protocol's
_BYTES: Final = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
_NODE_SECONDS: Final = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0)
_HANDOFF_SECONDS: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0)

NODE_ENDS: Final = ("ok", "failed", "cancelled", "lost", "skipped", "over_budget")
HANDOFF_ENDS: Final = ("done", "degraded", "failed", "cancelled")
CONFLICT_ENDS: Final = ("merged", "merge_required", "accepted_with_divergence", "rejected")
MISS_REASONS: Final = ("below_minimum", "not_warmed", "expired_or_evicted", "another_model")
TOKEN_KINDS: Final = ("input", "output", "cache_write", "cache_read")
WORKER_STATES: Final = ("up", "starting", "backing_off", "down")
AGENT_STATES: Final = ("active", "dead")
ARCHIVE_STATES: Final = ("archived", "copied", "held")
POOLS: Final = (*routes.QUEUES, "beat")

# Of a label whose values settings name: what one process may add before the rest is `other`.
MOST_VALUES: Final = 50
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class Metric:
    """One row. `labels`: name -> its values; empty where settings name them (at most 50).

    `scale` is what a stored whole number is multiplied by; `buckets` are a histogram's upper
    bounds.
    """

    name: str
    kind: Kind
    source: Source
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()
    scale: float = 1.0


def _counted(
    name: str, text: str, labels: Mapping[str, tuple[str, ...]] | None = None, scale: float = 1.0
) -> Metric:
    return Metric(name, "counter", "pool", text, labels or {}, scale=scale)


def _timed(
    name: str,
    text: str,
    buckets: tuple[float, ...],
    labels: Mapping[str, tuple[str, ...]] | None = None,
) -> Metric:
    return Metric(name, "histogram", "pool", text, labels or {}, buckets)


def _read(
    name: str,
    text: str,
    labels: Mapping[str, tuple[str, ...]] | None = None,
    kind: Kind = "gauge",
) -> Metric:
    return Metric(name, kind, "deployment", text, labels or {})


# --- the protocol's ------------------------------------------------------------------------------
CONTEXT_STORE: Final = _counted(
    "context_store_total",
    "Writes of contexts that reached Redis.",
    {"status": ("success", "error")},
)
CONTEXT_STORE_DURATION: Final = _timed(
    "context_store_duration_ms", "How long such a write took, in milliseconds.", _MILLISECONDS
)
CONTEXT_SIZE: Final = _timed(
    "context_size_bytes", "Size of what was written, in bytes of UTF-8.", _BYTES
)
ACTIVE_SESSIONS: Final = _read(
    "active_sessions_total", "Agents that are active: the protocol's Claude sessions."
)
VERSION_CONFLICTS: Final = _counted(
    "version_conflicts_total",
    "Writes that met another writer's, by what became of them.",
    {"resolution_strategy": CONFLICT_ENDS},
)

# --- handoffs and their nodes --------------------------------------------------------------------
HANDOFFS: Final = _counted(
    "baton_handoffs_total", "Handoffs that ended, by state.", {"state": HANDOFF_ENDS}
)
HANDOFF_DURATION: Final = _timed(
    "baton_handoff_duration_seconds", "From the submission to the end; retries aside.",
    _HANDOFF_SECONDS, {"state": HANDOFF_ENDS},
)  # fmt: skip
NODES: Final = _counted(
    "baton_nodes_total", "Nodes of ended handoffs, by the state they ended in.",
    {"state": NODE_ENDS},
)  # fmt: skip
NODE_RUNS: Final = _counted(
    "baton_node_runs_total", "Runs of nodes: attempts and continuations.",
    {"runner": (), "result": ("ok", "failed", "transient", "over_budget", "fenced")},
)  # fmt: skip
NODE_RUN_DURATION: Final = _timed(
    "baton_node_run_duration_seconds", "How long a runner took for one run.", _NODE_SECONDS,
    {"runner": ()},
)  # fmt: skip
HANDOFFS_OPEN: Final = _read("baton_handoffs_open", "Handoffs that have not ended.")

# --- what models cost ----------------------------------------------------------------------------
TOKENS: Final = _counted(
    "baton_tokens_total", "Tokens that nodes used, whatever became of them.",
    {"kind": TOKEN_KINDS},
)  # fmt: skip
COST: Final = _counted("baton_cost_usd_total", "What they cost, in US dollars.", scale=NANO)
CACHE_HITS: Final = _counted(
    "baton_prompt_cache_hits_total", "Calls that read from the prompt cache."
)
CACHE_WRITES: Final = _counted(
    "baton_prompt_cache_writes_total", "Calls that wrote to it and read nothing."
)
CACHE_MISSES: Final = _counted(
    "baton_prompt_cache_misses_total", "Calls that should have read from it and did not.",
    {"reason": MISS_REASONS},
)  # fmt: skip
CACHE_TOKENS: Final = _counted(
    "baton_prompt_cache_tokens_total", "Prompt tokens by what the cache had to do with them.",
    {"kind": ("read", "written", "fresh")},
)  # fmt: skip
CACHE_SAVED: Final = Metric(
    "baton_prompt_cache_saved_usd", "gauge", "pool",
    "US dollars saved so far. It falls where writes cost more than reads saved.", scale=NANO,
)  # fmt: skip

# --- the archive ---------------------------------------------------------------------------------
ARCHIVED: Final = _counted("baton_archive_archived_total", "Sessions archived.")
RESTORED: Final = _counted("baton_archive_restored_total", "Sessions restored.")
PURGED: Final = _counted("baton_archive_purged_total", "Sessions purged.")
ARCHIVE_FAILURES: Final = _counted(
    "baton_archive_failures_total", "What the archive could not do.",
    {"operation": ("archive", "restore", "purge", "search")},
)  # fmt: skip
ARCHIVE_BYTES: Final = _counted(
    "baton_archive_bytes_total", "Sealed bytes that were new to the archive."
)
ARCHIVE_PASSAGES: Final = _counted(
    "baton_archive_passages_total", "Passages that were new to its index."
)
ARCHIVE_DUE: Final = _read("baton_archive_due_sessions", "Sessions that wait to be archived.")
ARCHIVE_SESSIONS: Final = _read(
    "baton_archive_sessions",
    "Sessions in the archive: all there is of them, a copy of what is in Redis, held from purging.",
    {"state": ARCHIVE_STATES},
)
ARCHIVE_HEALTHY: Final = _read(
    "baton_archive_healthy", "1: its index finds what is in it; 0: not, or rows are missing."
)
ARCHIVE_REPORT_AGE: Final = _read(
    "baton_archive_report_age_seconds", "Age of the report that these are from."
)
ARCHIVE_SEARCHABLE: Final = _read(
    "baton_archive_searchable_passages", "Passages that should be found."
)
ARCHIVE_WAITING: Final = _read(
    "baton_archive_waiting_sessions", "Sessions that are archived and not yet searchable."
)
ARCHIVE_FREE: Final = _read("baton_archive_free_bytes", "Room on the archive's disk.")
SESSIONS: Final = _read("baton_sessions", "Sessions in Redis, as the sweeps know them.")

# --- sweeps, queues, pools, Redis ----------------------------------------------------------------
SWEEP_AGE: Final = _read(
    "baton_sweep_seconds_since_success", "Age of the last success.", {"sweep": ()}
)
SWEEP_LATE: Final = _read(
    "baton_sweep_late", "1: it has not succeeded for three periods.", {"sweep": ()}
)
SWEEP_RUNNING: Final = _read("baton_sweep_running", "1: it runs now.", {"sweep": ()})
SWEEP_RUNS: Final = _read("baton_sweep_runs_total", "Runs begun.", {"sweep": ()}, "counter")
SWEEP_FAILURES: Final = _read(
    "baton_sweep_failures_total", "Runs that failed.", {"sweep": ()}, "counter"
)
SWEEP_ITEMS: Final = _read(
    "baton_sweep_items_total", "What its successes did together.", {"sweep": ()}, "counter"
)
SWEEP_BUSY: Final = _read(
    "baton_sweep_busy_seconds_total", "Time spent in ended runs.", {"sweep": ()}, "counter"
)
QUEUE_DEPTH: Final = _read(
    "baton_queue_depth", "Messages that no worker has taken.", {"queue": routes.QUEUES}
)
QUEUE_AGE: Final = _read(
    "baton_queue_oldest_seconds", "Age of the oldest of them; 0 where there is none.",
    {"queue": routes.QUEUES},
)  # fmt: skip
AGENTS: Final = _read("baton_agents", "Registered agents.", {"state": AGENT_STATES})
POOL_WORKERS: Final = _read(
    "baton_pool_workers", "Worker processes, and beat.", {"pool": POOLS, "state": WORKER_STATES}
)
POOL_RESTARTS: Final = _read(
    "baton_pool_restarts", "Restarts of the processes that run, since the stack's start.",
    {"pool": POOLS},
)  # fmt: skip
REDIS_UP: Final = _read("baton_redis_up", "1: Redis answered this scrape.")
REDIS_MEMORY: Final = _read("baton_redis_memory_bytes", "Memory that Redis uses.")
REDIS_MEMORY_LIMIT: Final = _read("baton_redis_memory_limit_bytes", "Its maxmemory; 0: none.")
REDIS_DURABLE: Final = _read(
    "baton_redis_durable", "1: it writes an append-only file, and evicts nothing."
)

CATALOG: Final = tuple(each for each in list(globals().values()) if isinstance(each, Metric))
BY_NAME: Final = {metric.name: metric for metric in CATALOG}
SOURCES: Final[tuple[Source, ...]] = get_args(Source)
