"""`baton context …`: contexts written and read without workers; the group of all its commands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from baton.cli import conflicts, envelopes, marks, sessions, versions
from baton.cli.connection import client_settings, open_store
from baton.cli.contents import hand_out
from baton.cli.exits import STORE_CODES, epilog, write_epilog
from baton.cli.files import read_text
from baton.cli.options import AGENT, Agent, Json, Output, Session, TextFile, VersionOrHead
from baton.cli.output import size
from baton.cli.writing import end_with_commit, find_head, require_written
from baton.content.wire_chunks import OVERLAP_TOKENS
from baton.errors import InvalidInputError
from baton.merge.strict_json import parse_json
from baton.versions import Bump  # noqa: TC001 - Typer reads it

if TYPE_CHECKING:
    from baton.merge.conflicts import Json as JsonValue
    from baton.store.records import Extract, Policy, ReadChunk

PolicyName = Literal["merge", "last-write-wins", "reject"]

_POLICIES: Final[dict[PolicyName, Policy]] = {
    "merge": "merge",
    "last-write-wins": "last_write_wins",
    "reject": "reject",
}
_BYTES: Final = re.compile(r"([0-9]{0,18}):([0-9]{0,18})")

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
for _part in (sessions, versions, conflicts, marks, envelopes):
    app.add_typer(_part.app)


@app.callback(
    epilog=epilog(
        "baton context put notes notes.md",
        "baton context get notes -o notes.md",
        codes=STORE_CODES,
    )
)
def context() -> None:
    """Contexts of sessions, by version. Needs Redis only: BATON_REDIS_URL, else the embedded one.

    Writers that came at once are merged; what cannot be waits for `resolve`.
    """


@app.command(
    epilog=write_epilog(
        "baton context put notes notes.md --base 1.0.3",
        "baton context put plan plan.json --json-document --bump minor --meta ticket=B-7",
    )
)
def put(  # noqa: PLR0913, PLR0917  # a command's options
    session: Session,
    file: TextFile,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", metavar="VERSION", help="The version you changed; default: the head now."
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="VERSION", help="The new version; default: by --bump."),
    ] = None,
    bump: Annotated[
        Bump, typer.Option("--bump", help="Which part of the version goes up.")
    ] = "patch",
    policy: Annotated[
        PolicyName,
        typer.Option("--policy", help="What becomes of it where the head is not the base."),
    ] = "merge",
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Begin the session sealed; needs BATON_KEY_FILE.")
    ] = False,
    json_document: Annotated[
        bool, typer.Option("--json-document", help="It is JSON, and merges as a document.")
    ] = False,
    meta: Annotated[
        list[str] | None,
        typer.Option(
            "--meta",
            metavar="KEY=VALUE",
            help="Metadata of the version; KEY:=JSON for what is no text. May be repeated.",
        ),
    ] = None,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Write a file as the session's next version.

    Where another writer came since the base, both changes are merged; where they touch the same
    places, the head stays, yours is kept, and you are told how to resolve it. Without --meta the
    metadata stays as it was.
    """
    metadata = _metadata(meta) if meta else None
    text = read_text(file, "FILE", client_settings().max_context_bytes)
    with open_store() as store:
        base = find_head(store, session) if base is None else base
        commit = store.put(
            session,
            text,
            agent_id=agent,
            base_version=base,
            version=version,
            bump=bump,
            policy=_POLICIES[policy],
            metadata=metadata,
            sealed=sealed,
            content_type="application/json" if json_document else None,
        )
    end_with_commit(require_written(commit, session, base), session, as_json=as_json)


@app.command(epilog=epilog("date | baton context append notes -", codes=STORE_CODES))
def append(session: Session, file: TextFile, agent: Agent = AGENT, as_json: Json = False) -> None:
    """Add a file's text behind the head, whatever that is by then. Never conflicts."""
    text = read_text(file, "FILE", client_settings().max_context_bytes)
    with open_store() as store:
        commit = store.append(session, text, agent_id=agent)
    end_with_commit(commit, session, as_json=as_json)


@app.command(
    epilog=epilog(
        "baton context get notes",
        "baton context get notes --version 1.0.2 -o old.md",
        codes=STORE_CODES,
    )
)
def get(
    session: Session,
    version: VersionOrHead = None,
    output: Output = None,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Print a version, verified, byte for byte.

    Nothing is added, not even a line end. Only a terminal gets control characters escaped.
    """
    with open_store() as store:
        found = store.get(session, version, agent_id=agent)
    summary = f"{session} {found.version}, {size(found.size_bytes)}"
    hand_out(found, output, as_json=as_json, summary=summary)


@app.command(
    epilog=epilog(
        "baton context read notes --bytes 1024:2048",
        "baton context read notes --chunk 0 -o first.txt",
        codes=STORE_CODES,
    )
)
def read(
    session: Session,
    bytes_: Annotated[
        str | None,
        typer.Option(
            "--bytes", metavar="START:END", help="From byte START up to END; one may be left out."
        ),
    ] = None,
    chunk: Annotated[
        int | None,
        typer.Option("--chunk", metavar="N", help="Chunk N of at most 1 MiB, from 0."),
    ] = None,
    overlap_tokens: Annotated[
        int | None,
        typer.Option(
            "--overlap-tokens",
            metavar="N",
            help=f"How much of the chunk before comes with it; default {OVERLAP_TOKENS}.",
        ),
    ] = None,
    version: VersionOrHead = None,
    output: Output = None,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Print a part of a version.

    A range of bytes begins and ends where characters do, moved back to that. Chunks are what a
    model reads a long context by. Fetches no more than it needs.
    """
    if (bytes_ is None) == (chunk is None):
        raise InvalidInputError("--bytes", "either it or --chunk", "<both or none>")
    if chunk is None and overlap_tokens is not None:
        raise InvalidInputError("--overlap-tokens", "it beside --chunk only", overlap_tokens)
    found: Extract | ReadChunk
    with open_store() as store:
        if chunk is None:
            start, end = _byte_range(bytes_ or "")
            found = store.read_range(session, start, end, version=version, agent_id=agent)
        else:
            tokens = OVERLAP_TOKENS if overlap_tokens is None else overlap_tokens
            found = store.read_chunk(
                session, chunk, overlap_tokens=tokens, version=version, agent_id=agent
            )
    summary = f"{session} {found.version}, bytes {found.start_byte} to {found.end_byte}"
    hand_out(found, output, as_json=as_json, summary=summary)


def _metadata(pairs: list[str]) -> dict[str, JsonValue]:
    """Names and values of `--meta`, each name once."""
    metadata: dict[str, JsonValue] = {}
    for pair in pairs:
        left, equals, value = pair.partition("=")
        name = left.removesuffix(":")
        if not name or not equals or name in metadata:
            raise InvalidInputError("--meta", "KEY=VALUE or KEY:=JSON, each key once", pair)
        metadata[name] = value if name == left else parse_json(value, f"--meta {name}")
    return metadata


def _byte_range(given: str) -> tuple[int, int | None]:
    match = _BYTES.fullmatch(given)
    if match is None:
        raise InvalidInputError("--bytes", "START:END, such as 0:1024, 1024: or :1024", given)
    start, end = match.groups()
    return int(start or 0), int(end) if end else None
