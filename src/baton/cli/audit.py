"""`baton audit …`: who did what to a session, and whether the record of it was changed."""

from __future__ import annotations

import contextlib
from pathlib import Path  # noqa: TC003 - Typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baton.archive.opening import open_trail
from baton.cli.connection import client_settings, open_client
from baton.cli.escaping import escape_line
from baton.cli.exits import FAILED, STORE_CODES, epilog
from baton.cli.files import write_parts
from baton.cli.options import Json, Limit, Session  # noqa: TC001 - Typer reads them
from baton.cli.output import instant, plain, say, show_fields, show_json, show_table, show_text
from baton.errors import AuditBrokenError, InvalidInputError
from baton.store.audit import AuditTrail
from baton.store.audit_anchors import make_anchor
from baton.store.audit_export import verify_chains
from baton.store.audit_verification import verified_together

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.archive.whole_trail import WholeTrail
    from baton.settings import ClientSettings
    from baton.store.audit_anchors import AuditAnchor
    from baton.store.audit_entries import AuditEntry
    from baton.store.audit_verification import AuditVerification

_DETAIL_CHARACTERS = 60

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback(
    epilog=epilog("baton audit show notes", "baton audit verify notes", codes=STORE_CODES)
)
def audit() -> None:
    """Show, verify, seal and export audit trails.

    Needs Redis only. What the archive's folder of this machine has of a trail is read as well.
    """


@app.command(epilog=epilog("baton audit show notes --limit 5", codes=STORE_CODES))
def show(session: Session, limit: Limit = 50, as_json: Json = False) -> None:
    """List what was done to a session, newest first; after its purge too."""
    with _open_whole() as trail:
        shown = trail.show(session, limit)
        entries = list(shown)
    if as_json:
        kept = [plain(entry) for entry in entries]
        show_json({"session": session, "entries": kept, "missing": shown.missing})
        return
    show_table(
        ("SEQ", "TIME", "AGENT", "OPERATION", "VERSION", "HOST", "CLIENT", "DETAILS"),
        [_row(entry) for entry in entries],
    )


@app.command(
    epilog=epilog(
        "baton audit verify notes",
        "baton audit verify --file notes.audit.jsonl",
        codes=STORE_CODES,
    )
)
def verify(
    session: Annotated[
        str | None, typer.Argument(metavar="SESSION", help="The session's id.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Verify this export instead, without Redis."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Recompute a trail against its seals, and the seals against the anchor.

    Exit code 4, and where it begins, if anything was edited, removed, added or reordered.
    """
    if (session is None) == (file is None):
        raise InvalidInputError("SESSION", "either a session or --file", "<both or none>")
    found = _verified_file(file) if file is not None else _verified(session or "")
    if as_json:
        show_json({"ok": found.ok, **plain(found), "problems": _problems(found)})
    else:
        _show_verification(found)
    if not found.ok:
        raise typer.Exit(FAILED)


@app.command(
    epilog=epilog("baton audit export notes -o notes.audit.jsonl --trim", codes=STORE_CODES)
)
def export(
    session: Session,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Replace this file.")
    ],
    trim: Annotated[
        bool,
        typer.Option(
            "--trim",
            help="Then take out of Redis what is in the file, anchored, and sealed 30 days ago.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write entries and seals to a file that `verify --file` checks."""
    with _open_whole() as whole:
        write_parts(output, whole.export(session))
    chains = _verified_chains(output)
    kept = verified_together(chains)
    trimmed = 0
    if trim:
        with _open_trail() as trail:
            trimmed = _trim(trail, kept, chains[-1].segments)
    if as_json:
        missing = kept.trimmed_entries
        show_json(
            {"session": session, "entries": kept.entries, "missing": missing, "trimmed": trimmed}
        )
    else:
        say(f"{output}: {kept.entries} entries, {kept.segments} seals; {trimmed} trimmed in Redis")
        _say_missing(session, kept.trimmed_entries)


@app.command(epilog=epilog("baton audit seal notes", "baton audit seal", codes=STORE_CODES))
def seal(
    session: Annotated[
        str | None, typer.Argument(metavar="SESSION", help="Default: all sessions.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Seal and anchor now what a sweep of `baton up` seals every minute."""
    with _open_trail() as trail:
        sealed = trail.seal_all() if session is None else trail.seal(session)
    if as_json:
        show_json({"session": session, "sealed": sealed})
    else:
        say(f"Sealed {sealed} entries.")


@contextlib.contextmanager
def _open_trail() -> Iterator[AuditTrail]:
    with open_client() as (settings, client):
        yield AuditTrail(client, _anchor(settings))


@contextlib.contextmanager
def _open_whole() -> Iterator[WholeTrail]:
    """With what was carried to the archive's file, where there is one."""
    with (
        open_client() as (settings, client),
        contextlib.closing(open_trail(settings, client)) as trail,
    ):
        yield trail


def _anchor(settings: ClientSettings) -> AuditAnchor | None:
    return make_anchor(settings.audit_anchor, settings.state_dir)


def _verified(session: str) -> AuditVerification:
    with _open_whole() as trail:
        return trail.verify(session)


def _verified_file(path: Path) -> AuditVerification:
    return verified_together(_verified_chains(path))


def _verified_chains(path: Path) -> list[AuditVerification]:
    try:
        with path.open("rb") as lines:
            return verify_chains(lines, _anchor(client_settings()))
    except OSError as error:
        reason = f"<{error.strerror or error}>"
        raise InvalidInputError(f"--file {path}", "a readable file", reason) from error


def _trim(trail: AuditTrail, exported: AuditVerification, through_segment: int) -> int:
    if not exported.ok:
        raise AuditBrokenError(
            f"session {exported.session_id}: its audit does not verify, so nothing was trimmed; "
            f"`baton audit verify {exported.session_id}` says more"
        )
    return trail.trim(exported.session_id, through_segment=through_segment)


def _say_missing(session: str, count: int) -> None:
    if count:
        say(
            f"{count} more entries of {session} are not here: they were exported before, or are "
            "in the archive's folder of another machine, or are past their time"
        )


def _show_verification(found: AuditVerification) -> None:
    show_fields(
        {
            "session": found.session_id,
            "verdict": "ok" if found.ok else "NOT what was recorded",
            "entries": f"{found.entries}, {found.sealed_entries} of them sealed",
            "unsealed": _unsealed(found),
            "trimmed": str(found.trimmed_entries),
            "anchored": f"{found.anchored_segments} of {found.segments} segments",
            "head": found.head or "none",
        }
    )
    for problem in found.problems:
        show_text(f"{problem.kind} {problem.number} {problem.text}")


def _unsealed(found: AuditVerification) -> str:
    if not found.unsealed_entries:
        return "0"
    return (
        f"{found.unsealed_entries}; until they are, who can write to Redis can change them unseen"
    )


def _problems(found: AuditVerification) -> list[dict[str, Any]]:
    return [problem._asdict() for problem in found.problems]


def _row(entry: AuditEntry) -> tuple[str, ...]:
    details = " ".join(f"{name}={value}" for name, value in entry.details.items())
    cells = (
        str(entry.seq),
        "-" if entry.at is None else instant(entry.at),
        entry.agent or "-",
        entry.operation,
        entry.version or "-",
        entry.host or "-",
        entry.client or "-",
        details,
    )
    # On one line each: what stands in Redis may be forged.
    return tuple(escape_line(cell, _DETAIL_CHARACTERS) for cell in cells)
