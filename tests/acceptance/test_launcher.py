"""`python -m workers`: the whole stack as processes, on a Redis of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
import redis

from baton.embedded import EmbeddedRedis, running_url, server_folder
from baton.swarm.pools import PoolBoard
from waiting import until

ROOT = Path(__file__).resolve().parents[2]
POOLS = ["agents", "archive", "beat", "context", "lifecycle"]

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


class Launched:
    """One launcher, started in `place` with a pipe for its ready line."""

    def __init__(self, place: Path, **settings: str) -> None:
        self.state_dir = place / "state"
        self.output = place / "launcher.out"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BATON_")}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "BATON_STATE_DIR": str(self.state_dir),
            "BATON_AGENTS_THREADS": "4",
            "BATON_RESTART_BACKOFF_MIN_SECONDS": "0.2",
            "BATON_WARM_SHUTDOWN_SECONDS": "5",
            "BATON_FLOWER": "off",
        }
        self._ready, theirs = os.pipe()
        with self.output.open("wb") as output:
            self.process = psutil.Popen(
                [sys.executable, "-m", "workers", "--ready-fd", str(theirs)],
                cwd=place,
                env=environment | settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs,),
            )
        os.close(theirs)
        self.seen: list[psutil.Process] = []

    def ready(self) -> dict:
        """Its ready line, once all pools have reported; notes the processes there are."""
        with os.fdopen(self._ready, "rb") as pipe:
            line = pipe.readline()
        assert line, self.said()
        ready = json.loads(line)
        with redis.Redis.from_url(ready["redis_url"]) as client:
            self.seen.append(psutil.Process(client.info("server")["process_id"]))
        self.note()
        return ready

    def note(self) -> None:
        self.seen += self.process.children(recursive=True)

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def alive(self) -> list[psutil.Process]:
        """Which of the processes ever noted still run."""
        return [process for process in self.seen if running(process)]

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(timeout=60)

    def clean_up(self) -> None:
        if running(self.process):
            self.note()
            self.process.kill()
            self.process.wait()
        for process in self.alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory(prefix="baton-test-") as folder:
        yield Path(folder)


@pytest.fixture
def launch(place):
    launched = []

    def start(**settings: str) -> Launched:
        launched.append(Launched(place, **settings))
        return launched[-1]

    yield start
    for one in launched:
        one.clean_up()


@pytest.fixture
def board_of():
    with contextlib.ExitStack() as stack:
        yield lambda url: PoolBoard(stack.enter_context(redis.Redis.from_url(url)))


def worker_of(board: PoolBoard, name: str):
    (pool,) = [pool for pool in board.list() if pool.pool == name]
    (worker,) = pool.workers
    return worker


def test_launcher_runs_every_pool_and_stops_all_it_started(launch, board_of):
    """Without a Redis URL it brings its own, runs all pools and beat; SIGINT leaves nothing."""
    launched = launch()
    ready = launched.ready()
    pools = board_of(ready["redis_url"]).list()
    assert [pool.pool for pool in pools] == POOLS
    assert all(pool.up for pool in pools)
    assert ready["embedded"]
    assert len(launched.alive()) == len(POOLS) + 1
    assert launched.end(signal.SIGINT) == 0, launched.said()
    assert launched.alive() == []
    assert running_url(server_folder(launched.state_dir)) is None


def test_launcher_restarts_a_killed_pool_and_the_board_says_so(launch, board_of):
    """kill -9 of one pool: a new process takes its place, counted as a restart."""
    launched = launch()
    board = board_of(launched.ready()["redis_url"])
    before = worker_of(board, "context")
    psutil.Process(before.info["pid"]).kill()
    died = until(lambda: changed(board, before), what="the board noticing the death")
    assert died.last_exit == "killed by SIGKILL"
    assert died.state in {"backing_off", "starting", "up"}
    after = until(lambda: restarted(board), what="the restarted pool")
    assert after.restarts == 1
    assert after.info["pid"] != before.info["pid"]
    launched.note()
    assert launched.end(signal.SIGTERM) == 0
    assert launched.alive() == []


def changed(board: PoolBoard, before):
    worker = worker_of(board, "context")
    return worker if worker.last_exit != before.last_exit else None


def restarted(board: PoolBoard):
    worker = worker_of(board, "context")
    return worker if worker.restarts and worker.state == "up" else None


def test_launcher_starts_its_redis_again_when_that_dies(launch, board_of):
    """kill -9 of the embedded server: it comes back at its address and the pools report again."""
    launched = launch()
    url = launched.ready()["redis_url"]
    launched.seen[0].kill()
    until(lambda: not running(launched.seen[0]), what="the server's death")
    until(lambda: running_url(server_folder(launched.state_dir)) == url, what="a new server")
    with redis.Redis.from_url(url) as client:
        launched.seen.append(psutil.Process(client.info("server")["process_id"]))
    board = board_of(url)
    until(lambda: [pool.pool for pool in board.list() if pool.up] == POOLS, what="all pools")
    launched.note()
    assert launched.end(signal.SIGINT) == 0
    assert launched.alive() == []


def test_launcher_killed_takes_its_pools_along(launch):
    """SIGKILL of the launcher: pools and beat end by themselves, and Redis is found and reused."""
    launched = launch()
    url = launched.ready()["redis_url"]
    server, *children = launched.seen
    launched.process.kill()
    launched.process.wait()
    until(lambda: not any(map(running, children)), what="the children's end")
    assert running(server)
    with EmbeddedRedis(server_folder(launched.state_dir)) as again:
        assert again == url
    assert launched.alive() == []


def test_launcher_refuses_a_folder_whose_stack_already_runs(launch):
    """A second launcher on one state folder says so and harms nothing."""
    first = launch()
    first.ready()
    second = launch()
    assert second.process.wait(timeout=60) == 4
    assert "already runs" in second.said()
    assert len(first.alive()) == len(POOLS) + 1
    assert first.end(signal.SIGINT) == 0


def test_launcher_warns_before_it_replaces_a_silent_redis(launch, place):
    """A URL that nobody answers is loudly replaced by the embedded server."""
    launched = launch(BATON_REDIS_URL=f"unix://{place}/nobody.sock")
    assert launched.ready()["embedded"]
    assert "WARNING" in launched.said()
    assert launched.end(signal.SIGINT) == 0


def test_launcher_uses_the_redis_it_is_given(launch, redis_process):
    """A reachable URL is used as it is, and the server is left running."""
    launched = launch(BATON_REDIS_URL=redis_process.url, BATON_EMBEDDED_REDIS="never")
    ready = launched.ready()
    assert (ready["embedded"], ready["redis_url"]) == (False, redis_process.url)
    assert "WARNING" not in launched.said()
    launched.seen.pop(0)
    assert launched.end(signal.SIGTERM) == 0
    assert launched.alive() == []
    with redis.Redis.from_url(redis_process.url) as client:
        assert client.keys("pools:{*") == []


def test_launcher_refuses_a_redis_that_keeps_nothing_unless_told_to(launch, redis_server):
    """B1: without an append-only file nothing starts; by BATON_ALLOW_VOLATILE, with a warning."""
    launched = launch(BATON_REDIS_URL=redis_server.url)
    assert launched.process.wait(timeout=60) == 4
    assert "no append-only file" in launched.said()
    assert "CONFIG SET appendonly yes" in launched.said()
    assert not server_folder(launched.state_dir).exists()
    launched = launch(BATON_REDIS_URL=redis_server.url, BATON_ALLOW_VOLATILE="true")
    assert launched.ready()["redis_url"] == redis_server.url
    assert "WARNING" in launched.said()
    launched.seen.pop(0)
    assert launched.end(signal.SIGTERM) == 0
    assert launched.alive() == []
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()


def test_launcher_refuses_a_redis_that_restarted_without_its_file_or_evicts(launch, redis_process):
    """B1, B8: what was set up well is looked at again at each start."""
    with redis.Redis.from_url(redis_process.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        launched = launch(BATON_REDIS_URL=redis_process.url)
        assert launched.process.wait(timeout=60) == 4
        assert "allkeys-lru, not noeviction" in launched.said()
        assert client.keys("*") == []
    redis_process.stop()
    redis_process.command[redis_process.command.index("--appendonly") + 1] = "no"
    redis_process.start()
    launched = launch(BATON_REDIS_URL=redis_process.url)
    assert launched.process.wait(timeout=60) == 4
    assert "no append-only file" in launched.said()
    assert "allkeys" not in launched.said()


def test_launcher_without_a_redis_fails_where_none_may_be_started(launch, place):
    """BATON_EMBEDDED_REDIS=never: exit code 4, and nothing is left."""
    url = f"unix://{place}/nobody.sock"
    launched = launch(BATON_REDIS_URL=url, BATON_EMBEDDED_REDIS="never")
    assert launched.process.wait(timeout=60) == 4
    assert "does not answer" in launched.said()
    assert not server_folder(launched.state_dir).exists()


def test_launcher_names_a_wrong_setting(launch):
    """A setting that is refused ends it with exit code 2 and the variable's name."""
    launched = launch(BATON_AGENTS_THREADS="many")
    assert launched.process.wait(timeout=60) == 2
    assert "BATON_AGENTS_THREADS" in launched.said()


def test_launcher_refuses_malformed_master_keys_before_it_starts_anything(launch):
    """Exit code 2, the variable's name and no part of a key; not a worker that refuses tasks."""
    launched = launch(BATON_MASTER_KEYS="2027:hunter2")
    assert launched.process.wait(timeout=60) == 2
    assert "BATON_MASTER_KEYS" in launched.said()
    assert "hunter2" not in launched.said()
    assert not server_folder(launched.state_dir).exists()


def test_launcher_gives_up_on_a_pool_that_never_starts(launch):
    """A pool that dies at each start before the stack was ready ends it, showing its log."""
    launched = launch(BATON_BROKER_URL="nosuch://nowhere")
    assert launched.process.wait(timeout=60) == 4
    assert "does not start" in launched.said()
    assert "No such transport: nosuch" in launched.said()


def test_launcher_stops_at_once_at_the_second_interrupt(launch):
    """A second Ctrl-C does not wait for pools that do not end."""
    launched = launch(BATON_WARM_SHUTDOWN_SECONDS="3000")
    launched.ready()
    pools = launched.process.children()
    for process in pools:
        process.suspend()
    launched.process.send_signal(signal.SIGINT)
    until(lambda: "Stopping" in launched.said(), what="the first interrupt")
    assert launched.end(signal.SIGINT) == 0
    assert launched.alive() == []
