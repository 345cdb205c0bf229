"""`baton context …` for sessions as a whole: list, show, history, collect, freeze, delete."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from baton.cli.connection import open_client, open_store, store_of
from baton.cli.exits import STORE_CODES, epilog
from baton.cli.options import AGENT, Agent, Json, Limit, Session
from baton.cli.output import instant, plain, say, show_fields, show_json, show_table, size
from baton.clock import utc_from_ms
from baton.errors import BatonError, ContextArchivedError, InvalidInputError, NotFoundError
from baton.lifecycle.configured import configured_durations
from baton.lifecycle.facts import SessionFactsReader

if TYPE_CHECKING:
    from datetime import datetime

    import redis

    from baton.lifecycle.states import SessionFacts
    from baton.settings import ClientSettings
    from baton.store.contexts import ContextStore
    from baton.store.records import Collection, SessionInfo

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("list", epilog=epilog("baton context list", codes=STORE_CODES))
def list_(as_json: Json = False) -> None:
    """List all sessions, the last written first; behind them those that are archived."""
    with open_client() as (settings, client):
        with contextlib.closing(store_of(client, settings)) as store:
            sessions, archived_ids = _sessions(store)
        archived = _tombstones(client, settings, archived_ids)
    if as_json:
        show_json(
            {
                "sessions": [plain(info) for info in sessions],
                "archived": [_tombstone_plain(facts) for facts in archived],
            }
        )
        return
    rows = [
        (
            info.session_id,
            info.version,
            str(info.version_count),
            size(info.size_bytes),
            instant(info.updated_at),
        )
        for info in sessions
    ]
    rows += [
        (facts.session_id, facts.version, "archived", "-", _instant(facts.archived_at_ms))
        for facts in archived
    ]
    show_table(("SESSION", "VERSION", "VERSIONS", "SIZE", "UPDATED"), rows)
    if archived:
        say("Those that are archived come back by `baton archive restore SESSION`.")


@app.command(epilog=epilog("baton context show notes", codes=STORE_CODES))
def show(session: Session, as_json: Json = False) -> None:
    """Tell what a session holds, without its content."""
    with open_store() as store:
        info = store.show(session)
    if as_json:
        show_json(plain(info))
    else:
        show_fields(_described(info))


@app.command(epilog=epilog("baton context history notes --limit 5", codes=STORE_CODES))
def history(session: Session, limit: Limit = 20, as_json: Json = False) -> None:
    """List a session's versions, newest first."""
    with open_store() as store:
        records = store.history(session, limit)
    if as_json:
        show_json({"session": session, "versions": [plain(record) for record in records]})
        return
    show_table(
        ("VERSION", "COMMITTED", "AUTHOR", "OPERATION", "ACTION", "SIZE", "HASH"),
        [
            (
                record.version,
                instant(record.committed_at),
                record.author,
                record.operation,
                record.action,
                size(record.size_bytes),
                record.content_hash[:19],
            )
            for record in records
        ],
    )


@app.command(epilog=epilog("baton context collect notes --dry-run", codes=STORE_CODES))
def collect(
    session: Session,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would go; drop nothing.")
    ] = False,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Drop versions that nothing needs, and what only they stored.

    The newest BATON_CONTEXT_KEEP_VERSIONS stay, and what a tag, a checkpoint, a pending conflict,
    an open handoff or a live agent needs. Writes do this by themselves from time to time.
    """
    with open_store() as store:
        found = store.collect(session, agent_id=agent, dry_run=dry_run)
    if as_json:
        show_json({"session": session, **plain(found)})
    else:
        show_fields(_collected(found))


@app.command(epilog=epilog("baton context freeze notes", codes=STORE_CODES))
def freeze(session: Session, agent: Agent = AGENT, as_json: Json = False) -> None:
    """Have a session take no more versions. This is for good: nothing thaws it.

    It can still be read, forked, exported and deleted.
    """
    with open_store() as store:
        store.set_flag(session, "immutable", agent_id=agent)
    if as_json:
        show_json({"session": session, "immutable": True})
    else:
        say(f"{session} takes no more versions.")


@app.command(epilog=epilog("baton context delete notes --yes", codes=STORE_CODES))
def delete(
    session: Session,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm: it cannot be undone.")] = False,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Delete every version of a session, for good."""
    if not yes:
        raise InvalidInputError("--yes", f"it, as deleting {session} cannot be undone", "<nothing>")
    with open_store() as store:
        store.delete(session, agent_id=agent)
    if as_json:
        show_json({"session": session, "deleted": True})
    else:
        say(f"Deleted {session}.")


def _sessions(store: ContextStore) -> tuple[list[SessionInfo], list[str]]:
    """Those that are here, the last written first; and which are archived."""
    found, archived = [], []
    for session_id in store.list():
        try:
            found.append(store.show(session_id))
        except NotFoundError:
            continue  # deleted since
        except ContextArchivedError:
            archived.append(session_id)
        except BatonError as error:  # one that is damaged must not hide the others
            say(f"WARNING: {error}")
    return sorted(found, key=lambda info: info.updated_at, reverse=True), archived


def _tombstones(
    client: redis.Redis, settings: ClientSettings, session_ids: list[str]
) -> list[SessionFacts]:
    """What Redis knows of archived sessions, the last archived first."""
    reader = SessionFactsReader(client, configured_durations(settings))
    found = []
    for session_id in session_ids:
        try:
            found += reader.read([session_id])
        except BatonError as error:
            say(f"WARNING: {error}")
    # One that was restored or purged since is left out: it was not there when the list began.
    archived = [facts for facts in found if facts.archived_at_ms is not None]
    return sorted(archived, key=lambda facts: facts.archived_at_ms or 0, reverse=True)


def _tombstone_plain(facts: SessionFacts) -> dict[str, object]:
    return {
        "session_id": facts.session_id,
        "version": facts.version,
        "archived_at": _utc(facts.archived_at_ms),
        "purge_at": None if facts.hold else _utc(facts.purge_at_ms),
        "hold": facts.hold or None,
    }


def _utc(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else utc_from_ms(at_ms)


def _instant(at_ms: int | None) -> str:
    return "-" if at_ms is None else instant(utc_from_ms(at_ms))


def _described(info: SessionInfo) -> dict[str, str]:
    expiry = info.expires_in_seconds
    return {
        "session": info.session_id,
        "version": f"{info.version} of {info.version_count}",
        "type": info.content_type,
        "size": f"{size(info.size_bytes)}, about {info.size_tokens} tokens",
        "stored": f"{size(info.stored_bytes)} in {info.chunk_count} chunks ({info.compression})",
        "hash": info.content_hash,
        "owner": info.owner,
        "created": instant(info.created_at),
        "updated": instant(info.updated_at),
        "accessed": f"{instant(info.last_accessed_at)} by {info.last_accessed_by or 'nobody'}",
        "expires": "never" if expiry is None else f"in {expiry / 86_400:.1f} days",
        "flags": ", ".join(info.flags) or "none",
        "metadata": ", ".join(f"{name}={value}" for name, value in info.metadata.items()) or "none",
    }


def _collected(found: Collection) -> dict[str, str]:
    return {
        "would drop" if found.dry_run else "dropped": ", ".join(found.versions) or "no version",
        "conflicts": f"{len(found.conflicts)} that expired",
        "chunks": f"{found.chunk_count}, {size(found.stored_bytes)} stored",
        "kept": f"{found.kept_versions} versions",
    }
