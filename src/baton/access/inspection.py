"""Compares a Redis server with what it should be: users, default user, persistence, exposure."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from baton.access.rules import rules
from baton.access.scripts import script_sources
from baton.access.server import DEFAULT, release_of, run_command, server_version
from baton.login_url import bare_host, is_loopback
from baton.redis_client import redis_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import redis

    from baton.access.grants import User
    from baton.access.passwords import PasswordFolder
    from baton.access.rules import Release

Level = Literal["ok", "warning", "problem"]

# The first releases without CVE-2025-49844, which runs code through any user's Lua; 7.0 has none.
FIXED: Final[dict[tuple[int, ...], tuple[int, ...]]] = {
    (6, 2): (6, 2, 20),
    (7, 2): (7, 2, 11),
    (7, 4): (7, 4, 6),
    (8, 0): (8, 0, 4),
}
_FIRST_FIXED_LINE: Final = (8, 2, 2)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and how it is. `problem`: it is not as it should be."""

    level: Level
    about: str
    detail: str


def inspect(
    client: redis.Redis, url: str, chosen: Sequence[User], passwords: PasswordFolder
) -> list[Finding]:
    """Everything that is to be known, the good included.

    Sets a user of a random name, without password and off, for as long as this takes: the server
    itself brings rules into the form that it shows.

    Raises:
        AccessDeniedError: the client's user may not see or set users.
        StoreUnavailableError: the server does not answer.
    """
    release = release_of(client)
    found = [*_users(client, release, chosen, passwords)]
    found += [_default(client), *_strangers(client, chosen), *_files(chosen, passwords)]
    found += [_scripts(client), *_keeping(client), *_exposure(client, url), _version(client)]
    return found


def _users(
    client: redis.Redis, release: Release, chosen: Sequence[User], passwords: PasswordFolder
) -> Iterator[Finding]:
    with _scratch_user(client) as scratch:
        for user in chosen:
            about = f"user {user.name}"
            found = _shown(client, user.name)
            digest = passwords.digest(user.name)
            with redis_errors(client):
                run_command(client, "ACL", "SETUSER", scratch, *rules(user, release, [digest]))
            wanted = _shown(client, scratch) or {}
            if found is None:
                yield Finding("problem", about, "is not there; `baton acl apply` sets it")
            elif found != wanted:
                parts = ", ".join(part for part in wanted if found.get(part) != wanted[part])
                yield Finding("problem", about, f"is not as rendered: {parts or 'other rules'}")
            else:
                yield Finding("ok", about, user.purpose)


@contextmanager
def _scratch_user(client: redis.Redis) -> Iterator[str]:
    name = f"baton-check-{secrets.token_hex(8)}"
    try:
        yield name
    finally:
        with redis_errors(client):
            client.acl_deluser(name)


def _shown(client: redis.Redis, name: str) -> dict[str, Any] | None:
    """What `ACL GETUSER` tells, in a form that compares."""
    with redis_errors(client):
        answer = run_command(client, "ACL GETUSER", name)
    if answer is None:
        return None
    return {_text(key): _comparable(value) for key, value in answer.items()}


def _comparable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return sorted(str(_comparable(each)) for each in value)
    if isinstance(value, dict):
        return sorted((_text(key), str(_comparable(each))) for key, each in value.items())
    return _text(value)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _default(client: redis.Redis) -> Finding:
    shown = _shown(client, DEFAULT) or {}
    if (
        "on" in str(shown.get("flags", "")).replace("'", " ").split()
        or shown.get("enabled") == "True"
    ):
        return Finding(
            "problem", "default user", "is on: whoever reaches the port may log in as it"
        )
    return Finding("ok", "default user", "off")


def _strangers(client: redis.Redis, chosen: Sequence[User]) -> Iterator[Finding]:
    with redis_errors(client):
        names = {_text(name) for name in client.acl_users()}
    ours = {user.name for user in chosen} | {DEFAULT}
    for name in sorted(names - ours):
        yield Finding("warning", f"user {name}", "is none of Baton's; ACL DELUSER removes it")


def _files(chosen: Sequence[User], passwords: PasswordFolder) -> Iterator[Finding]:
    for name in passwords.exposed([user.name for user in chosen]):
        file = passwords.path / name
        yield Finding("warning", f"password of {name}", f"{file} can be read by others: chmod 600")


def _scripts(client: redis.Redis) -> Finding:
    with redis_errors(client):
        known: Any = client.script_exists(*script_sources())
    missing = sum(not each for each in known)
    if missing:
        detail = f"{missing} are not loaded; `baton acl apply` and beat's user `scripts` do that"
        return Finding("problem", "scripts", detail)
    return Finding("ok", "scripts", f"{len(known)} loaded")


def _keeping(client: redis.Redis) -> Iterator[Finding]:
    with redis_errors(client):
        info: Any = client.info()
        aclfile = _setting(client, "aclfile")
    if info.get("aof_enabled"):
        yield Finding("ok", "persistence", "append-only file")
    else:
        detail = "no append-only file: a restart loses what was stored (appendonly yes)"
        yield Finding("problem", "persistence", detail)
    policy = str(info.get("maxmemory_policy", "noeviction"))
    level: Level = "ok" if policy == "noeviction" else "problem"
    yield Finding(level, "maxmemory-policy", policy)
    if aclfile:
        yield Finding("ok", "aclfile", aclfile)
    else:
        yield Finding("problem", "aclfile", "none is set: a restart forgets the users")


def _exposure(client: redis.Redis, url: str) -> Iterator[Finding]:
    bare = bare_host(url)
    if bare is not None:
        yield Finding("problem", "our connection", f"reaches {bare} without TLS: rediss://")
    with redis_errors(client):
        port, bound = _setting(client, "port"), _setting(client, "bind").split()
    beyond = [each for each in bound or ["*"] if not is_loopback(each.lstrip("-"))]
    if port == "0" or not beyond:
        yield Finding("ok", "exposure", "no port without TLS beyond this machine")
    else:
        detail = f"port {port} without TLS on {' '.join(beyond)}; use tls-port, and port 0"
        yield Finding("problem", "exposure", detail)


def _version(client: redis.Redis) -> Finding:
    version = server_version(client)
    shown = ".".join(map(str, version))
    fixed = FIXED.get(version[:2], _FIRST_FIXED_LINE)
    if version >= fixed and version[:2] != (7, 0):
        return Finding("ok", "version", shown)
    what = "its line gets no fixes" if version[:2] == (7, 0) else f"fixed in {_dotted(fixed)}"
    return Finding(
        "warning",
        "version",
        f"{shown}: upstream's has CVE-2025-49844 ({what}); a distribution may have mended it. "
        "No user but admin may send a script of its own, which is what it takes",
    )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _setting(client: redis.Redis, name: str) -> str:
    answer: Any = client.config_get(name)
    return _text(next(iter(answer.values()), ""))
