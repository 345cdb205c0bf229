"""`baton context export` and `import`: contexts as the protocol's envelope, a JSON document."""

from __future__ import annotations

import codecs
import io
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import typer

from baton.cli.connection import client_settings, open_store
from baton.cli.contents import write_exactly
from baton.cli.exits import STORE_CODES, epilog, write_epilog
from baton.cli.files import STDIN, open_bytes, read_text, write_parts
from baton.cli.options import AGENT, Agent, Json, Output, Session, VersionOrHead
from baton.cli.output import say, show_json
from baton.cli.writing import end_with_commit, require_sealable
from baton.envelope.json_stream import JsonStream
from baton.envelope.model import ROOT, WireCodec
from baton.ids import check_id

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER_LIMIT: Final = 16 * 1_048_576
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
    # As much as an envelope of the largest context takes in Base64, overlaps and all.
    limit = 3 * client_settings().max_context_bytes + _HEADER_LIMIT
    with open_bytes(file, "FILE") as opened:
        source = opened if opened.seekable() else io.BytesIO(opened.read(limit + 1))
        target = _named_session(source, limit) if session is None else session
        with open_store() as store:
            if sealed:
                require_sealable(store, target)
            commit = store.import_envelope(
                source,
                session_id=target,
                agent_id=agent,
                base_version=base,
                sealed=sealed,
                fernet_key=key,
            )
    end_with_commit(commit, target, as_json=as_json)


def _named_session(source: BinaryIO, limit: int) -> str:
    """The session that an envelope names; it is read on from where it was."""
    begin = source.tell()
    stream = JsonStream(source, "envelope", limit_characters=limit)
    named = next(_session_ids(stream, limit), None)
    source.seek(begin)
    return check_id(named, f"{ROOT}.session_id")


def _session_ids(stream: JsonStream, limit: int) -> Iterator[Any]:
    for _ in stream.members():
        for name in stream.members():
            if stream.peek() == "[":  # the chunks, one at a time
                deque(stream.items(limit), maxlen=0)
                continue
            value = stream.value()
            if name == "session_id":
                yield value


def _fernet_key(name: str) -> str:
    return read_text(name, "--fernet-key-file", _KEY_LIMIT_BYTES).strip()
