"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

AGENT: Final = "baton_cli"

Json = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")
]
AllowVolatile = Annotated[
    bool,
    typer.Option(
        "--allow-volatile",
        help="Run workers on a Redis of yours that may lose what is stored; BATON_ALLOW_VOLATILE.",
    ),
]
Agent = Annotated[str, typer.Option("--agent", metavar="ID", help="Who does it, for the record.")]
Session = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")]
TextFile = Annotated[
    str, typer.Argument(metavar="FILE", help="UTF-8 text file, - for standard input.")
]
VersionOrHead = Annotated[
    str | None, typer.Option("--version", metavar="VERSION", help="Default: the head.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Replace this file, all at once."),
]
HandoffId = Annotated[str, typer.Argument(metavar="ID", help="The handoff's id.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most this many, newest first.")]
Policy = Annotated[
    str,
    typer.Option(
        "--policy",
        metavar="POLICY",
        help="What it needs lest it fail: all, quorum:N, best_effort (one); fail_fast stops the "
        "others at the first failure.",
    ),
]
BudgetTokens = Annotated[
    int | None,
    typer.Option(
        "--budget-tokens", metavar="N", min=1, help="What its whole tree may use, replies too."
    ),
]
BudgetUsd = Annotated[
    float | None,
    typer.Option("--budget-usd", metavar="USD", help="What its whole tree may cost."),
]
Deadline = Annotated[
    float | None,
    typer.Option(
        "--deadline",
        metavar="SECONDS",
        help="What has not ended by then is over budget; the rest is merged all the same.",
    ),
]
Runner = Annotated[
    str | None,
    typer.Option(
        "--runner", metavar="NAME", help="Who does the tasks; default BATON_DEFAULT_RUNNER."
    ),
]
