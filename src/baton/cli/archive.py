"""`baton archive …`: the cold store: archive, search by meaning, restore, purge, verify."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - Typer reads it
from typing import Annotated, Any

import typer

from baton.archive.backup import back_up
from baton.archive.opening import archive_folder, ledger_path
from baton.cli.archiving import ask
from baton.cli.connection import client_settings
from baton.cli.escaping import escape_line
from baton.cli.exits import DEGRADED, DONE, FAILED, INTERRUPTED, STORE_CODES, USAGE, epilog
from baton.cli.options import AGENT, Agent, Json, Session
from baton.cli.output import instant, say, show_fields, show_json, show_table, show_text, size
from baton.errors import InvalidInputError
from baton.ids import check_id

_SNIPPET_CHARACTERS = 400

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback(
    epilog=epilog(
        "baton archive run notes",
        'baton archive search "what did we decide about retries?"',
        "baton archive restore notes",
        codes=STORE_CODES,
    )
)
def archive() -> None:
    """Keep long unused sessions cheaply, find them by meaning, bring them back byte for byte.

    Asks the archive's pool where one runs (`baton up`), else opens the archive here.
    """


@app.command(
    epilog=epilog(
        "baton archive run notes",
        codes=(DONE, USAGE, DEGRADED, FAILED, INTERRUPTED),
        meanings={DEGRADED: "somebody used the session meanwhile: it stays in Redis, whole"},
    )
)
def run(session: Session, agent: Agent = AGENT, as_json: Json = False) -> None:
    """Archive a session now, however lately it was used.

    It stays whole in Redis where it is used meanwhile, or where an open handoff needs it. Ctrl-C
    loses nothing; called again, what is done already is not done again.
    """
    found = ask("archive", agent, session_id=session)
    if as_json:
        show_json(found)
    elif found["outcome"] == "archived":
        show_fields(
            {
                "session": session,
                "version": found["version"],
                "new in the archive": size(found["stored_bytes"]),
                "searchable": _searchable(found),
                "purged at": _instant(found["purge_at"]),
            }
        )
    else:
        say(f"{session} was used meanwhile; it stays in Redis.")
    if found["outcome"] != "archived":
        raise typer.Exit(DEGRADED)


@app.command(
    epilog=epilog(
        'baton archive search "what did we decide about retries?"',
        'baton archive search "who owns billing?" --agent sonnet_1 --since 2026-01-01',
        codes=STORE_CODES,
    )
)
def search(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="In any words.")],
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="At most this many.")] = 5,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Of this session.")
    ] = None,
    written_by: Annotated[
        str | None, typer.Option("--agent", metavar="ID", help="That this agent wrote to.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Last written then or later.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Last written then or before.")
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", metavar="NAME=VALUE", help="With this in its metadata."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find passages of archived sessions by meaning. Times are ISO 8601, in UTC by default."""
    if session is not None:
        check_id(session, "--session")
    hits = ask(
        "search",
        AGENT,
        question=question,
        limit=limit,
        session_id=session,
        agent=written_by,
        since=_time(since, "--since"),
        until=_time(until, "--until"),
        metadata=_pairs(metadata or []),
    )
    if as_json:
        show_json({"hits": hits})
        return
    for hit in hits:
        place = f"{hit['session_id']}@{hit['version']} bytes {hit['start_byte']}:{hit['end_byte']}"
        show_text(f"{place}  similarity {hit['similarity']:.2f}")
        show_text(f"  {escape_line(' '.join(hit['snippet'].split()), _SNIPPET_CHARACTERS)}\n")
    if not hits:
        say("Nothing was found.")


@app.command(epilog=epilog("baton archive restore notes", codes=STORE_CODES))
def restore(session: Session, agent: Agent = AGENT, as_json: Json = False) -> None:
    """Bring a session back: a new version of the same content, its history, tags, checkpoints."""
    found = ask("restore", agent, session_id=session)
    if as_json:
        show_json(found)
    else:
        show_fields({"session": session, "version": found["version"]})


@app.command("list", epilog=epilog("baton archive list", codes=STORE_CODES))
def list_(as_json: Json = False) -> None:
    """List archived sessions, the last archived first."""
    found = sorted(ask("list", AGENT), key=lambda each: each["archived_at"], reverse=True)
    if as_json:
        show_json({"sessions": found})
        return
    show_table(
        ("SESSION", "VERSION", "SIZE", "SEARCHABLE", "ARCHIVED", "PURGED AT", "HOLD"),
        [
            (
                each["session_id"],
                each["version"],
                size(each["size_bytes"]),
                _searchable(each),
                _instant(each["archived_at"]),
                _instant(each["purge_at"]),
                each["hold"] or "-",
            )
            for each in found
        ],
    )


@app.command(epilog=epilog("baton archive purge notes --yes", codes=STORE_CODES))
def purge(
    session: Session,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm: it cannot be undone.")] = False,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Erase every archived copy of a session for good; its audit stays.

    Its data key is destroyed first: copies of the archive's files cannot be read any more either,
    where the ledger's copies are gone too. A session that is in Redis stays there.
    """
    if not yes:
        raise InvalidInputError("--yes", f"it, as erasing {session} cannot be undone", "<nothing>")
    receipts = ask("purge", agent, session_id=session)
    if as_json:
        show_json({"session": session, "erased": receipts})
    else:
        say(
            f"Erased what the archive had of {session}; the receipt is in its audit (`baton audit "
            f"show {session}`)."
        )


@app.command(epilog=epilog("baton archive verify", "baton archive verify notes", codes=STORE_CODES))
def verify(
    session: Annotated[
        str | None, typer.Argument(metavar="SESSION", help="Default: all sessions.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read archived sessions whole and check every hash. Exit code 4 if one is damaged."""
    wrong = ask("verify", AGENT, session_id=session)
    if as_json:
        show_json({"ok": not wrong, "damaged": wrong})
    for name, reason in wrong.items():
        say(f"{name}: {reason}")
    if wrong:
        raise typer.Exit(FAILED)
    if not as_json:
        say("All copies are whole.")


@app.command(epilog=epilog("baton archive backup /mnt/backup/archive", codes=STORE_CODES))
def backup(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to; older copies there are replaced.")
    ],
    as_json: Json = False,
) -> None:
    """Copy ledger, sealed contents and carried audit of the archive here, while it is used.

    The copies are of one instant. Put back into an empty folder `archive` of a state folder, with
    the master keys, they are the archive; `baton archive reindex` makes its vectors anew.
    """
    settings = client_settings()
    if not ledger_path(settings).exists():
        raise InvalidInputError(
            "BATON_STATE_DIR", "a folder with an archive", f"<none in {settings.state_dir}>"
        )
    copies = back_up(archive_folder(settings), folder)
    if as_json:
        show_json({"files": [str(copy) for copy in copies]})
        return
    for copy in copies:
        show_text(f"{copy}  {size(copy.stat().st_size)}")
    say("The master keys are not in it: keep a copy of them elsewhere.")


@app.command(epilog=epilog("baton archive reindex", codes=STORE_CODES))
def reindex(as_json: Json = False) -> None:
    """Make the index of vectors anew from the cold store, as after another embedding model."""
    count = ask("reindex", AGENT)
    if as_json:
        show_json({"sessions": count})
    else:
        say(f"{count} sessions are searchable.")


def _instant(text: str | None) -> str:
    return "-" if text is None else instant(datetime.fromisoformat(text))


def _searchable(found: dict[str, Any]) -> str:
    states = {"withheld": "no: sealed or sensitive", "waiting": "not yet", "none": "no"}
    return states.get(found["index_state"], f"{found['passages']} passages")


def _time(text: str | None, option: str) -> str | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(option, "a time such as 2026-01-31T12:00", text) from error
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


def _pairs(given: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in given:
        name, separator, value = each.partition("=")
        if not separator or not name:
            raise InvalidInputError("--metadata", "NAME=VALUE", each)
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
