"""`baton keys …`: the master keys under which the data keys of sealed sessions are wrapped."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from baton.archive.master_key import find_key_provider, own_key_file
from baton.archive.opening import archive_folder
from baton.archive.rewrapping import rewrap_ledger
from baton.archive.shelf_keys import ShelfRewrap
from baton.cli.archiving import ask
from baton.cli.connection import client_settings, open_client
from baton.cli.exits import DONE, FAILED, STORE_CODES, USAGE, epilog
from baton.cli.options import AGENT, Agent, Json
from baton.cli.output import plain, say, show_fields, show_json, show_table
from baton.errors import ArchiveBusyError, InvalidInputError, SettingsError
from baton.key_providers.file import FileKeyProvider
from baton.store.audit_entries import Caller
from baton.store.data_keys import KeyRotation, RewrapReport

if TYPE_CHECKING:
    from baton.key_providers.environment import EnvKeyProvider
    from baton.settings import ClientSettings

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback(
    epilog=epilog(
        "baton keys create ~/baton.keys",
        "BATON_KEY_FILE=~/baton.keys baton keys rotate",
        codes=STORE_CODES,
    )
)
def keys() -> None:
    """Create, list and rotate master keys. They stay in BATON_KEY_FILE or BATON_MASTER_KEYS.

    Without either, in the key file that an archive on this machine has made for itself.
    """


@app.command(epilog=epilog("baton keys create ~/baton.keys", codes=(DONE, USAGE, FAILED)))
def create(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where; nothing may be there.")],
    as_json: Json = False,
) -> None:
    """Make a file of one new key, for our eyes only.

    Keep a copy elsewhere: without its keys, what they sealed is lost.
    """
    path = file.absolute()
    key_id = FileKeyProvider.create(path).current_key_id()
    if as_json:
        show_json({"file": str(path), "key": key_id})
    else:
        show_fields({"file": str(path), "key": key_id})
        say(f"Set BATON_KEY_FILE={path} wherever Baton runs, and keep a copy elsewhere.")


@app.command("list", epilog=epilog("baton keys list", codes=(DONE, USAGE, FAILED)))
def list_(as_json: Json = False) -> None:
    """List the ids of the master keys; the first is current. Shows no key."""
    settings = client_settings()
    ids = _provider(settings).key_ids()
    _is_archives_own(settings)
    if as_json:
        show_json({"keys": [{"key": id_, "current": not place} for place, id_ in enumerate(ids)]})
    else:
        rows = [(id_, "" if place else "current") for place, id_ in enumerate(ids)]
        show_table(("KEY", "USE"), rows)


@app.command(
    epilog=epilog("baton keys rotate", "baton keys rotate --rewrap-only", codes=STORE_CODES)
)
def rotate(
    rewrap_only: Annotated[
        bool, typer.Option("--rewrap-only", help="Add no key: the first one is new already.")
    ] = False,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Add a new current key to BATON_KEY_FILE, then wrap all data keys under it.

    Those of sealed sessions in Redis, and those of the archive on this machine, if there is one.
    Readers and writers go on meanwhile, and no content is sealed again. Where other machines
    have the keys in files of their own, put the new key there first, by hand, and then use
    --rewrap-only. It may be repeated; exit code 4 where a data key stayed under its old key.
    Before an old key is removed, --rewrap-only must find nothing to re-wrap, in Redis and in the
    archive.
    """
    settings = client_settings()
    provider = _provider(settings)
    if _is_archives_own(settings):
        added = None if rewrap_only else _added_key(provider)
        report = RewrapReport(0, 0, {})
    else:
        with open_client() as (_, client):
            added = None if rewrap_only else _added_key(provider)
            report = KeyRotation(client, provider, Caller.here()).rewrap_all(agent)
    archive = _rewrapped_archive(settings, agent)
    current = provider.current_key_id()
    _show_rotation(current, added, report, archive, as_json=as_json)
    archive_done = archive is None or _is_done(settings, archive, current)
    if report.failed or not archive_done:
        raise typer.Exit(FAILED)


def _provider(settings: ClientSettings) -> FileKeyProvider | EnvKeyProvider:
    provider = find_key_provider(settings, archive_folder(settings))
    if provider is None:
        expected = "a key file, as `baton keys create FILE` makes it"
        raise SettingsError("BATON_KEY_FILE", expected, "<nothing>")
    return provider


def _is_archives_own(settings: ClientSettings) -> bool:
    """Whether these are the keys of the archive alone. Says so."""
    if settings.key_file is not None or settings.master_keys is not None:
        return False
    say(
        "BATON_KEY_FILE is not set: these are the keys of the archive alone, in "
        f"{own_key_file(archive_folder(settings))}."
    )
    return True


def _rewrapped_archive(settings: ClientSettings, agent_id: str) -> ShelfRewrap | None:
    """What became of this machine's archive; None if there is none."""
    try:
        return rewrap_ledger(settings)
    except ArchiveBusyError:
        return ShelfRewrap(**ask("rewrap", agent_id))


def _is_done(settings: ClientSettings, archive: ShelfRewrap, current: str) -> bool:
    """Whether the archive needs no other key any more. Says what to do where it does."""
    if archive.key != current:
        say(
            f"The process that has the archive still takes {archive.key} for the current key: "
            "restart it with the new one, and then use --rewrap-only."
        )
        return False
    own = own_key_file(archive_folder(settings))
    is_configured = settings.key_file is not None or settings.master_keys is not None
    if archive.failed and is_configured and own.exists():
        say(
            f"Before BATON_KEY_FILE or BATON_MASTER_KEYS was set, the archive had its keys in "
            f"{own}: put those lines last among the configured keys, and then use --rewrap-only."
        )
    return not archive.failed


def _added_key(provider: FileKeyProvider | EnvKeyProvider) -> str:
    if not isinstance(provider, FileKeyProvider):
        expected = "it after you put a new key first in BATON_MASTER_KEYS everywhere"
        raise InvalidInputError("--rewrap-only", expected, "<no option>")
    key_id = provider.add_key()
    # At once: if what follows fails, the next try is to re-wrap only.
    say(f"Added master key {key_id} to {provider.path}; keep a copy of that file.")
    return key_id


def _show_rotation(
    current: str,
    added: str | None,
    report: RewrapReport,
    archive: ShelfRewrap | None,
    *,
    as_json: bool,
) -> None:
    if as_json:
        in_archive = None if archive is None else plain(archive)
        show_json({"key": current, "added": added, **plain(report), "archive": in_archive})
        return
    fields = {"key": current, **_counts(report)}
    if archive is not None:
        fields |= {f"archive: {name}": count for name, count in _counts(archive).items()}
    show_fields(fields)
    for session_id, reason in report.failed.items():
        say(f"{session_id}: {reason}")
    for session_id, reason in ({} if archive is None else archive.failed).items():
        say(f"archived {session_id}: {reason}")


def _counts(report: RewrapReport | ShelfRewrap) -> dict[str, str]:
    return {
        "re-wrapped": str(report.rewrapped),
        "current already": str(report.current),
        "failed": str(len(report.failed)),
    }
