"""`baton lifecycle …`: states of sessions, sweeps on demand, holds, durations."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from baton.cli.archiving import ask
from baton.cli.connection import open_client, registry_of
from baton.cli.exits import STORE_CODES, epilog
from baton.cli.options import AGENT, Agent, Json, Session
from baton.cli.output import duration, instant, say, show_fields, show_json, show_table
from baton.clock import utc_from_ms
from baton.errors import BatonError, ContextNotFoundError
from baton.ids import check_id
from baton.lifecycle.aging import Aging
from baton.lifecycle.configured import configured_durations
from baton.lifecycle.due_index import DueIndex
from baton.lifecycle.durations import SessionDurations
from baton.lifecycle.facts import SessionFactsReader
from baton.lifecycle.sweep_board import SweepBoard
from baton.store.configured import open_context_store
from baton.store.drain import AccessDrain

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from baton.lifecycle.states import SessionFacts
    from baton.settings import ClientSettings
    from baton.store.contexts import ContextStore

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

Seconds = Annotated[float | None, typer.Option(metavar="SECONDS", help="Default: the setting.")]


@app.callback(
    epilog=epilog(
        "baton lifecycle status", "baton lifecycle hold notes 'case 7'", codes=STORE_CODES
    )
)
def lifecycle() -> None:
    """Tell and change what becomes of sessions: active, inactive, archived, purged."""


@app.command(
    epilog=epilog("baton lifecycle status", "baton lifecycle status notes", codes=STORE_CODES)
)
def status(
    session: Annotated[
        str | None, typer.Argument(metavar="SESSION", help="Default: the sweeps.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell one session's state and what comes next; or how the sweeps fare."""
    if session is None:
        _show_sweeps(as_json=as_json)
        return
    with open_client() as (settings, client):
        reader = SessionFactsReader(client, configured_durations(settings))
        (facts,) = reader.read([check_id(session, "session_id")])
        now_ms = reader.now_ms()
    if not facts.exists:
        raise ContextNotFoundError(
            f"Redis knows of no session {session}; `baton archive list` and `baton audit show "
            f"{session}` tell whether it was archived or purged"
        )
    shown = _facts_shown(facts, now_ms)
    if as_json:
        show_json(shown)
    else:
        show_fields({name: "-" if value is None else str(value) for name, value in shown.items()})


@app.command(epilog=epilog("baton lifecycle sweep", codes=STORE_CODES))
def sweep(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what is due for archival.")
    ] = False,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Do now what beat's sweeps do in their time: age, archive what is due, purge.

    May be stopped and called again: it goes on where it was.
    """
    with _open_aging() as (aging, index):
        known = aging.reconcile()
        aging.age()
        due = index.to_archive(10_000)
        archived, failed = ([], {}) if dry_run else _archive_all(due, index, agent)
    settled = purged = 0
    if not dry_run:
        settled = ask("settle", agent)
        purged = ask("purge_due", agent)
    result = {
        "sessions": known,
        "due": due if dry_run else len(due),
        "archived": len(archived),
        "failed": failed,
        "settled": settled,
        "purged": purged,
    }
    if as_json:
        show_json(result)
    else:
        show_fields({name: str(value) for name, value in result.items()})


@app.command(epilog=epilog("baton lifecycle hold notes 'case 7'", codes=STORE_CODES))
def hold(
    session: Session,
    reason: Annotated[str, typer.Argument(metavar="REASON", help="1 to 200 characters, shown.")],
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Put a session under hold: it does not expire, and is neither deleted nor purged."""
    changed = ask("hold", agent, session_id=session, reason=reason)
    _show_hold(session, "held", changed=changed, as_json=as_json)


@app.command(epilog=epilog("baton lifecycle release notes", codes=STORE_CODES))
def release(session: Session, agent: Agent = AGENT, as_json: Json = False) -> None:
    """Let go of a hold. What is past its time is purged by the next sweep."""
    changed = ask("release", agent, session_id=session)
    _show_hold(session, "released", changed=changed, as_json=as_json)


@app.command(
    epilog=epilog(
        "baton lifecycle durations notes --archive-after 2592000",
        "baton lifecycle durations notes --default",
        codes=STORE_CODES,
    )
)
def durations(
    session: Session,
    active: Annotated[
        float | None, typer.Option("--active", metavar="SECONDS", help="Active after an access.")
    ] = None,
    archive_after: Annotated[
        float | None,
        typer.Option("--archive-after", metavar="SECONDS", help="Archived after the last access."),
    ] = None,
    keep: Annotated[
        float | None, typer.Option("--keep", metavar="SECONDS", help="Purged after archival.")
    ] = None,
    default: Annotated[
        bool, typer.Option("--default", help="Take away what the session has of its own.")
    ] = False,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Give one session durations of its own. Those not given are the settings'."""
    with open_client() as (settings, client):
        store = _open_store(client, settings)
        with contextlib.closing(store):
            own = SessionDurations(store, configured_durations(settings))
            if default:
                own.clear(session, agent_id=agent)
            else:
                own.set(
                    session,
                    agent_id=agent,
                    active_seconds=active,
                    archive_seconds=archive_after,
                    keep_seconds=keep,
                )
        reader = SessionFactsReader(client, configured_durations(settings))
        (facts,) = reader.read([session])
        shown = _facts_shown(facts, reader.now_ms())
    if as_json:
        show_json(shown)
    else:
        show_fields({name: "-" if value is None else str(value) for name, value in shown.items()})


@contextlib.contextmanager
def _open_aging() -> Iterator[tuple[Aging, DueIndex]]:
    with open_client() as (settings, client):
        store = _open_store(client, settings)
        with contextlib.closing(store):
            facts = SessionFactsReader(client, configured_durations(settings))
            index = DueIndex(client)
            yield Aging(client, store, AccessDrain(client, store), facts, index), index


def _open_store(client: redis.Redis, settings: ClientSettings) -> ContextStore:
    live_agents = registry_of(client, settings).live_among
    return open_context_store(client, settings, live_agents=live_agents)


def _archive_all(due: list[str], index: DueIndex, agent: str) -> tuple[list[str], dict[str, str]]:
    archived, failed = [], {}
    for session_id in due:
        try:
            if ask("archive", agent, session_id=session_id)["outcome"] == "archived":
                archived.append(session_id)
        except BatonError as error:
            failed[session_id] = str(error)
            say(f"{session_id}: {error}")
        index.drop_archive(session_id)
    return archived, failed


def _show_sweeps(*, as_json: bool) -> None:
    with open_client() as (_, client):
        statuses = SweepBoard(client).list()
        known, waiting = DueIndex(client).sizes()
    if as_json:
        show_json(
            {
                "sessions_known": known,
                "waiting_for_archive": waiting,
                "sweeps": [
                    {
                        "name": each.name,
                        "period_seconds": each.period_seconds,
                        "running": each.running,
                        "late": each.late,
                        "succeeded_at": each.succeeded_at,
                        "result": each.result,
                        "error": each.error or None,
                        "done": each.done,
                        "total": each.total,
                    }
                    for each in statuses
                ],
            }
        )
        return
    show_fields({"sessions known": str(known), "waiting for the archive": str(waiting)})
    show_table(
        ("SWEEP", "PERIOD", "STATE", "LAST SUCCESS", "RESULT", "ERROR"),
        [
            (
                each.name,
                duration(each.period_seconds),
                "late" if each.late else "running" if each.running else "ok",
                "-" if each.succeeded_at is None else instant(each.succeeded_at),
                "-" if each.result is None else str(each.result),
                each.error or "-",
            )
            for each in statuses
        ],
    )


def _facts_shown(facts: SessionFacts, now_ms: int) -> dict[str, object]:
    next_ms = facts.next_change_ms(now_ms)
    return {
        "session": facts.session_id,
        "state": str(facts.state(now_ms)),
        "version": facts.version,
        "last_accessed_at": (
            instant(utc_from_ms(facts.accessed_at_ms)) if facts.accessed_at_ms else None
        ),
        "due_for_archive": facts.is_due(now_ms),
        "next_change_at": None if next_ms is None else instant(utc_from_ms(next_ms)),
        "purge_at": None if facts.purge_at_ms is None else instant(utc_from_ms(facts.purge_at_ms)),
        "hold": facts.hold or None,
        "active_seconds": facts.durations.active_ms / 1000,
        "archive_after_seconds": facts.durations.archive_ms / 1000,
        "keep_seconds": facts.durations.keep_ms / 1000,
        "expires_in_seconds": (None if facts.expires_in_ms is None else facts.expires_in_ms / 1000),
    }


def _show_hold(session: str, what: str, *, changed: bool, as_json: bool) -> None:
    if as_json:
        show_json({"session": session, what: True, "changed": changed})
    else:
        say(f"{session} is {what}." if changed else f"{session} was {what} already.")
