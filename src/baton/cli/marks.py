"""`baton context …` for places to find again: tags, checkpoints, and resuming from one."""

from __future__ import annotations

from typing import Annotated

import typer

from baton.cli.connection import open_store
from baton.cli.contents import hand_out
from baton.cli.exits import STORE_CODES, epilog
from baton.cli.options import AGENT, Agent, Json, Output, Session, VersionOrHead
from baton.cli.output import instant, plain, say, show_fields, show_json, show_table

Name = Annotated[str, typer.Argument(metavar="NAME", help="The tag.")]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog=epilog("baton context tag notes reviewed --version 1.2.0", codes=STORE_CODES))
def tag(
    session: Session,
    name: Name,
    version: VersionOrHead = None,
    move: Annotated[
        bool, typer.Option("--move", help="Take it from the version that has it.")
    ] = False,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Name a version, and keep it from collection."""
    with open_store() as store:
        tagged = store.tag(session, name, version, agent_id=agent, move=move)
    shown = {"session": session, "tag": name, "version": tagged}
    (show_json if as_json else show_fields)(shown)


@app.command(epilog=epilog("baton context untag notes reviewed", codes=STORE_CODES))
def untag(session: Session, name: Name, agent: Agent = AGENT, as_json: Json = False) -> None:
    """Remove a tag; its version may be collected from then on."""
    with open_store() as store:
        store.untag(session, name, agent_id=agent)
    if as_json:
        show_json({"session": session, "tag": name, "removed": True})
    else:
        say(f"Removed tag {name} of {session}.")


@app.command(epilog=epilog("baton context tags notes", codes=STORE_CODES))
def tags(session: Session, as_json: Json = False) -> None:
    """List a session's tags."""
    with open_store() as store:
        found = store.tags(session)
    if as_json:
        show_json({"session": session, "tags": found})
    else:
        show_table(("TAG", "VERSION"), found.items())


@app.command(
    epilog=epilog('baton context checkpoint notes "read so far" --byte 1048576', codes=STORE_CODES)
)
def checkpoint(
    session: Session,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="What the place is, in a line.")],
    byte: Annotated[
        int | None,
        typer.Option("--byte", metavar="N", help="The first byte behind what is done."),
    ] = None,
    token: Annotated[
        int | None,
        typer.Option("--token", metavar="N", help="Or about how many tokens are done."),
    ] = None,
    version: VersionOrHead = None,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Mark a place in a version, to resume from.

    The default is its end. The version is kept from collection.
    """
    with open_store() as store:
        made = store.checkpoint(
            session,
            label,
            agent_id=agent,
            byte_position=byte,
            token_position=token,
            version=version,
        )
    if as_json:
        show_json({"session": session, **plain(made)})
        return
    show_fields(
        {
            "checkpoint": made.checkpoint_id,
            "version": made.version,
            "byte": str(made.byte_position),
            "to go on": f"baton context resume {session} {made.checkpoint_id}",
        }
    )


@app.command(epilog=epilog("baton context checkpoints notes", codes=STORE_CODES))
def checkpoints(session: Session, as_json: Json = False) -> None:
    """List a session's checkpoints, the oldest first."""
    with open_store() as store:
        found = store.checkpoints(session)
    if as_json:
        show_json({"session": session, "checkpoints": [plain(each) for each in found]})
        return
    show_table(
        ("CHECKPOINT", "VERSION", "BYTE", "TOKEN", "MADE", "AGENT", "LABEL"),
        [
            (
                each.checkpoint_id,
                each.version,
                str(each.byte_position),
                str(each.token_position),
                instant(each.created_at),
                each.agent_id,
                each.label,
            )
            for each in found
        ],
    )


@app.command(
    epilog=epilog("baton context resume notes cp_5f1c2ab09d3e4f67 -o rest.md", codes=STORE_CODES)
)
def resume(
    session: Session,
    checkpoint_id: Annotated[
        str, typer.Argument(metavar="CHECKPOINT_ID", help="As `checkpoints` lists it.")
    ],
    output: Output = None,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Print what stands behind a checkpoint.

    That is the rest of the version that the checkpoint is in, not of the head.
    """
    with open_store() as store:
        found = store.resume(session, checkpoint_id, agent_id=agent)
    summary = f"{session} {found.version}, bytes {found.start_byte} to {found.end_byte}"
    hand_out(found, output, as_json=as_json, summary=summary)
