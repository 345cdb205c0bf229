"""`baton up`: the whole stack in the foreground."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from baton.cli.application import command, environment, find_checkout
from baton.cli.exits import CANCELLED, DONE, FAILED, USAGE, epilog
from baton.cli.interrupts import signals
from baton.cli.options import AllowVolatile, Json  # noqa: TC001 - Typer reads them

MetricsPort = Annotated[
    int,
    typer.Option(
        min=0,
        max=65_000,
        help="First port of the pools' Prometheus endpoints, on 127.0.0.1; 0: none. "
        "BATON_METRICS_PORT goes before.",
    ),
]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog=epilog("BATON_AGENTS_THREADS=20 baton up", codes=(DONE, USAGE, FAILED, CANCELLED))
)
def up(
    as_json: Json = False,
    metrics_port: MetricsPort = 9464,
    allow_volatile: AllowVolatile = False,
) -> None:
    """Run Redis (embedded if none is reachable), the worker pools, beat and Flower.

    Ctrl-C stops all that it started; a second one at once. With --json one object is printed
    when every pool is up. A Redis of BATON_REDIS_URL that may lose what is stored, without an
    append-only file or with another maxmemory-policy than noeviction, is refused. Exit code 5
    means that it was stopped before that was tried.
    """
    arguments = ["--metrics-port", str(metrics_port)]
    arguments += ["--ready-fd", "1"] if as_json else []
    arguments += ["--allow-volatile"] if allow_volatile else []
    environ = environment(find_checkout(), {})
    sys.stdout.flush()
    sys.stderr.flush()
    # What comes while Python starts anew waits: the launcher lets it in when it can answer.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals())
    # Our own command line; it takes this process's place and terminal.
    os.execve(sys.executable, command(*arguments), environ)  # noqa: S606
