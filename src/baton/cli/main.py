"""The `baton` command: finds the subcommand, loads only that, turns errors into exit codes."""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from baton.cli.exits import (
    CANCELLED,
    DEGRADED,
    DONE,
    FAILED,
    INTERRUPTED,
    MISSING,
    USAGE,
    code_of_error,
    epilog,
)
from baton.cli.interrupts import raise_on_signals
from baton.cli.output import show_error, use_safe_streams
from baton.errors import BatonError

COMMANDS: Final = {
    "run": "Hand files and tasks to workers; print their merged result.",
    "up": "Run Redis, the worker pools, beat and Flower; Ctrl-C stops them.",
    "context": "Put, get, compare, merge and export contexts.",
    "audit": "Show, verify, seal and export what was done to sessions.",
    "keys": "Create, list and rotate the master keys of sealed sessions.",
    "lifecycle": "Tell and change what becomes of sessions as time passes.",
    "archive": "Archive sessions, search them by meaning, restore and purge them.",
    "handoff": "Submit handoffs, watch them, cancel them.",
    "acl": "Render, apply and check the Redis users of a deployment.",
    "agents": "List the registered agents.",
    "status": "Tell what is reachable, which pools are up, and all versions.",
    "doctor": "Find what is not as it should be in Redis and the archive, and mend it.",
}


class LazyGroup(TyperGroup):
    """A group whose commands are modules of `baton.cli`, each loaded when it is called.

    Help lists the names and summaries above, so it loads none: Celery alone takes longer than
    all the rest.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The real command, where Typer would answer with its placeholder."""
        name, placeholder, rest = super().resolve_command(ctx, args)
        if name is None or placeholder is None:
            return name, placeholder, rest
        return name, typer.main.get_command(import_module(f"baton.cli.{name}").app), rest


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, rich_markup_mode=None, add_completion=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"baton {metadata.version('baton')}")
        raise typer.Exit


@app.callback(
    epilog=epilog(
        'baton run --context notes.md "list the open questions"',
        codes=(DONE, MISSING, USAGE, DEGRADED, FAILED, CANCELLED, INTERRUPTED),
        meanings={DEGRADED: "some tasks gave no result, or a write waits to be merged"},
    )
)
def baton(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Hand work and context between LLM agents without losing either.

    Settings come from BATON_* variables, above all BATON_REDIS_URL; without that, Redis is
    embedded, its data in BATON_STATE_DIR.
    """


def _placeholder() -> None:
    """Stands for a command in the list of them."""


for _name, _summary in COMMANDS.items():
    app.command(_name, help=_summary)(_placeholder)


def run() -> NoReturn:
    """The entry point: run what the command line says, and exit with its code."""
    use_safe_streams()
    raise_on_signals()
    try:
        typer.main.get_command(app).main(prog_name="baton")
    except BatonError as error:
        show_error(error, as_json="--json" in sys.argv[1:])
        sys.exit(code_of_error(error))
    sys.exit(DONE)


if __name__ == "__main__":
    run()
