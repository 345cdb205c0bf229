"""`baton acl`: users are rendered, applied to a running server, and compared with it."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
import redis

from baton.access.users import users
from baton_command import BatonCommand
from redis_users import binary_of
from waiting import until

NAMES = [user.name for user in users()]


class Server:
    """A redis-server that knows nothing of Baton yet; with an aclfile or without."""

    def __init__(self, folder: Path, binary: str, *, aclfile: bool) -> None:
        self.url = f"unix://{folder / 'redis.sock'}"
        more = []
        if aclfile:
            (folder / "users.acl").touch()
            more = ["--aclfile", str(folder / "users.acl")]
        self._command = [
            binary, "--port", "0", "--unixsocket", str(folder / "redis.sock"), "--dir",
            str(folder), "--save", "", "--appendonly", "yes", *more,
        ]  # fmt: skip

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        until(self._answers, what="redis-server answering")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=20)

    def as_user(self, user: str, folder: Path) -> redis.Redis:
        password = (folder / user).read_text().strip()
        return redis.Redis.from_url(self.url, username=user, password=password)

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return True
            except redis.ConnectionError:
                return False


@pytest.fixture(params=["7", "6.2"])
def release(request):
    return request.param


@pytest.fixture
def start(release):
    """Starts a server: `start(aclfile=True)`."""
    folder = Path(tempfile.mkdtemp(prefix="baton-test-"))
    servers = []

    def make(*, aclfile: bool) -> Server:
        server = Server(folder, binary_of(release), aclfile=aclfile)
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def acl(tmp_path):
    return BatonCommand(tmp_path, "acl", BATON_ACL_DIR=str(tmp_path / "acl"))


def levels(answer) -> dict[str, str]:
    return {finding["about"]: finding["level"] for finding in answer["findings"]}


def test_render_makes_passwords_and_shows_their_digests_alone(acl, tmp_path):
    """Files for our eyes only; a second run finds them and renders the same."""
    first = acl("render")
    passwords = {path.name: path.read_text().strip() for path in (tmp_path / "acl").iterdir()}
    assert set(passwords) == set(NAMES)
    shown = (first.stdout + first.stderr).decode()
    assert not [word for word in passwords.values() if word in shown]
    lines = first.stdout.decode().splitlines()
    assert lines[0].startswith("user default off")
    for name, password in passwords.items():
        digest = hashlib.sha256(password.encode()).hexdigest()
        assert any(line.startswith(f"user {name} on #{digest} ") for line in lines)
        assert (tmp_path / "acl" / name).stat().st_mode & 0o777 == 0o600
    again = acl("render")
    assert (again.stdout, again.stderr) == (first.stdout, b"")


def test_render_of_one_user_of_an_old_server_says_what_is_weaker(acl):
    done = acl("render", "--redis", "6.2", "--role", "haiku_worker")
    assert "gives a user one set of commands" in done.stderr.decode()
    assert "%R~" not in done.stdout.decode()
    assert len(done.stdout.splitlines()) == 2
    assert "admin" in acl.error("render", "--role", "nobody", code=2)


def test_apply_sets_users_loads_scripts_and_closes_the_default(acl, start, release):
    """On a server that runs, as its default user; what is set outlives a restart."""
    server = start(aclfile=True)
    acl("apply", **on(server))
    admin = on(server, BATON_REDIS_USER="admin")
    found = levels(json.loads(acl("check", "--json", code=3, **admin).stdout))
    assert {about for about, level in found.items() if level != "ok"} == {"version"}
    assert {f"user {name}" for name in NAMES} <= set(found)
    server.stop()
    server.start()
    # Redis 6.2 writes scripts to its append-only file, Redis 7 forgets them.
    lost, code = ({"scripts"}, 4) if release == "7" else (set(), 3)
    found = levels(json.loads(acl("check", "--json", code=code, **admin).stdout))
    assert {about for about, level in found.items() if level == "problem"} == lost
    acl("apply", **admin)
    acl("check", code=3, **admin)
    assert "refused" in acl.error("check", code=4, **on(server))


def test_apply_tells_that_a_server_without_aclfile_forgets(acl, start):
    done = acl("apply", code=3, **on(start(aclfile=False)))
    assert "forgets these users when it restarts" in done.stderr.decode()


def test_check_finds_what_is_not_as_it_should_be(acl, start, tmp_path):
    """Rights, passwords, strangers, the default user, eviction, a password that others can read."""
    server = start(aclfile=True)
    acl("apply", **on(server))
    with server.as_user("admin", tmp_path / "acl") as client:
        client.execute_command("ACL", "SETUSER", "monitor", "+get", "~*")
        client.execute_command("ACL", "SETUSER", "haiku_worker", ">another")
        client.execute_command("ACL", "SETUSER", "stranger", "on", ">pw")
        client.execute_command("ACL", "SETUSER", "default", "on")
        client.acl_deluser("flower")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        client.script_flush()
        users_before = client.acl_users()
        (tmp_path / "acl" / "beat").chmod(0o644)
        answer = acl("check", "--json", code=4, **on(server, BATON_REDIS_USER="admin"))
        found = levels(json.loads(answer.stdout))
        assert sorted(client.acl_users()) == sorted(users_before), "nothing is left behind"
    assert {about for about, level in found.items() if level == "problem"} == {
        "user monitor", "user haiku_worker", "user flower", "default user", "scripts",
        "persistence", "maxmemory-policy",
    }  # fmt: skip
    warned = {about for about, level in found.items() if level == "warning"}
    assert warned == {"user stranger", "password of beat", "version"}


def on(server: Server, **more: str) -> dict[str, str]:
    return {"BATON_REDIS_URL": server.url, **more}
