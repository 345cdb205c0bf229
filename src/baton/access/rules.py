"""Turns users into the rules of `ACL SETUSER` and of an aclfile, for Redis 7 or for 6.2."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from baton.access.grants import Grant, User

Release = Literal["7", "6.2"]

DEFAULT_OFF: Final = "user default off resetpass resetkeys resetchannels -@all"
WEAKER: Final = (
    "Redis 6.2 gives a user one set of commands and one of keys: each command holds for every key "
    "of the user, and who may write one of them may write all with that command. Reading alone "
    "cannot be granted. What differs from Redis 7: docs/security.md."
)

_MARK: Final = {"both": "~", "read": "%R~", "write": "%W~"}
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
# What a connection says of itself, whichever of it a release knows; not `CLIENT KILL` and the like.
_CONNECTION: Final = (
    "+@connection", "-@admin", "-@dangerous", "-client|tracking", "-client|caching",
)  # fmt: skip
_CONNECTION_62: Final = (
    "+auth", "+hello", "+ping", "+echo", "+select", "+reset",
    "+client|setinfo", "+client|setname", "+client|id",
)  # fmt: skip


def rules(user: User, release: Release, digests: Iterable[str] = ()) -> list[str]:
    """What follows the user's name in `ACL SETUSER`, from `reset` on.

    Args:
        user: whose.
        release: of the server.
        digests: SHA-256 of the user's passwords, as hex digits. None: nobody can log in.

    Raises:
        ValueError: a digest is none.
    """
    given = list(digests)
    if not all(_DIGEST.fullmatch(digest) for digest in given):
        raise ValueError("a SHA-256 in 64 hex digits is expected")
    # `reset` sets it and an aclfile knows no `reset`: unsaid, the file's users would be others.
    login = ["reset", "on", *(f"#{digest}" for digest in given), "sanitize-payload"]
    if user.everything:
        return [*login, "~*", "&*", "+@all"]
    rights = _rights_62(user) if release == "6.2" else _rights(user)
    # 6.2 lets a new user have every channel.
    return [*login, "resetchannels", *(f"&{channel}" for channel in user.channels), *rights]


def aclfile(lines: Iterable[tuple[str, list[str]]]) -> str:
    """The text of an aclfile: the default user, off, then each name with its rules."""
    shown = [f"user {name} {' '.join(rules[1:])}" for name, rules in lines]  # it knows no `reset`
    return "\n".join([DEFAULT_OFF, *shown]) + "\n"


def _rights(user: User) -> list[str]:
    return [*_CONNECTION, *_allow(user.keyless), *(_selector(grant) for grant in user.grants)]


def _selector(grant: Grant) -> str:
    mark = _MARK[grant.use]
    keys = (f"{mark}{key}" for key in grant.keys)
    return f"({' '.join((*_allow(grant.commands), *keys))})"


def _rights_62(user: User) -> list[str]:
    grants = [grant for grant in user.grants if not grant.narrow]
    commands = user.keyless.union(*(grant.commands for grant in grants))
    keys = dict.fromkeys(key for grant in grants for key in grant.keys)
    return [*_CONNECTION_62, *_allow(commands), *(f"~{key}" for key in keys)]


def _allow(commands: Iterable[str]) -> list[str]:
    return [f"+{command}" for command in sorted(commands)]
