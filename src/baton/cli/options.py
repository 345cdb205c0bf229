"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")
]
Session = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")]
HandoffId = Annotated[str, typer.Argument(metavar="ID", help="The handoff's id.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most this many, newest first.")]
Runner = Annotated[
    str | None,
    typer.Option(
        "--runner", metavar="NAME", help="Who does the tasks; default BATON_DEFAULT_RUNNER."
    ),
]
