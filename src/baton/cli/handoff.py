"""`baton handoff …`: submit handoffs, and see what becomes of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from baton.agents.breakers import HandoffBreakers
from baton.cli import packages
from baton.cli.asking import CAPACITY_TOKENS, ROLE, checked_budget, checked_tasks
from baton.cli.connection import client_settings, open_client, open_redis
from baton.cli.contents import write_exactly
from baton.cli.escaping import escape_line
from baton.cli.exits import (
    DONE,
    FAILED,
    HANDOFF_CODES,
    STORE_CODES,
    code_of_state,
    epilog,
)
from baton.cli.following import follow
from baton.cli.options import (  # noqa: TC001 - Typer
    BudgetTokens,
    BudgetUsd,
    Deadline,
    HandoffId,
    Json,
    Limit,
    Policy,
    Runner,
    Session,
)
from baton.cli.output import instant, plain, say, show_fields, show_json, show_table, show_text
from baton.cli.packages import package_parts, read_package_file, show_acknowledgement
from baton.cli.progress import event_line, progress_view
from baton.cli.report import handoff_json, show_errors, show_handoff, spending, summary
from baton.cli.stack import pools_up
from baton.cli.tree import NodeTree, counts
from baton.coordinator import RedisSwarmCoordinator
from baton.handoff.accounts import Accounts
from baton.handoff.handle import Handoff
from baton.handoff.tree import HandoffTree
from baton.handoff.view import HandoffView
from baton.ids import check_id
from baton.swarm.pools import PoolBoard

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from baton.handoff.view import Event

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
app.add_typer(packages.app)


@app.callback(
    epilog=epilog(
        'baton handoff submit notes "list the open questions" --wait',
        "baton handoff watch handoff_8a3f19c2d4e5f607",
        codes=HANDOFF_CODES,
    )
)
def handoff() -> None:
    """Submit handoffs over a session's context, watch them, cancel them."""


@app.command(
    epilog=epilog('baton handoff submit notes "outline" "count TODO" --wait', codes=HANDOFF_CODES)
)
def submit(  # noqa: PLR0913, PLR0917  # a command's options
    session: Session,
    tasks: Annotated[
        list[str], typer.Argument(metavar="TASK", help="What to do, one worker each.")
    ],
    runner: Runner = None,
    policy: Policy = "best_effort",
    budget_tokens: BudgetTokens = None,
    budget_usd: BudgetUsd = None,
    deadline: Deadline = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key", metavar="KEY", help="Submitted again under it: the same handoff."
        ),
    ] = None,
    package: Annotated[
        str | None,
        typer.Option(
            "--package", metavar="FILE", help="A handoff package (JSON) to validate and hand over."
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for its end; print the result.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Hand tasks over a session's head to the workers of the running stack.

    With --package it is over the version that the package names, and from the agent that it names.
    Ctrl-C while waiting leaves the handoff running.
    """
    settings = client_settings()
    specs = checked_tasks(tasks, runner, policy, settings)
    budget = checked_budget(budget_tokens, budget_usd, deadline)
    handed = None if package is None else read_package_file(package, "--package")
    with (
        open_redis(settings) as where,
        RedisSwarmCoordinator(redis_url=where.url, settings=where.settings) as coordinator,
    ):
        version = coordinator.store.resolve_version(session)
        agent_id = _register(coordinator, session) if handed is None else handed.from_agent
        _warn_without_pools(coordinator)
        submitted = coordinator.handoffs.submit(
            session,
            specs,
            agent_id=agent_id,
            context_version=None if idempotency_key or handed else version,
            policy=policy,
            budget=budget,
            idempotency_key=idempotency_key,
            package=handed,
        )
        if wait:
            _await_end(submitted, as_json=as_json)
        _show_submitted(submitted, as_json=as_json)


@app.command(epilog=epilog("baton handoff show handoff_8a3f19c2d4e5f607", codes=STORE_CODES))
def show(handoff_id: HandoffId, as_json: Json = False) -> None:
    """Show a handoff's nodes as a tree, where it stands, and what it cost."""
    check_id(handoff_id, "ID")
    with open_client() as (_, client):
        found = _handle(handoff_id, client)
        outcome, nodes = found.outcome(), found.nodes()
        breaker = HandoffBreakers(client).find(handoff_id)
        if as_json:
            parts = package_parts(found) | {"breaker": breaker}
            show_json(handoff_json(found, outcome, outcome.state) | parts)
            return
        acknowledgement = found.acknowledgement()
    tree = NodeTree(handoff_id)
    tree.state = outcome.state
    tree.load(nodes)
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(tree.draw(elapsed_seconds=None, most_nodes=len(nodes)))
    show_fields(summary(outcome, outcome.state) | spending(nodes))
    show_errors(outcome, nodes)
    if breaker is not None:
        show_text(f"no more calls are sent for it: {escape_line(breaker)}")
        show_text(f"when that is mended: baton handoff retry {handoff_id}")
    show_fields({"session": outcome.session_id, "version": outcome.version or "none written"})
    if acknowledgement is not None:
        show_acknowledgement(acknowledgement)


@app.command(epilog=epilog("baton handoff watch handoff_8a3f19c2d4e5f607", codes=HANDOFF_CODES))
def watch(handoff_id: HandoffId, as_json: Json = False) -> None:
    """Print a handoff's events from its first on, as they happen, until it has ended.

    The exit code is that of the handoff. With --json each event is one line, and so is the
    outcome, last. Ctrl-C stops watching, not the handoff.
    """
    with _open(handoff_id) as found:
        follow(found, _Events(as_json=as_json))
        outcome = found.outcome()
    if as_json:
        show_json(plain(outcome), indent=None)
    else:
        show_fields(summary(outcome, outcome.state))
    raise typer.Exit(code_of_state(outcome.state))


@app.command("list", epilog=epilog("baton handoff list --limit 5", codes=STORE_CODES))
def list_(limit: Limit = 20, as_json: Json = False) -> None:
    """List the newest handoffs."""
    with open_client() as (_, client):
        outcomes = HandoffView(client).newest(limit)
    if as_json:
        show_json({"handoffs": [plain(outcome) for outcome in outcomes]})
        return
    show_table(
        ("HANDOFF", "STATUS", "SESSION", "CREATED", "NODES"),
        [
            (
                outcome.handoff_id,
                outcome.state,
                outcome.session_id,
                instant(outcome.created_at),
                counts(outcome.census.by_state),
            )
            for outcome in outcomes
        ],
    )


@app.command(epilog=epilog("baton handoff result handoff_8a3f19c2d4e5f607 1.0", codes=STORE_CODES))
def result(
    handoff_id: HandoffId,
    node: Annotated[
        str | None, typer.Argument(metavar="NODE", help="Its result; default: the merged one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a handoff's merged result, or one node's, as it is.

    Exit code 4 if there is none.
    """
    with _open(handoff_id) as found:
        text = found.result() if node is None else found.node_result(node)
        state = found.outcome().state
    if text is None:
        say(
            f"{handoff_id} is {state} and has no result{'' if node is None else f' of node {node}'}"
        )
        raise typer.Exit(FAILED)
    if as_json:
        show_json({"handoff": handoff_id, "node": node, "result": text})
    else:
        write_exactly(text)


@app.command(epilog=epilog("baton handoff retry handoff_8a3f19c2d4e5f607", codes=HANDOFF_CODES))
def retry(
    handoff_id: HandoffId,
    node: Annotated[
        str | None,
        typer.Option("--node", metavar="NODE", help="Only this node, and what is below it."),
    ] = None,
    budget_tokens: BudgetTokens = None,
    budget_usd: BudgetUsd = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for its end; print the result.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Do again what has not ended ok in a handoff that has ended; stored results are reused.

    A budget given here replaces the handoff's; what was spent goes on counting. A deadline that it
    had begins anew.

    Ctrl-C while waiting leaves the handoff running.
    """
    check_id(handoff_id, "ID")
    budget = checked_budget(budget_tokens, budget_usd)
    settings = client_settings()
    with (
        open_redis(settings) as where,
        RedisSwarmCoordinator(redis_url=where.url, settings=where.settings) as coordinator,
    ):
        _warn_without_pools(coordinator)
        retried = coordinator.handoffs.retry(handoff_id, node, budget=budget)
        if wait:
            _await_end(retried, as_json=as_json)
        _show_submitted(retried, as_json=as_json)


@app.command(epilog=epilog("baton handoff cancel handoff_8a3f19c2d4e5f607", codes=STORE_CODES))
def cancel(
    handoff_id: HandoffId,
    node: Annotated[
        str | None,
        typer.Option(
            "--node", metavar="NODE", help="Only this node, and what is below it; the rest goes on."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Cancel a handoff: no node starts from now on, and running ones are told to stop.

    No paid call is sent after it returns. Exit code 4 if it had ended already, or its results are
    being merged.
    """
    with _open(handoff_id) as found:
        state = found.cancel(node)
    status = "cancelling" if state == "running" else state
    if as_json:
        show_json({"handoff": handoff_id, "status": status})
    else:
        say(f"{handoff_id}: {status}")
    raise typer.Exit(DONE if status in {"cancelled", "cancelling"} else FAILED)


class _Events:
    """Prints events as they come. See `baton.cli.progress.Progress`."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def note(self, text: str) -> None:
        say(text)

    def showing(self, _handoff: Handoff) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def take(self, event: Event) -> None:
        if self._as_json:
            show_json(plain(event), indent=None)
        else:
            show_text(f"{instant(event.at)}  {event_line(event)}")

    def refresh(self) -> None:
        """Nothing changes between events."""


@contextlib.contextmanager
def _open(handoff_id: str) -> Iterator[Handoff]:
    """A handle on a handoff. It needs no broker, and so no Celery."""
    check_id(handoff_id, "ID")
    with open_client() as (_, client):
        yield _handle(handoff_id, client)


def _handle(handoff_id: str, client: redis.Redis) -> Handoff:
    return Handoff(handoff_id, HandoffTree(client), HandoffView(client), Accounts(client))


def _register(coordinator: RedisSwarmCoordinator, session: str) -> str:
    agent = coordinator.registry.register(
        ROLE, context_capacity=CAPACITY_TOKENS, session_id=session
    )
    return agent.agent_id


def _warn_without_pools(coordinator: RedisSwarmCoordinator) -> None:
    if not pools_up(PoolBoard(coordinator.redis)):
        say("WARNING: no worker pools are up; the handoff starts when they are (`baton up`).")


def _await_end(submitted: Handoff, *, as_json: bool) -> NoReturn:
    progress = progress_view()
    try:
        with progress.showing(submitted):
            follow(submitted, progress)
    except KeyboardInterrupt:
        progress.note(f"It goes on: baton handoff watch {submitted.handoff_id}")
        raise
    outcome = submitted.outcome()
    show_handoff(submitted, outcome, outcome.state, as_json=as_json)
    raise typer.Exit(code_of_state(outcome.state))


def _show_submitted(submitted: Handoff, *, as_json: bool) -> None:
    outcome = submitted.outcome()
    if as_json:
        show_json(handoff_json(submitted, outcome, outcome.state))
    else:
        show_fields(summary(outcome, outcome.state))
