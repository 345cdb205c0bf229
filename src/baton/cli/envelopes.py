"""`baton context export` and `import`: contexts as the protocol's envelope, a JSON document."""

from __future__ import annotations

import codecs
from typing import Annotated, Final

import typer

from baton.cli.connection import open_store
from baton.cli.contents import write_exactly
from baton.cli.exits import STORE_CODES, epilog, write_epilog
from baton.cli.files import STDIN, open_bytes, read_text, write_parts
from baton.cli.options import AGENT, Agent, Json, Output, Session, VersionOrHead
from baton.cli.output import say, show_json
from baton.cli.writing import end_with_commit
from baton.envelope.model import WireCodec  # noqa: TC001 - Typer reads it

_KEY_LIMIT_BYTES: Final = 1_024

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog=epilog(
        "baton context export notes -o notes.json",
        "baton context export notes | ssh other baton context import -",
        codes=STORE_CODES,
    )
)
def export(
    session: Session,
    output: Output = None,
    version: VersionOrHead = None,
    compression: Annotated[
        WireCodec, typer.Option("--compression", help="Of the content within the document.")
    ] = "gzip",
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Write a version as a JSON envelope, piece by piece.

    What is sealed in the session is in clear there. The envelope is JSON with or without --json;
    where it goes to a file, --json tells which version it is.
    """
    with open_store() as store:
        found = store.resolve_version(session, version)
        parts = store.export_envelope(session, found, compression=compression, agent_id=agent)
        if output is None or str(output) == STDIN:
            for text in codecs.iterdecode(parts, "utf-8"):
                write_exactly(text)
            return
        write_parts(output, parts)
    if as_json:
        show_json({"session": session, "version": found, "file": str(output)})
    else:
        say(f"{output}: {session} {found}")


@app.command(
    "import",
    epilog=write_epilog(
        "baton context import notes.json",
        "baton context import notes.json --session copy --sealed",
    ),
)
def import_(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The envelope, - for standard input.")
    ],
    session: Annotated[
        str | None,
        typer.Option("--session", metavar="ID", help="Default: the one that it came from."),
    ] = None,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Begin the session sealed; needs BATON_KEY_FILE.")
    ] = False,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", metavar="VERSION", help="The version of the session that it was changed from."
        ),
    ] = None,
    fernet_key_file: Annotated[
        str | None,
        typer.Option(
            "--fernet-key-file",
            metavar="FILE",
            help="The key of a text encrypted the protocol's way.",
        ),
    ] = None,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Verify an envelope, and store what it holds.

    Nothing is stored of one in which any size, hash or place is wrong. Without --base the session
    must not be there yet; with it, the envelope is merged into the session.
    """
    key = None if fernet_key_file is None else _fernet_key(fernet_key_file)
    with open_bytes(file, "FILE") as source, open_store() as store:
        commit = store.import_envelope(
            source,
            session_id=session,
            agent_id=agent,
            base_version=base,
            sealed=sealed,
            fernet_key=key,
        )
    end_with_commit(commit, commit.session_id, as_json=as_json)


def _fernet_key(name: str) -> str:
    return read_text(name, "--fernet-key-file", _KEY_LIMIT_BYTES).strip()
