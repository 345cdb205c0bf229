"""`baton context …`: what sessions hold, read and written without workers."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - Typer reads it
from typing import TYPE_CHECKING, Annotated, Final

import typer

from baton.cli.connection import client_settings, open_store
from baton.cli.escaping import escape
from baton.cli.exits import STORE_CODES, epilog
from baton.cli.files import STDIN, read_text, write_whole
from baton.cli.options import Json, Limit, Session  # noqa: TC001 - Typer reads them
from baton.cli.output import instant, plain, say, show_fields, show_json, show_table, size
from baton.cli.writing import put_on_head
from baton.errors import BatonError, InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from baton.store.contexts import ContextStore
    from baton.store.records import Context, SessionInfo

AGENT: Final = "baton_cli"

Agent = Annotated[str, typer.Option("--agent", metavar="ID", help="Who does it, for the record.")]

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback(
    epilog=epilog(
        "baton context put notes notes.md",
        "baton context get notes -o notes.md",
        codes=STORE_CODES,
    )
)
def context() -> None:
    """Put, get and list contexts. Needs Redis only: BATON_REDIS_URL, else the embedded one."""


@app.command(epilog=epilog("baton context put notes notes.md --base 1.0.3", codes=STORE_CODES))
def put(
    session: Session,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="UTF-8 text file, - for standard input.")
    ],
    base: Annotated[
        str | None,
        typer.Option(
            "--base", metavar="VERSION", help="The version you changed; default: the head now."
        ),
    ] = None,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Write a file as the session's next version.

    Fails with exit code 4, writing nothing, where the head is not the base any more.
    """
    text = read_text(file, "FILE", client_settings().max_context_bytes)
    with open_store() as store:
        commit = put_on_head(store, session, text, agent_id=agent, base=base)
    if as_json:
        show_json({"session": session, **plain(commit)})
    else:
        show_fields({"session": session, "version": commit.version, "hash": commit.content_hash})


@app.command(
    epilog=epilog(
        "baton context get notes",
        "baton context get notes --version 1.0.2 -o old.md",
        codes=STORE_CODES,
    )
)
def get(
    session: Session,
    version: Annotated[
        str | None, typer.Option("--version", metavar="VERSION", help="Default: the head.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Replace this file, all at once."),
    ] = None,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Print a version, verified, byte for byte.

    Nothing is added, not even a line end. Only a terminal gets control characters escaped.
    """
    with open_store() as store:
        found = store.get(session, version, agent_id=agent)
    if output is not None and str(output) != STDIN:
        write_whole(output, found.content.encode())
    if as_json:
        show_json(_without_content(found) if output is not None else plain(found))
    elif output is None or str(output) == STDIN:
        _write(found.content)
    else:
        say(f"{output}: {session} {found.version}, {size(found.size_bytes)}")


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
        ("VERSION", "COMMITTED", "AUTHOR", "ACTION", "SIZE", "HASH"),
        [
            (
                record.version,
                instant(record.committed_at),
                record.author,
                record.action,
                size(record.size_bytes),
                record.content_hash[:19],
            )
            for record in records
        ],
    )


@app.command("list", epilog=epilog("baton context list", codes=STORE_CODES))
def list_(as_json: Json = False) -> None:
    """List all sessions, the last written first."""
    with open_store() as store:
        sessions = _sessions(store)
    if as_json:
        show_json({"sessions": [plain(info) for info in sessions]})
        return
    show_table(
        ("SESSION", "VERSION", "VERSIONS", "SIZE", "UPDATED"),
        [
            (
                info.session_id,
                info.version,
                str(info.version_count),
                size(info.size_bytes),
                instant(info.updated_at),
            )
            for info in sessions
        ],
    )


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


def _sessions(store: ContextStore) -> list[SessionInfo]:
    found = []
    for session_id in store.list():
        try:
            found.append(store.show(session_id))
        except NotFoundError:
            continue  # deleted since
        except BatonError as error:  # one that is damaged must not hide the others
            say(f"WARNING: {error}")
    return sorted(found, key=lambda info: info.updated_at, reverse=True)


def _described(info: SessionInfo) -> dict[str, str]:
    expiry = info.expires_in_seconds
    return {
        "session": info.session_id,
        "version": f"{info.version} of {info.version_count}",
        "size": f"{size(info.size_bytes)}, about {info.size_tokens} tokens",
        "stored": f"{size(info.stored_bytes)} in {info.chunk_count} chunks ({info.compression})",
        "hash": info.content_hash,
        "owner": info.owner,
        "created": instant(info.created_at),
        "updated": instant(info.updated_at),
        "accessed": f"{instant(info.last_accessed_at)} by {info.last_accessed_by or 'nobody'}",
        "expires": "never" if expiry is None else f"in {expiry / 86_400:.1f} days",
        "flags": ", ".join(info.flags) or "none",
    }


def _without_content(found: Context) -> dict[str, object]:
    return {name: value for name, value in plain(found).items() if name != "content"}


def _write(text: str) -> None:
    """Write the text itself; to a terminal, what it would obey is escaped."""
    data = (escape(text) if sys.stdout.isatty() else text).encode()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
