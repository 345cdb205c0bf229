"""`baton context …` that compare versions, or make new ones of old: diff, rollback, fork, merge."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from baton.cli.connection import open_store
from baton.cli.contents import write_exactly
from baton.cli.escaping import escape
from baton.cli.exits import STORE_CODES, epilog, write_epilog
from baton.cli.options import AGENT, Agent, Json, Session, VersionOrHead
from baton.cli.output import plain, show_json
from baton.cli.writing import end_with_commit

_STYLES: Final = {"+": "green", "-": "red", "@": "cyan"}

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog=epilog("baton context diff notes 1.0.3 1.0.5", codes=STORE_CODES))
def diff(
    session: Session,
    old: Annotated[str, typer.Argument(metavar="OLD", help="A version.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Another one.")],
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Print what changed between two versions.

    That is a unified diff, which `patch` takes; with --json the changed places, and for JSON
    documents a JSON Patch (RFC 6902). The exit code does not tell whether they differ.
    """
    with open_store() as store:
        found = store.diff(session, old, new, agent_id=agent)
    if as_json:
        hunks = [plain(hunk) for hunk in found.text.hunks]
        versions = {"old_version": found.old_version, "new_version": found.new_version}
        show_json({"session": session, **versions, "hunks": hunks, "patch": found.patch})
    elif sys.stdout.isatty():
        _show_coloured(found.unified())
    else:
        write_exactly(found.unified())


@app.command(epilog=epilog("baton context rollback notes 1.0.3", codes=STORE_CODES))
def rollback(
    session: Session,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="The one to go back to.")],
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Make an old version's content the newest version. Nothing goes away; numbers go up."""
    with open_store() as store:
        commit = store.rollback(session, version, agent_id=agent)
    end_with_commit(commit, session, as_json=as_json)


@app.command(epilog=epilog("baton context fork notes try-out", codes=STORE_CODES))
def fork(
    session: Session,
    new_session: Annotated[
        str, typer.Argument(metavar="NEW_SESSION", help="The id of the session to begin.")
    ],
    version: VersionOrHead = None,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Begin a new session with a version of this one.

    It is sealed if this one is. `merge` brings its changes back.
    """
    with open_store() as store:
        commit = store.fork(session, new_session, version, agent_id=agent)
    end_with_commit(commit, new_session, as_json=as_json)


@app.command(
    epilog=write_epilog(
        "baton context merge notes try-out",
        "baton context merge notes other --source-version 1.2.0 --base 1.0.3",
    )
)
def merge(
    session: Session,
    source_session: Annotated[
        str, typer.Argument(metavar="SOURCE_SESSION", help="Where the changes are.")
    ],
    source_version: Annotated[
        str | None,
        typer.Option("--source-version", metavar="VERSION", help="Default: the source's head."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="VERSION",
            help="The version of SESSION that both go back to; default: what was forked.",
        ),
    ] = None,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Merge another session, such as a fork, into this one.

    Where both changed the same places, the head stays, and you are told how to resolve it.
    """
    with open_store() as store:
        commit = store.merge(
            session,
            source_session,
            agent_id=agent,
            source_version=source_version,
            base_version=base,
        )
    end_with_commit(commit, session, as_json=as_json)


def _show_coloured(unified: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for number, line in enumerate(escape(unified).splitlines()):
        style = "bold" if number < 2 else _STYLES.get(line[:1], "")  # two lines name the versions
        console.print(Text(line, style=style))
