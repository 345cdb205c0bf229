"""Private Redis servers with Baton's users, each with its own password, default off."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from baton.access.rules import aclfile, rules
from baton.access.users import users

if TYPE_CHECKING:
    from pathlib import Path

    from baton.access.rules import Release


def password_of(user: str) -> str:
    return f"password-of-{user}"


def write_users(folder: Path, release: Release = "7") -> Path:
    """An aclfile in `folder`, and beside it, in `passwords`, a file for each user; the aclfile."""
    passwords = folder / "passwords"
    passwords.mkdir(mode=0o700)
    lines = []
    for user in users():
        password = password_of(user.name)
        (passwords / user.name).write_text(password)
        lines.append((user.name, rules(user, release, [_digest(password)])))
    file = folder / "users.acl"
    file.write_text(aclfile(lines))
    return file


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
