"""The application's settings: the client's, and what concerns pools, sweeps and Celery."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads it when the class is made
from typing import Literal

from pydantic import Field, SecretStr

from baton.settings import DAY_SECONDS, ClientSettings


class AppSettings(ClientSettings):
    """Settings of workers, beat and their launcher. Frozen; secrets print as `***`."""

    result_url: SecretStr | None = Field(
        default=None, description="Celery's result store. Unset: the broker's database."
    )
    scripts_password: SecretStr | None = Field(
        default=None,
        description="Password of the Redis user `scripts`, for beat, which keeps scripts loaded. "
        "Unset: the file `scripts` in BATON_ACL_DIR.",
    )
    agents_processes: int = Field(
        default=1, ge=1, le=256, description="Worker processes of the agents pool."
    )
    agents_threads: int = Field(
        default=50, ge=1, le=1_000, description="Nodes that one agents process runs at once."
    )
    context_threads: int = Field(
        default=8, ge=1, le=256, description="Starts and joins that run at once."
    )
    lifecycle_threads: int = Field(
        default=3,
        ge=1,
        le=64,
        description="Sweeps that run at once; each runs once a period, and two of them may be at "
        "it for minutes: those that look through all keys.",
    )
    node_sweep_seconds: float = Field(
        default=10.0, ge=0.5, le=3600, description="Period of the sweep for lapsed nodes and joins."
    )
    agent_sweep_seconds: float = Field(
        default=30.0, ge=0.5, le=DAY_SECONDS, description="Period of the sweep for dead agents."
    )
    access_sweep_seconds: float = Field(
        default=60.0, ge=0.5, le=DAY_SECONDS, description="Period of the drain of access notes."
    )
    age_sweep_seconds: float = Field(
        default=60.0, ge=0.5, le=DAY_SECONDS, description="Period of the look at due sessions."
    )
    reconcile_sweep_seconds: float = Field(
        default=3600.0,
        ge=0.5,
        le=DAY_SECONDS,
        description="Period of the search for sessions that the due index does not know; new ones "
        "become known by it.",
    )
    collect_sweep_seconds: float = Field(
        default=3600.0,
        ge=0.5,
        le=DAY_SECONDS,
        description="Period of the collection of versions, chunks and staged pieces that nothing "
        "needs.",
    )
    archive_sweep_seconds: float = Field(
        default=60.0, ge=0.5, le=DAY_SECONDS, description="Period of the archiving of due sessions."
    )
    settle_sweep_seconds: float = Field(
        default=300.0,
        ge=0.5,
        le=DAY_SECONDS,
        description="Period of putting the archive right after crashes.",
    )
    purge_sweep_seconds: float = Field(
        default=600.0, ge=0.5, le=1800.0, description="Period of the purge."
    )
    audit_seal_seconds: float = Field(
        default=60.0,
        ge=0.5,
        le=DAY_SECONDS,
        description="Period of the sealing of audit trails: how long an entry can be changed "
        "without a trace by who can write to Redis.",
    )
    audit_carry_seconds: float = Field(
        default=600.0,
        ge=0.5,
        le=DAY_SECONDS,
        description="Period of carrying sealed audit trails to the archive's folder.",
    )
    visibility_timeout_seconds: float = Field(
        default=60.0,
        ge=2,
        le=DAY_SECONDS,
        description="Silence of a worker after which its messages go to another. Running tasks "
        "renew it, so it may be shorter than they are. The same everywhere: the shortest wins.",
    )
    events: bool = Field(
        default=False,
        description="Send task events, which Flower lives from; doubles a worker's CPU time per "
        "message.",
    )
    flower: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Whether the launcher starts Flower: `auto`: where it is installed and its "
        "port is free; `on`: or nothing starts. With it, `events` are on.",
    )
    flower_address: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address that Flower listens on. Beyond this machine it needs a password of "
        "yours, and a proxy that speaks TLS.",
    )
    flower_port: int = Field(default=5555, ge=1, le=65_535, description="Port of Flower.")
    flower_user: str = Field(
        default="baton", pattern=r"^[\w.-]{1,64}$", description="Who may log in to Flower."
    )
    flower_password: SecretStr | None = Field(
        default=None,
        min_length=12,
        description="Flower's password: 12 characters or more of ASCII, no spaces. Unset: that of "
        "the file.",
    )
    flower_password_file: Path | None = Field(
        default=None,
        description="File of Flower's password, open to its owner alone. Unset: one is made in "
        "the state folder; `~` is the home folder.",
    )
    flower_max_tasks: int = Field(
        default=10_000, ge=100, le=1_000_000, description="Tasks that Flower remembers."
    )
    result_expires_seconds: int = Field(
        default=3600, ge=60, le=30 * DAY_SECONDS, description="How long a task's result is kept."
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1024,
        le=65_000,
        description="First of four ports of Prometheus endpoints, one for each pool: agents, "
        "context, lifecycle, archive. Unset: none are served.",
    )
    metrics_address: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address that they listen on. They have no password: only where a firewall or "
        "a private network keeps others away may it be another than this machine's own.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least level that workers and beat log."
    )
    restart_backoff_min_seconds: float = Field(
        default=0.5, ge=0.05, le=60, description="Wait before a dead pool's first restart."
    )
    restart_backoff_max_seconds: float = Field(
        default=30.0,
        ge=0.05,
        le=3600,
        description="Longest wait between restarts; a pool that lived that long starts anew.",
    )
    warm_shutdown_seconds: float = Field(
        default=20.0,
        ge=0,
        le=3600,
        description="How long running tasks may take to finish when the stack is stopped.",
    )
    runner_functions: dict[str, str] = Field(
        default_factory=dict,
        description='Functions as runners: JSON, `{"name": "module:function"}`.',
    )
    runner_path: Path | None = Field(
        default=None,
        description="Folder that runner functions are imported from, after everything installed. "
        "The launcher sets it to the folder it was started in.",
    )
    lifeline_fd: int | None = Field(
        default=None,
        ge=3,
        le=1 << 20,
        description="Inherited pipe whose end means that the parent is gone; set by the launcher.",
    )
