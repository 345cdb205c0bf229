"""Flower as the launcher starts it: what a browser shows, what HTTP gives away, what is kept."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from celery import Celery
from chromium import Chromium, find_chromium
from nodes import HERE, ROOT

from baton.broker_url import choose_broker_url
from baton.coordinator import RedisSwarmCoordinator
from baton.settings import ClientSettings
from baton.swarm.pools import PoolBoard
from waiting import until

pytest.importorskip("flower")

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

PATIENCE_SECONDS = 10.0
PASSWORD = "correct-horse-battery"  # noqa: S105 - of a Flower that lives for these tests
# None of them may be seen anywhere but in the store.
IN_CONTEXT = "canary-in-the-context-5f1c"
IN_INSTRUCTION = "canary-in-the-instruction-9a7e"
IN_RESULT = "canary-in-the-result-2b60"
IN_ERROR = "canary-in-the-error-77d3"
IN_MESSAGE = "canary-in-a-message-0c94"
CANARIES = (IN_CONTEXT, IN_INSTRUCTION, IN_RESULT, IN_ERROR, IN_MESSAGE, PASSWORD)
PAGES = ("/", "/workers", "/workers?json=1", "/tasks", "/broker", "/metrics")
API = ("/api/tasks", "/api/task/types", "/api/queues/length")
# Flower's own, and not served here: they need remote control, change something, or show results.
CLOSED = ("/api/workers", "/api/task/result/x", "/login", "/nothing")
CHANGING = (
    "/api/worker/shutdown/x",
    "/api/worker/pool/grow/x",
    "/api/task/apply/handoff.start",
    "/api/task/send-task/handoff.start",
    "/api/task/revoke/x",
)

FUNCTIONS = f"""
import pathlib, time

def wait(node):
    node.progress("waiting")
    gate = pathlib.Path(__file__).parent / "gate"
    while not gate.exists():
        node.raise_if_cancelled()
        time.sleep(0.05)
    return {IN_RESULT!r}

def fail(node):
    raise ValueError({IN_ERROR!r})
"""


class Watched:
    """A stack with Flower, started by the launcher, and all events that it sends."""

    def __init__(self, place: Path, **variables: str) -> None:
        self.place = place
        self.state_dir = place / "state"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.variables = variables
        self.output = place / "launcher.out"
        self.events: list[bytes] = []
        (place / "user_functions.py").write_text(FUNCTIONS)

    def start(self) -> None:
        kept = {name: v for name, v in os.environ.items() if not name.startswith("BATON_")}
        runners = {name: f"user_functions:{name}" for name in ("wait", "fail")}
        ours, theirs = os.pipe()
        with self.output.open("ab") as output:
            self.process = psutil.Popen(
                [sys.executable, "-m", "workers", "--ready-fd", str(theirs)],
                cwd=self.place,
                env=kept
                | {
                    "PYTHONPATH": os.pathsep.join((str(ROOT), str(HERE))),
                    "BATON_STATE_DIR": str(self.state_dir),
                    "BATON_AGENTS_THREADS": "4",
                    "BATON_FLOWER": "on",
                    "BATON_FLOWER_PORT": str(self.port),
                    "BATON_RESTART_BACKOFF_MIN_SECONDS": "0.2",
                    "BATON_RUNNER_FUNCTIONS": json.dumps(runners),
                    "BATON_NODE_SWEEP_SECONDS": "1",
                    "BATON_WARM_SHUTDOWN_SECONDS": "5",
                }
                | self.variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs,),
            )
        os.close(theirs)
        with os.fdopen(ours, "rb") as pipe:
            line = pipe.readline()
        if not line:
            self.process.wait(timeout=60)
            pytest.fail(self.said())
        self.ready = json.loads(line)
        self.url = self.ready["redis_url"]

    def stop(self) -> None:
        if self.process.is_running():
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=60)

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def coordinator(self) -> RedisSwarmCoordinator:
        settings = ClientSettings(state_dir=self.state_dir)
        return RedisSwarmCoordinator(redis_url=self.url, settings=settings)

    def listen(self) -> None:
        """Keep every message that is published on the broker, from now on."""
        self.broker = redis.Redis.from_url(self.url)
        channel = self.broker.pubsub()
        channel.psubscribe("*")
        until(lambda: channel.get_message(timeout=1), what="the subscription")

        def keep() -> None:
            for message in channel.listen():
                self.events.append(message["data"])

        threading.Thread(target=_until_closed, args=(keep,), daemon=True).start()

    def get(self, path: str, login: str | None = f"baton:{PASSWORD}", method: str = "GET"):
        """Status and text of an answer."""
        headers = {}
        if login is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            headers=headers,
            method=method,
            data=b"" if method == "POST" else None,
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def tasks(self, name: str) -> list[dict[str, Any]]:
        """What the API knows of tasks of that name."""
        status, text = self.get("/api/tasks?limit=1000")
        assert status == 200
        return [task for task in json.loads(text).values() if task["name"] == name]


def _until_closed(keep) -> None:
    try:
        keep()
    except (redis.ConnectionError, ValueError, OSError):
        return


@pytest.fixture(scope="module")
def watched():
    """One stack, with a handoff whose nodes wait, one that failed, and messages of strangers."""
    with tempfile.TemporaryDirectory(prefix="baton-test-") as folder:
        stack = Watched(Path(folder), BATON_FLOWER_PASSWORD=PASSWORD)
        stack.start()
        try:
            stack.listen()
            _work(stack)
            yield stack
        finally:
            (stack.place / "gate").touch()
            stack.stop()


def _work(stack: Watched) -> None:
    with stack.coordinator() as coordinator:
        agent = coordinator.registry.register("sonnet_coordinator", context_capacity=1000)
        coordinator.store.put("notes", f"We keep {IN_CONTEXT}.", agent_id=agent.agent_id)
        for runner in ("wait", "fail"):
            tasks = [{"instruction": f"{IN_INSTRUCTION} {n}", "runner": runner} for n in range(3)]
            coordinator.handoffs.submit("notes", _specs(tasks), agent_id=agent.agent_id)
    broker = choose_broker_url(stack.url, None)
    app = Celery(broker=broker, backend=broker, set_as_current=False)
    with closing(app):
        fields = {"session_id": "strange", "agent_id": "a"}
        app.send_task("context.store", kwargs=fields | {"content": IN_MESSAGE}, queue="context")
        app.send_task("context.store", kwargs=fields | {"contents": IN_MESSAGE}, queue="context")
        app.send_task("handoff.start", args=(f"{IN_MESSAGE} of a stranger",), queue="context")
    until(lambda: len(_of_state(stack, "agent.run", "STARTED")) == 3, what="the running nodes")
    until(lambda: _of_state(stack, "context.store", "FAILURE"), what="a failed task")
    until(lambda: _of_state(stack, "context.store", "SUCCESS"), what="a stored context")


def _specs(tasks):
    from baton import TaskSpec

    return [TaskSpec(**task) for task in tasks]


def _of_state(stack: Watched, name: str, state: str):
    return [task for task in stack.tasks(name) if task["state"] == state]


@pytest.fixture
def browser():
    binary = find_chromium()
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing; CI must have it")
        pytest.skip("Chromium is missing")
    with Chromium(binary) as chromium:
        yield chromium


def until_shown(browser, url: str, words: str) -> None:
    """A page fetches its table once: where that failed on a busy machine, it is opened anew."""
    opened_at = -PATIENCE_SECONDS

    def shown() -> bool:
        nonlocal opened_at
        if time.monotonic() - opened_at >= PATIENCE_SECONDS:
            browser.go(url)
            opened_at = time.monotonic()
        return words in browser.text()

    until(shown, deadline_seconds=90, what=f"{words} at {url}")


def test_flower_shows_a_running_handoff_in_a_browser(watched, browser, tmp_path):
    """Without the password there is nothing; with it, the tasks of a handoff that runs now."""
    root = f"http://127.0.0.1:{watched.port}"
    browser.go(f"{root}/tasks")
    until(lambda: "Access denied" in browser.text(), what="the refusal")
    browser.credentials = ("baton", PASSWORD)
    browser.go(f"{root}/tasks?name=agent.run")
    until(lambda: browser.text().count("STARTED") >= 3, what="three running nodes")
    assert browser.dialogs >= 2
    (handoff_id,) = {
        task["args"].split("'")[1] for task in _of_state(watched, "agent.run", "STARTED")
    }
    assert handoff_id in browser.text()
    browser.screenshot(tmp_path / "flower.png")
    assert (tmp_path / "flower.png").stat().st_size > 10_000
    pages = [browser.html()]
    until_shown(browser, f"{root}/workers", "agents-1-")
    pages.append(browser.html())
    until(lambda: browser.click("a.worker-name-link[href*=agents]"), what="a worker's link")
    until(lambda: "agent.run" in browser.text(), what="the tasks of one worker")
    pages.append(browser.html())
    until(lambda: browser.click("a[href*='/task/']"), what="a task's link")
    until(lambda: "Task details".upper() in browser.text().upper(), what="one task")
    pages.append(browser.html())
    assert not [canary for canary in CANARIES for page in pages if canary in page]


def test_flower_gives_nothing_without_its_password(watched):
    """401 on every page, on the API, the metrics and the static files; a wrong password too."""
    for path in (*PAGES, *API, *CLOSED, *CHANGING, "/static/js/flower.js", "/worker/x"):
        for login in (None, "baton:wrong-password", "admin:admin", ":", "baton:", "\xff:\xfe"):
            for method in ("GET", "POST"):
                status, text = watched.get(path, login, method)
                assert (status, text) == (401, "Access denied\n"), (path, login, method)
    assert watched.get("/healthcheck", None) == (200, "OK")


def test_flower_only_reads(watched):
    """With the password its pages answer; what would change something or ask a worker does not."""
    for path in (*PAGES, *API):
        assert watched.get(path)[0] == 200, path
        assert watched.get(path, method="POST")[0] == 405, path
    for path in CLOSED:
        assert watched.get(path)[0] == 404, path
    for path in CHANGING:
        assert watched.get(path, method="POST")[0] == 404, path


def test_flower_listens_on_the_loopback_only(watched):
    """Its one listening socket is bound to 127.0.0.1, and no command line holds the password."""
    flower = _flower(watched)
    listening = [c.laddr for c in flower.net_connections("inet") if c.status == "LISTEN"]
    assert [(place.ip, place.port) for place in listening] == [("127.0.0.1", watched.port)]
    for process in watched.process.children(recursive=True):
        assert PASSWORD not in " ".join(process.cmdline())
        of_flower = process.pid == flower.pid
        assert (PASSWORD in process.environ().values()) == of_flower


def test_events_and_flower_hold_references_only(watched):
    """No context, instruction, result, error or message of a stranger: in no answer, no event."""
    seen = {path: watched.get(path)[1] for path in (*PAGES, *API)}
    for task in json.loads(seen["/api/tasks"]):
        seen |= {f"{path}{task}": watched.get(f"{path}{task}")[1] for path in
                 ("/task/", "/api/task/info/")}  # fmt: skip
    events = b"\n".join(event for event in watched.events if isinstance(event, bytes))
    seen["events"] = base64_opened(events)
    assert seen["events"].count("task-received") >= 8
    assert "task-failed" in seen["events"]
    for path in (watched.state_dir / "flower").iterdir():
        seen[str(path)] = path.read_text(errors="replace")
    assert len(seen) > 20
    assert not [(canary, where) for canary in CANARIES for where in seen if canary in seen[where]]
    started = _of_state(watched, "agent.run", "STARTED")
    with watched.coordinator() as coordinator:
        for task in started:
            handoff_id = task["args"].split("'")[1]
            assert coordinator.handoffs.find(handoff_id).outcome().state == "running"
    stored = _of_state(watched, "context.store", "SUCCESS")
    assert [task["kwargs"] for task in stored] == [
        "{'session_id': 'strange', 'agent_id': 'a', '…': '…'}"
    ]
    assert {task["exception"] for task in _of_state(watched, "context.store", "FAILURE")} == {
        "InvalidInputError(…)"
    }


def base64_opened(events: bytes) -> str:
    """Messages of the broker with their bodies, which kombu encodes, in clear."""
    opened = []
    for line in events.split(b"\n"):
        try:
            message = json.loads(line)
            body = base64.b64decode(message["body"])
        except (ValueError, KeyError, TypeError):
            body = b""
        opened += [line, body]
    return b"\n".join(opened).decode(errors="replace")


def test_flower_killed_comes_back_and_remembers(watched):
    """kill -9: its supervisor starts it again, the board says so, and the tasks are still there."""
    before = {task["uuid"] for task in watched.tasks("agent.run")}
    _flower(watched).kill()
    with redis.Redis.from_url(watched.url) as client:
        board = PoolBoard(client)
        worker = until(lambda: _restarted(board), what="a new Flower")
    assert worker.last_exit == "killed by SIGKILL"
    assert before
    assert before <= {task["uuid"] for task in watched.tasks("agent.run")}
    metrics = watched.get("/metrics")[1]
    assert 'type="task-succeeded"' not in "".join(
        line for line in metrics.splitlines() if "agent.run" in line
    ), "what is remembered is not counted again"


def test_flower_hears_again_after_redis_was_killed(watched):
    """kill -9 of the embedded server: the launcher starts it again, and new tasks are seen."""
    with redis.Redis.from_url(watched.url) as client:
        server = psutil.Process(client.info("server")["process_id"])
    pid = _flower(watched).pid
    server.kill()
    server.wait(timeout=20)
    known = {task["uuid"] for task in watched.tasks("lifecycle.sweep_nodes")}
    until(
        lambda: (
            {task["uuid"] for task in _of_state(watched, "lifecycle.sweep_nodes", "SUCCESS")}
            - known
        ),
        60,
        what="a sweep after the restart",
    )
    assert _flower(watched).pid == pid, "the same process"


def _flower(watched: Watched) -> psutil.Process:
    with redis.Redis.from_url(watched.url) as client:
        (pool,) = [pool for pool in PoolBoard(client).list() if pool.pool == "flower"]
    (worker,) = pool.workers
    return psutil.Process(worker.info["pid"])


def _restarted(board: PoolBoard):
    (pool,) = [pool for pool in board.list() if pool.pool == "flower"]
    (worker,) = pool.workers
    return worker if worker.restarts and worker.state == "up" else None


def test_launcher_makes_a_password_and_tells_it_once():
    """The first start prints a generated password, kept 0600 in a 0700 folder; the next does not.

    A second stack whose port is taken starts without Flower, and says so.
    """
    with tempfile.TemporaryDirectory(prefix="baton-test-") as folder:
        stack = Watched(Path(folder))
        kept = stack.state_dir / "flower" / "password"
        stack.start()
        try:
            password = kept.read_text().strip()
            assert len(password) >= 24
            assert kept.stat().st_mode & 0o777 == 0o600
            assert kept.parent.stat().st_mode & 0o777 == 0o700
            assert stack.said().count(password) == 1
            until(lambda: _answers(stack, password), what="Flower")
            other = Watched(_made(Path(folder) / "other"), BATON_FLOWER="auto")
            other.port = stack.port
            other.start()
            other.stop()
            assert "Flower is not started" in other.said()
        finally:
            stack.stop()
        stack.start()
        stack.stop()
        assert stack.said().count(password) == 1
        assert kept.read_text().strip() == password


def _answers(stack: Watched, password: str) -> bool:
    try:
        return stack.get("/tasks", f"baton:{password}")[0] == 200
    except urllib.error.URLError:
        return False


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
