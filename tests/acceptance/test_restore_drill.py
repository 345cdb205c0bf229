"""B15: everything in Redis is gone; the commands of docs/operations.md bring it back."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import redis

from baton import ContextStore
from baton_command import BatonCommand
from waiting import until

pytestmark = pytest.mark.acceptance

GUIDE = Path(__file__).parents[2] / "docs" / "operations.md"
TEXTS = {name: "".join(f"{name} {line}\n" for line in range(3_000)) for name in "abcd"}


def commands(name: str) -> str:
    """A block of the guide, as it is printed."""
    (found,) = re.findall(rf"(?ms)^```sh {name}\n(.*?)^```$", GUIDE.read_text("utf-8"))
    return found


@dataclass
class Site:
    """A Redis on a port of its own, a state folder, and a place for backups."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def data(self) -> Path:
        return self.folder / "redis"

    @property
    def archive(self) -> Path:
        return self.folder / "state" / "archive"

    def baton(self, *group: str) -> BatonCommand:
        return BatonCommand(self.folder, *group, BATON_REDIS_URL=self.url)

    def start_redis(self) -> None:
        self.data.mkdir(exist_ok=True)
        self.configuration.write_text(
            f"bind 127.0.0.1\nport {self.port}\npidfile {self.folder}/redis.pid\n"
            f'logfile {self.folder}/redis.log\nsave ""\n'
            "appendonly yes\nmaxmemory-policy noeviction\n"
        )
        command = ["redis-server", str(self.configuration), "--dir", str(self.data)]
        subprocess.run([*command, "--daemonize", "yes"], check=True, stdout=subprocess.DEVNULL)
        with redis.Redis.from_url(self.url) as client:
            until(lambda: answers(client), what="redis-server answering")

    @property
    def configuration(self) -> Path:
        return self.folder / "redis.conf"

    def follow(self, name: str) -> str:
        """Run a block of the guide, word for word; what it printed."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BATON_")}
        bash = shutil.which("bash")
        assert bash is not None
        done = subprocess.run(
            [bash, "-e", "-u", "-o", "pipefail", "-c", commands(name)],
            env=environment | {
                # Last: there may be another redis-server in it, which cannot read this one's.
                "PATH": f"{environment['PATH']}:{Path(sys.executable).parent}",
                "BATON_REDIS_URL": self.url, "BATON_STATE_DIR": str(self.folder / "state"),
                "BACKUP": str(self.folder / "backup"), "KEYS": str(self.folder / "keys"),
                "REDIS_DIR": str(self.data), "REDIS_CONF": str(self.configuration),
            },
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop_redis(self, how: signal.Signals = signal.SIGKILL) -> None:
        with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
            process = psutil.Process(int((self.folder / "redis.pid").read_text()))
            process.send_signal(how)
            process.wait(timeout=20)


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture
def site():
    for needed in ("redis-server", "redis-cli"):
        if shutil.which(needed) is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{needed} is missing")
    pytest.importorskip("chromadb")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = Site(Path(tempfile.mkdtemp(prefix="baton-drill-")), port)
    made.start_redis()
    yield made
    made.stop_redis()
    shutil.rmtree(made.folder)


def write(site: Site, name: str) -> None:
    """A session that is sensitive, so that no model is needed to archive it."""
    with (
        redis.Redis.from_url(site.url) as client,
        contextlib.closing(ContextStore(client)) as store,
    ):
        store.put(name, TEXTS[name], agent_id="a")
        store.set_flag(name, "sensitive", agent_id="a")


@pytest.mark.parametrize("archive_lost", [False, True], ids=["archive-there", "archive-lost"])
def test_restore_drill(site, archive_lost):
    """Hot sessions come back from the snapshot, archived ones from the archive, to the byte."""
    archive, context = site.baton("archive"), site.baton("context")
    for name in "abc":
        write(site, name)
    assert archive.json("run", "b")["outcome"] == "archived"
    site.baton("audit")("seal")
    site.follow("backup")
    # Behind the backup: what is archived is in the archive's folder, and nowhere else.
    write(site, "d")
    for name in "cd":
        assert archive.json("run", name)["outcome"] == "archived"
    with redis.Redis.from_url(site.url) as client:
        client.flushall()
    site.stop_redis(signal.SIGTERM)
    if archive_lost:
        (site.folder / "keys").mkdir()
        shutil.copy(site.archive / "master.keys", site.folder / "keys")
        shutil.rmtree(site.archive)
        site.follow("restore-archive")
    site.follow("restore")
    site.stop_redis(signal.SIGTERM)
    site.start_redis()  # as ever: the file has it all
    assert context("get", "a").stdout.decode() == TEXTS["a"]
    archived = {each["session_id"] for each in archive.json("list")["sessions"]}
    assert archived >= ({"b"} if archive_lost else {"b", "d"})
    for name in "b" if archive_lost else "bd":
        archive("restore", name)
        assert context("get", name).stdout.decode() == TEXTS[name]
    # In Redis at the snapshot, in the archive since: it is there once, and whole.
    assert context("get", "c").stdout.decode() == TEXTS["c"]
    assert archive.json("run", "c")["outcome"] == "archived"
    archive("restore", "c")
    assert context("get", "c").stdout.decode() == TEXTS["c"]
    with redis.Redis.from_url(site.url) as client:
        assert client.info("persistence")["aof_enabled"] == 1
        assert client.config_get("appendonly") == {"appendonly": "yes"}
