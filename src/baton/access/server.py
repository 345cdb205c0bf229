"""Sets users on a Redis server, as one that may do everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from baton.access.rules import rules
from baton.access.scripts import load_missing
from baton.errors import UnexpectedAnswerError
from baton.redis_client import redis_errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

    from baton.access.grants import User
    from baton.access.passwords import PasswordFolder
    from baton.access.rules import Release

DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply_users` did."""

    users: tuple[str, ...]
    scripts_loaded: int


def release_of(client: redis.Redis) -> Release:
    """Which rules the server understands, by its version.

    Raises:
        UnexpectedAnswerError: it is older than 6.2.
        what `redis_errors` raises.
    """
    version = server_version(client)
    if version >= (7, 0):
        return "7"
    if version >= (6, 2):
        return "6.2"
    shown = ".".join(map(str, version))
    raise UnexpectedAnswerError(f"the server is Redis {shown}; users need Redis 6.2 or newer")


def server_version(client: redis.Redis) -> tuple[int, ...]:
    """The server's version, e.g. (7, 0, 15); a Valkey's is the Redis it stands for."""
    with redis_errors(client):
        info: Any = client.info("server")
    return tuple(int(part) for part in str(info["redis_version"]).split("."))


def apply_users(client: redis.Redis, chosen: Iterable[User], passwords: PasswordFolder) -> Applied:
    """Give the server these users, and the scripts. It forgets them unless `save_users` follows.

    A user's rights change in one step, so whoever is logged in goes on. May be repeated.

    Raises:
        InvalidInputError: a password is missing.
        AccessDeniedError: the client's user may not do that.
        UnexpectedAnswerError: the server does not know a rule.
    """
    release = release_of(client)
    # All passwords are read before anything is changed.
    wanted = [(user, rules(user, release, [passwords.digest(user.name)])) for user in chosen]
    with redis_errors(client):
        for user, given in wanted:
            run_command(client, "ACL", "SETUSER", user.name, *given)
        loaded = load_missing(client)
    return Applied(tuple(user.name for user, _ in wanted), loaded)


def switch_default_off(client: redis.Redis) -> None:
    """Leave the default user no password and no rights. Not for a client that is logged in as it.

    Raises:
        what `redis_errors` raises.
    """
    with redis_errors(client):
        run_command(client, "ACL", "SETUSER", DEFAULT, "reset")


def save_users(client: redis.Redis) -> bool:
    """Have the server keep its users over a restart; False where it has no aclfile.

    Raises:
        what `redis_errors` raises.
    """
    with redis_errors(client):
        has_file: Any = client.config_get("aclfile")
        if not any(has_file.values()):
            return False
        run_command(client, "ACL", "SAVE")
    return True


def run_command(client: redis.Redis, *words: str) -> Any:
    """The server's answer to a command that redis-py has no fitting method for."""
    run: Any = client.execute_command
    return run(*words)
