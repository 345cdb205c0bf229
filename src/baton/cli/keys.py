"""`baton keys …`: the master keys under which the data keys of sealed sessions are wrapped."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from baton.cli.connection import client_settings, open_client
from baton.cli.exits import DONE, FAILED, STORE_CODES, USAGE, epilog
from baton.cli.options import AGENT, Agent, Json
from baton.cli.output import plain, say, show_fields, show_json, show_table
from baton.errors import InvalidInputError, SettingsError
from baton.key_providers.configured import configured_provider
from baton.key_providers.file import FileKeyProvider
from baton.store.audit_entries import Caller
from baton.store.data_keys import KeyRotation

if TYPE_CHECKING:
    from baton.key_providers.environment import EnvKeyProvider
    from baton.settings import ClientSettings
    from baton.store.data_keys import RewrapReport

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback(
    epilog=epilog(
        "baton keys create ~/baton.keys",
        "BATON_KEY_FILE=~/baton.keys baton keys rotate",
        codes=STORE_CODES,
    )
)
def keys() -> None:
    """Create, list and rotate master keys. They stay in BATON_KEY_FILE or BATON_MASTER_KEYS."""


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
    """List the ids of the configured master keys; the first is current. Shows no key."""
    ids = _provider(client_settings()).key_ids()
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

    Readers and writers go on meanwhile, and no content is sealed again. Where other machines
    have the keys in files of their own, put the new key there first, by hand, and then use
    --rewrap-only. It may be repeated; exit code 4 where a data key stayed under its old key.
    Before an old key is removed, --rewrap-only must find nothing to re-wrap.
    """
    provider = _provider(client_settings())
    with open_client() as (_, client):
        added = None if rewrap_only else _added_key(provider)
        report = KeyRotation(client, provider, Caller.here()).rewrap_all(agent)
    _show_rotation(provider.current_key_id(), added, report, as_json=as_json)
    if report.failed:
        raise typer.Exit(FAILED)


def _provider(settings: ClientSettings) -> FileKeyProvider | EnvKeyProvider:
    secret = settings.master_keys
    provider = configured_provider(
        settings.key_file, None if secret is None else secret.get_secret_value()
    )
    if provider is None:
        expected = "a key file, as `baton keys create FILE` makes it"
        raise SettingsError("BATON_KEY_FILE", expected, "<nothing>")
    return provider


def _added_key(provider: FileKeyProvider | EnvKeyProvider) -> str:
    if not isinstance(provider, FileKeyProvider):
        expected = "it after you put a new key first in BATON_MASTER_KEYS everywhere"
        raise InvalidInputError("--rewrap-only", expected, "<no option>")
    key_id = provider.add_key()
    # At once: if what follows fails, the next try is to re-wrap only.
    say(f"Added master key {key_id} to {provider.path}; keep a copy of that file.")
    return key_id


def _show_rotation(current: str, added: str | None, report: RewrapReport, *, as_json: bool) -> None:
    if as_json:
        show_json({"key": current, "added": added, **plain(report)})
        return
    show_fields(
        {
            "key": current,
            "re-wrapped": str(report.rewrapped),
            "current already": str(report.current),
            "failed": str(len(report.failed)),
        }
    )
    for session_id, reason in report.failed.items():
        say(f"{session_id}: {reason}")
