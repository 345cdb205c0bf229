"""`baton lifecycle …`: states of sessions, sweeps on demand, holds, durations."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from baton.cli.archiving import open_archives
from baton.cli.connection import open_client, store_of
from baton.cli.exits import DEGRADED, DONE, FAILED, INTERRUPTED, STORE_CODES, USAGE, epilog
from baton.cli.options import AGENT, Agent, Json, Session
from baton.cli.output import duration, instant, plain, say, show_fields, show_json, show_table
from baton.cli.sweeping import Sweeping
from baton.clock import utc_from_ms
from baton.errors import ContextNotFoundError, InvalidInputError
from baton.ids import check_id
from baton.lifecycle.configured import configured_durations
from baton.lifecycle.due_index import DueIndex
from baton.lifecycle.durations import SessionDurations
from baton.lifecycle.facts import SessionFactsReader
from baton.lifecycle.sweep_board import SweepBoard
from baton.store.keys import SessionKeys
from baton.store.moves import check_reason

if TYPE_CHECKING:
    from datetime import datetime

    from baton.cli.sweeping import Swept
    from baton.lifecycle.states import SessionFacts
    from baton.lifecycle.sweep_board import SweepStatus

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


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
    _show_facts(facts, now_ms, as_json=as_json)


@app.command(
    epilog=epilog(
        "baton lifecycle sweep --dry-run",
        codes=(DONE, USAGE, DEGRADED, FAILED, INTERRUPTED),
        meanings={
            DEGRADED: "some sessions cannot be archived and stay in Redis, whole; or a sweep was "
            "skipped"
        },
    )
)
def sweep(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what is due for archival.")
    ] = False,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Do now what all of beat's sweeps do in their time.

    Nodes and joins, dead agents, notes of reads, seals of the audit; age; collect what nothing
    needs; archive what is due; purge; carry the audit to the archive. May be stopped and called
    again: it goes on where it was.
    """
    with open_archives() as archives:
        found = Sweeping(archives, check_id(agent, "--agent")).run(dry_run=dry_run)
    if as_json:
        show_json(plain(found))
    else:
        show_fields(_swept(found))
    reasons = (*found.kept.items(), *found.failed.items(), *found.skipped.items())
    for name, reason in () if as_json else reasons:
        say(f"{name}: {reason}")
    if found.failed or found.skipped:
        raise typer.Exit(DEGRADED)


@app.command(epilog=epilog("baton lifecycle hold notes 'case 7'", codes=STORE_CODES))
def hold(
    session: Session,
    reason: Annotated[str, typer.Argument(metavar="REASON", help="1 to 200 characters, shown.")],
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Put a session under hold: it does not expire, and is neither deleted nor purged."""
    check_reason(reason)
    with open_archives() as archives:
        keys = SessionKeys.of(session)
        # One that no archive can have yet is Redis' alone.
        changed = (
            archives.ask("hold", agent, session_id=session, reason=reason)
            if archives.anywhere
            else archives.store.moves.hold(keys, reason, check_id(agent, "--agent"))
        )
    _show_hold(session, "held", changed=changed, as_json=as_json)


@app.command(epilog=epilog("baton lifecycle release notes", codes=STORE_CODES))
def release(session: Session, agent: Agent = AGENT, as_json: Json = False) -> None:
    """Let go of a hold. What is past its time is purged by the next sweep."""
    with open_archives() as archives:
        changed = (
            archives.ask("release", agent, session_id=session)
            if archives.anywhere
            else archives.store.moves.release(SessionKeys.of(session), check_id(agent, "--agent"))
        )
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
    given = (active, archive_after, keep)
    if default is any(each is not None for each in given):
        raise InvalidInputError(
            "--default", "either it or --active, --archive-after, --keep", "<both or none>"
        )
    check_id(session, "SESSION")
    with open_client() as (settings, client):
        with contextlib.closing(store_of(client, settings)) as store:
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
        now_ms = reader.now_ms()
    _show_facts(facts, now_ms, as_json=as_json)


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
                _sweep_state(each),
                "-" if each.succeeded_at is None else instant(each.succeeded_at),
                "-" if each.result is None else str(each.result),
                each.error or "-",
            )
            for each in statuses
        ],
    )


def _sweep_state(sweep: SweepStatus) -> str:
    if sweep.late:
        return "late"
    if sweep.running:
        return "running"
    return "failed" if sweep.error else "ok"


def _show_facts(facts: SessionFacts, now_ms: int, *, as_json: bool) -> None:
    if as_json:
        show_json(_facts_plain(facts, now_ms))
    else:
        show_fields(_facts_described(facts, now_ms))


def _facts_plain(facts: SessionFacts, now_ms: int) -> dict[str, object]:
    return {
        "session": facts.session_id,
        "state": str(facts.state(now_ms)),
        "version": facts.version,
        "last_accessed_at": _utc(facts.accessed_at_ms or None),
        "due_for_archive": facts.is_due(now_ms),
        "next_change_at": _utc(facts.next_change_ms(now_ms)),
        "purge_at": None if facts.hold else _utc(facts.purge_at_ms),
        "hold": facts.hold or None,
        "active_seconds": facts.durations.active_ms / 1000,
        "archive_after_seconds": facts.durations.archive_ms / 1000,
        "keep_seconds": facts.durations.keep_ms / 1000,
        "expires_in_seconds": (None if facts.expires_in_ms is None else facts.expires_in_ms / 1000),
    }


def _facts_described(facts: SessionFacts, now_ms: int) -> dict[str, str]:
    own, left_ms = facts.durations, facts.expires_in_ms
    state = str(facts.state(now_ms))
    return {
        "session": facts.session_id,
        "version": facts.version,
        "state": f"{state}, due for the archive" if facts.is_due(now_ms) else state,
        "last accessed": _instant(facts.accessed_at_ms or None),
        "next change": _instant(facts.next_change_ms(now_ms)),
        "hold": facts.hold or "none",
        "active for": duration(own.active_ms / 1000),
        "archived after": f"{duration(own.archive_ms / 1000)} without access",
        "purged after": f"{duration(own.keep_ms / 1000)} in the archive",
        "expires": "never" if left_ms is None else f"in {duration(left_ms / 1000)}",
    }


def _swept(found: Swept) -> dict[str, str]:
    others = {name: str(count) for name, count in found.done.items()}
    others |= dict.fromkeys(found.skipped, "skipped")
    others |= dict.fromkeys(found.left_to_pool, "left to the archive's pool")
    return {
        "sessions": str(found.sessions),
        "due": ", ".join(found.due) if found.dry_run and found.due else str(len(found.due)),
        "archived": str(len(found.archived)),
        "kept": str(len(found.kept)),
        "failed": str(len(found.failed)),
        "settled": str(found.settled),
        "purged": str(found.purged),
        **others,
    }


def _utc(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else utc_from_ms(at_ms)


def _instant(at_ms: int | None) -> str:
    return "-" if at_ms is None else instant(utc_from_ms(at_ms))


def _show_hold(session: str, what: str, *, changed: bool, as_json: bool) -> None:
    if as_json:
        show_json({"session": session, what: True, "changed": changed})
    else:
        say(f"{session} is {what}." if changed else f"{session} was {what} already.")
