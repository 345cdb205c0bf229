"""Passwords of Redis users, one file each in a folder; made where they are missing."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

_PASSWORD_BYTES = 32
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class PasswordFolder:
    """A folder of files `USER`, each with one password. New files are for our eyes only."""

    path: Path

    def digest(self, user: str) -> str:
        """SHA-256 of the user's password, in hex digits, as an aclfile has it. Errors: `read`."""
        return hashlib.sha256(self.read(user).encode()).hexdigest()

    def read(self, user: str) -> str:
        """The user's password.

        Raises:
            InvalidInputError: the file is not there, is empty, or cannot be read.
        """
        file = self.path / user
        try:
            password = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(
                "passwords", "a readable file for each user", f"<{error}>"
            ) from error
        if not password:
            raise InvalidInputError("passwords", "a password in each file", f"<{file} is empty>")
        return password

    def make_missing(self, users: list[str]) -> list[str]:
        """Make files of new random passwords for those of `users` that have none; who they are.

        Raises:
            InvalidInputError: the folder cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            return [user for user in users if self._make(user)]
        except OSError as error:
            raise InvalidInputError("passwords", "a folder to write to", f"<{error}>") from error

    def exposed(self, users: list[str]) -> list[str]:
        """Those whose file others than its owner may read or write."""
        files = ((user, self.path / user) for user in users)
        return [user for user, file in files if file.exists() and file.stat().st_mode & _OTHERS]

    def _make(self, user: str) -> bool:
        """False where it is there already: two who make it at once end with one password."""
        try:
            file = os.open(self.path / user, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return False
        with os.fdopen(file, "w", encoding="ascii") as opened:
            opened.write(f"{secrets.token_hex(_PASSWORD_BYTES)}\n")
        return True
