"""`baton acl …`: the Redis users of a deployment, one for each pool and kind of client."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from baton.access.inspection import inspect
from baton.access.passwords import PasswordFolder
from baton.access.rules import WEAKER, aclfile, rules
from baton.access.server import apply_users, release_of, save_users, switch_default_off
from baton.access.users import ADMIN, users
from baton.cli.connection import client_settings, open_redis
from baton.cli.exits import DEGRADED, DONE, FAILED, USAGE, epilog
from baton.cli.files import write_whole
from baton.cli.options import Json, Output  # noqa: TC001 - Typer reads them
from baton.cli.output import plain, say, show_json, show_table
from baton.cluster_url import names_cluster
from baton.errors import InvalidInputError
from baton.login_url import with_login
from baton.redis_client import connect
from baton.settings import users_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from baton.access.grants import User
    from baton.access.inspection import Finding

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

_UNSAVED = (
    "WARNING: the server has no aclfile and forgets these users when it restarts. Save `baton acl "
    "render -o FILE`, and start it with `aclfile FILE`."
)

Passwords = Annotated[
    Path | None,
    typer.Option(
        "--passwords",
        metavar="DIR",
        help="Folder with a file of each user's password; missing ones are made. Default: "
        "BATON_ACL_DIR, else `acl` in BATON_STATE_DIR.",
    ),
]
Roles = Annotated[
    list[str] | None, typer.Option("--role", metavar="USER", help="This user only; repeatable.")
]
BrokerDatabase = Annotated[
    int, typer.Option("--broker-db", min=0, help="Celery's database: events name it.")
]


@app.callback(
    epilog=epilog(
        "baton acl render -o users.acl",
        "BATON_REDIS_USER=admin baton acl check",
        codes=(DONE, USAGE, DEGRADED, FAILED),
        meanings={DEGRADED: "warnings", FAILED: "not as it should be, or failed"},
    )
)
def acl() -> None:
    """Render, apply and check the Redis users, one for each pool and kind of client.

    Passwords are in files, never in arguments or in what is printed; an aclfile has their SHA-256.
    """


@app.command(
    epilog=epilog(
        "baton acl render --redis 6.2 -o users.acl",
        "baton acl render --role haiku_worker",
        codes=(DONE, USAGE, FAILED),
    )
)
def render(
    release: Annotated[
        Literal["7", "6.2"], typer.Option("--redis", help="The server's release, or newer.")
    ] = "7",
    role: Roles = None,
    passwords: Passwords = None,
    broker_db: BrokerDatabase = 1,
    without: Annotated[
        bool, typer.Option("--without-passwords", help="Rights alone; nobody can log in by it.")
    ] = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Print an aclfile with every user, and the default user off."""
    folder, chosen = _folder(passwords), _chosen(role, broker_db)
    if not without:
        _make(folder, chosen)
    digests = {user.name: [] if without else [folder.digest(user.name)] for user in chosen}
    wanted = [(user.name, rules(user, release, digests[user.name])) for user in chosen]
    if release == "6.2":
        say(f"WARNING: {WEAKER}")
    if as_json:
        shown = [
            {"user": user.name, "purpose": user.purpose, "rules": given}
            for user, (_, given) in zip(chosen, wanted, strict=True)
        ]
        show_json({"redis": release, "passwords": str(folder.path), "users": shown})
    elif output is not None:
        write_whole(output, aclfile(wanted).encode())
    else:
        typer.echo(aclfile(wanted), nl=False)


@app.command(
    "apply",
    epilog=epilog(
        "baton acl apply",
        "BATON_REDIS_USER=admin baton acl apply --role monitor",
        codes=(DONE, USAGE, DEGRADED, FAILED),
        meanings={DEGRADED: "done, but the server forgets it when it restarts"},
    ),
)
def apply_(
    role: Roles = None,
    passwords: Passwords = None,
    broker_db: BrokerDatabase = 1,
    keep_default: Annotated[
        bool, typer.Option("--keep-default", help="Leave the default user as it is.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Set the users on the server of BATON_REDIS_URL, load the scripts, switch the default off.

    The URL's user has to be one that may do that: at first the default user, afterwards admin
    (BATON_REDIS_USER=admin).
    """
    folder, chosen = _folder(passwords), _chosen(role, broker_db)
    _make(folder, chosen)
    with _server() as (client, url):
        weaker = release_of(client) == "6.2"
        done = apply_users(client, chosen, folder)
        saved = _finish(client, url, folder, default_off=role is None and not keep_default)
    if weaker:
        say(f"WARNING: {WEAKER}")
    if as_json:
        show_json({**plain(done), "saved": saved})
    else:
        say(f"Set {len(done.users)} users and loaded {done.scripts_loaded} scripts.")
    if not saved:
        say(_UNSAVED)
        raise typer.Exit(DEGRADED)


@app.command(
    epilog=epilog(
        "BATON_REDIS_USER=admin baton acl check --json",
        codes=(DONE, USAGE, DEGRADED, FAILED),
        meanings={DEGRADED: "warnings", FAILED: "not as it should be, or it cannot be told"},
    )
)
def check(
    passwords: Passwords = None, broker_db: BrokerDatabase = 1, as_json: Json = False
) -> None:
    """Compare the server of BATON_REDIS_URL with what it should be, as admin.

    Users and their passwords, the default user, scripts, persistence, eviction, what is reachable
    without TLS, and the version.
    """
    with _server() as (client, url):
        found = inspect(client, url, _chosen(None, broker_db), _folder(passwords))
    _show(found, as_json=as_json)
    levels = {finding.level for finding in found}
    if "problem" in levels:
        raise typer.Exit(FAILED)
    if "warning" in levels:
        raise typer.Exit(DEGRADED)


def _finish(client: redis.Redis, url: str, folder: PasswordFolder, *, default_off: bool) -> bool:
    """Switch the default user off, as whom we may have come, and save; whether that could be."""
    if not default_off:
        return save_users(client)
    as_admin = with_login(url, ADMIN, folder.read(ADMIN))
    with contextlib.closing(connect(as_admin, client_settings())) as admin:
        switch_default_off(admin)
        return save_users(admin)


def _show(found: list[Finding], *, as_json: bool) -> None:
    if as_json:
        show_json({"findings": [plain(finding) for finding in found]})
    else:
        rows = [(finding.level, finding.about, finding.detail) for finding in found]
        show_table(("", "WHAT", "HOW IT IS"), rows)


def _chosen(names: list[str] | None, broker_database: int) -> list[User]:
    known = {user.name: user for user in users(broker_database=broker_database)}
    for name in names or ():
        if name not in known:
            raise InvalidInputError("--role", f"one of {', '.join(known)}", name)
    return [known[name] for name in names] if names else list(known.values())


def _folder(path: Path | None) -> PasswordFolder:
    return PasswordFolder((path or users_folder(client_settings())).absolute())


def _make(folder: PasswordFolder, chosen: list[User]) -> None:
    made = folder.make_missing([user.name for user in chosen])
    if made:
        say(f"Made passwords in {folder.path}: {', '.join(made)}")


@contextlib.contextmanager
def _server() -> Iterator[tuple[redis.Redis, str]]:
    with (
        open_redis(client_settings()) as where,
        contextlib.closing(connect(where.url, where.settings)) as client,
    ):
        if names_cluster(where.url):
            expected = "the URL of one node of the cluster; each node has users of its own"
            raise InvalidInputError("BATON_REDIS_URL", expected, "<a cluster's>")
        yield client, where.url
