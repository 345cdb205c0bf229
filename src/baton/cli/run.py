"""`baton run`: files and tasks in, a merged result and a new version out, by one command."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from baton.cli.asking import CAPACITY_TOKENS, ROLE, checked_budget, checked_tasks
from baton.cli.connection import client_settings, open_redis
from baton.cli.exits import CANCELLED, HANDOFF_CODES, code_of_state, epilog
from baton.cli.files import read_context
from baton.cli.following import cancel_and_wait, follow
from baton.cli.interrupts import Interrupts
from baton.cli.options import (  # noqa: TC001 - Typer reads them
    AllowVolatile,
    BudgetTokens,
    BudgetUsd,
    Deadline,
    Json,
    Policy,
    Runner,
)
from baton.cli.progress import progress_view
from baton.cli.report import show_handoff, state_of
from baton.cli.stack import Stack
from baton.cli.writing import find_head, require_written
from baton.coordinator import RedisSwarmCoordinator
from baton.errors import StoreUnavailableError
from baton.ids import check_id, new_session_id

if TYPE_CHECKING:
    from baton.agents.budget import Budget
    from baton.cli.progress import Progress
    from baton.handoff.handle import Handoff
    from baton.handoff.request import TaskSpec
    from baton.settings import ClientSettings

_HEARTBEAT_SECONDS: Final = 30.0

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for, checked: nothing has been started for it yet."""

    context: str
    tasks: tuple[TaskSpec, ...]
    session_id: str
    policy: str
    budget: Budget | None
    timeout_seconds: float | None


@app.command(
    epilog=epilog(
        'baton run --context notes.md "list the open questions" "outline"',
        'git diff | baton run --context - --json "count TODO" > report.json',
        codes=HANDOFF_CODES,
    )
)
def run(  # noqa: PLR0913, PLR0917  # a command's options
    tasks: Annotated[
        list[str], typer.Argument(metavar="TASK", help="What to do, one worker each.")
    ],
    context: Annotated[
        list[str],
        typer.Option(
            "--context",
            metavar="FILE",
            help="UTF-8 text file, - for standard input; may be repeated. One file is taken as "
            "it is; of several, each stands under a heading line, '# FILE'.",
        ),
    ],
    session: Annotated[
        str | None,
        typer.Option(
            "--session", metavar="ID", help="Write the context on top of this session's head."
        ),
    ] = None,
    runner: Runner = None,
    policy: Policy = "best_effort",
    budget_tokens: BudgetTokens = None,
    budget_usd: BudgetUsd = None,
    deadline: Deadline = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", metavar="SECONDS", min=0.1, help="Cancel the handoff after this long."
        ),
    ] = None,
    allow_volatile: AllowVolatile = False,
    as_json: Json = False,
) -> None:
    """Hand files and tasks to workers; print their merged result.

    Uses the stack that runs (BATON_REDIS_URL, or `baton up`), else starts one for as long as it
    needs it, though not on a Redis that may lose what is stored. Sessions stay: `baton context
    list` shows them. Ctrl-C cancels the handoff and stops what was started.
    """
    with Interrupts() as interrupts:
        try:
            settings = client_settings()
            if allow_volatile:
                settings = settings.model_copy(update={"allow_volatile": True})
            job = Job(
                read_context(context, "--context", settings.max_context_bytes),
                checked_tasks(tasks, runner, policy, settings),
                new_session_id() if session is None else check_id(session, "--session"),
                policy,
                checked_budget(budget_tokens, budget_usd, deadline),
                timeout,
            )
            code = _carry_out(job, settings, interrupts, as_json=as_json)
        except KeyboardInterrupt:
            progress_view().note("Cancelled before anything was handed off.")
            code = CANCELLED
    raise typer.Exit(code)


def _carry_out(job: Job, settings: ClientSettings, interrupts: Interrupts, *, as_json: bool) -> int:
    progress = progress_view()
    with (
        open_redis(settings, fall_back=True) as where,
        RedisSwarmCoordinator(redis_url=where.url, settings=where.settings) as coordinator,
    ):
        find_head(coordinator.store, job.session_id)  # an archived one ends it before it begins
        with (
            Stack(
                where, coordinator.redis, say=progress.note, hurry=lambda: interrupts.hurry
            ) as stack,
            interrupts.held_at_end(),
        ):
            if stack.starting:
                progress.note(f"Starting worker pools; their logs: {settings.state_dir / 'logs'}")
            work = _Run(job, coordinator, stack, progress, interrupts)
            return work.carry_out(as_json=as_json)


class _Run:
    """One run on an open store and a stack that is on its way."""

    def __init__(
        self,
        job: Job,
        coordinator: RedisSwarmCoordinator,
        stack: Stack,
        progress: Progress,
        interrupts: Interrupts,
    ) -> None:
        self._job = job
        self._coordinator = coordinator
        self._stack = stack
        self._progress = progress
        self._interrupts = interrupts
        self._agent_id = ""
        self._heartbeat_due_at = 0.0

    def carry_out(self, *, as_json: bool) -> int:
        """Store the context while the pools start, hand off, follow, report; the exit code."""
        version = self._store_context()
        self._stack.await_ready()
        handoff: Handoff | None = None
        try:
            with self._interrupts.deferred():  # or it would run on, and nobody knew its id
                handoff = self._coordinator.handoffs.submit(
                    self._job.session_id,
                    self._job.tasks,
                    agent_id=self._agent_id,
                    context_version=version,
                    policy=self._job.policy,
                    budget=self._job.budget,
                )
            self._follow(handoff)
        except (KeyboardInterrupt, TimeoutError) as reason:
            if handoff is None:
                raise
            return self._end_early(handoff, reason, as_json=as_json)
        outcome = handoff.outcome()
        show_handoff(handoff, outcome, outcome.state, as_json=as_json)
        return code_of_state(outcome.state)

    def _store_context(self) -> str:
        """Put the context on top of the session's head; the version it became."""
        session_id = self._job.session_id
        agent = self._coordinator.registry.register(
            ROLE, context_capacity=CAPACITY_TOKENS, session_id=session_id
        )
        self._agent_id = agent.agent_id
        store = self._coordinator.store
        base = find_head(store, session_id)
        # Rejected rather than merged: what is handed off is what the files say.
        commit = store.put(
            session_id,
            self._job.context,
            agent_id=self._agent_id,
            base_version=base,
            policy="reject",
        )
        return require_written(commit, session_id, base).version

    def _follow(self, handoff: Handoff) -> None:
        with self._progress.showing(handoff):
            follow(
                handoff,
                self._progress,
                each_second=self._keep_alive,
                timeout_seconds=self._job.timeout_seconds,
            )

    def _keep_alive(self) -> None:
        self._stack.keep()
        if time.monotonic() >= self._heartbeat_due_at:
            self._heartbeat_due_at = time.monotonic() + _HEARTBEAT_SECONDS
            self._coordinator.heartbeat(self._agent_id)

    def _end_early(self, handoff: Handoff, reason: BaseException, *, as_json: bool) -> int:
        """Cancel, whatever signals come now. Without an answer, what runs is stopped by force."""
        self._interrupts.hold()
        why = "Interrupted" if isinstance(reason, KeyboardInterrupt) else "Out of time"
        self._progress.note(f"{why}: cancelling {handoff.handoff_id}. Ctrl-C again leaves at once.")
        try:
            outcome = cancel_and_wait(handoff, lambda: self._interrupts.hurry)
            if not outcome.ended:
                self._stack.rush()
            state = state_of(outcome, cancelled=True)
            show_handoff(handoff, outcome, state, as_json=as_json)
        except StoreUnavailableError as error:
            self._stack.rush()
            self._progress.note(f"{handoff.handoff_id} may go on: {error}")
            return CANCELLED
        return code_of_state(state)
