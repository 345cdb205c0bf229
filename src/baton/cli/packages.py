"""`baton handoff validate`: handoff packages from files, and what validation found of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baton.agents.handoff_package import MAX_PACKAGE_BYTES, package_json, read_package
from baton.cli.connection import open_client
from baton.cli.escaping import escape_line
from baton.cli.exits import DONE, FAILED, STORE_CODES, epilog
from baton.cli.files import read_text
from baton.cli.options import Json  # noqa: TC001 - Typer reads it
from baton.cli.output import plain, show_fields, show_json, show_text
from baton.handoff.validation import configured_validator
from baton.store.configured import open_context_store
from baton.swarm.registry import AgentRegistry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.agents.handoff_package import HandoffPackage
    from baton.handoff.checks import Check
    from baton.handoff.handle import Handoff
    from baton.handoff.packages import Acknowledgement
    from baton.handoff.validation import HandoffReport

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog=epilog("baton handoff validate package.json", codes=STORE_CODES),
)
def validate(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The package as JSON, - for standard input.")
    ],
    as_json: Json = False,
) -> None:
    """Tell whether a handoff package may be handed over now, and what stands in the way.

    Nothing is handed over. Exit code 4 where something does not hold.
    """
    package = read_package_file(file, "FILE")
    with open_client() as (settings, client):
        live_agents = AgentRegistry(client).live_among
        store = open_context_store(client, settings, live_agents=live_agents)
        try:
            report = configured_validator(client, store, settings).examine(package)
        finally:
            store.close()
    if as_json:
        show_json(_report_json(report))
    else:
        show_checks(report.checks)
        show_fields(_summary(report))
    raise typer.Exit(DONE if report.ok else FAILED)


def read_package_file(name: str, option: str) -> HandoffPackage:
    """The package in a file; `-` is standard input.

    Raises:
        InvalidInputError: the file cannot be read, or is no package; names the field.
    """
    return read_package(read_text(name, option, MAX_PACKAGE_BYTES))


def package_parts(handoff: Handoff) -> dict[str, Any]:
    """`package` and `acknowledgement` as `baton handoff show --json` prints them; null if none."""
    package, acknowledgement = handoff.package(), handoff.acknowledgement()
    return {
        "package": None if package is None else json.loads(package_json(package)),
        "acknowledgement": None if acknowledgement is None else _receipt_json(acknowledgement),
    }


def show_acknowledgement(acknowledgement: Acknowledgement) -> None:
    """Print who took the package over, and what did not hold."""
    show_checks([check for check in acknowledgement.checks if not check.holds])
    verdict = "accepted" if acknowledgement.accepted else "refused"
    show_fields({"package": f"{verdict} by {acknowledgement.by}"})


def show_checks(checks: Sequence[Check]) -> None:
    """Print a line for each."""
    for check in checks:
        said = "holds" if check.holds else f"does not hold: {escape_line(check.reason)}"
        show_text(f"{check.name} ({check.kind}): {said}")


def _summary(report: HandoffReport) -> dict[str, str]:
    buffer = report.buffer
    said = f"{buffer.available_tokens} tokens left"
    if buffer.short:
        said += f", fewer than {buffer.wanted_tokens}"
    if buffer.summariser:
        said += f"; condensing by {buffer.summariser} saves {buffer.saved_tokens}"
    if buffer.note:
        said += f"; not condensed: {buffer.note}"
    return {
        "handoff": report.package.handoff_id,
        "status": "ok" if report.ok else "refused",
        "buffer": said,
    }


def _report_json(report: HandoffReport) -> dict[str, Any]:
    buffer = report.buffer
    return {
        "handoff": report.package.handoff_id,
        "ok": report.ok,
        "checks": [plain(check) for check in report.checks],
        "buffer": {**plain(buffer), "short": buffer.short, "restored": buffer.restored},
        "package": json.loads(package_json(report.package)),
    }


def _receipt_json(acknowledgement: Acknowledgement) -> dict[str, Any]:
    return {
        "accepted": acknowledgement.accepted,
        "by": acknowledgement.by,
        "at": acknowledgement.at,
        "checks": [plain(check) for check in acknowledgement.checks],
    }
