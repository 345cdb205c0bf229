"""Canaries in a context and its secrets, from a handoff to the purge: where each is, and when.

A context that is not sealed is in Redis in clear while the session is hot, and so in the commands
of the append-only file until that is rewritten. The test says exactly which keys these are. A
task's instruction and its result are in their handoff's keys until these expire, archived or not.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
from runner_functions import NAMES

from archive_bench import FACTS, QUESTIONS, essay
from baton import ChildTask, ClientSettings, RedisSwarmCoordinator
from baton.archive.requests import Request, RequestDesk
from baton.dispatch import client_dispatcher
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stack import Stack

pytestmark = pytest.mark.acceptance

MARKER = "context-marker-5f1e2a"
PASSWORD = "hunter2-CANARY-77aa01"  # noqa: S105  # of nothing
TOKEN = "ghp_CANARYcanaryCANARYcanary0123456789AB"  # noqa: S105  # of nobody
IN_CONTEXT = (MARKER, PASSWORD, TOKEN)
INSTRUCTION = "canary-in-the-instruction-9a7e"
RESULT = INSTRUCTION.upper()  # what the runner `shout` makes of it
FAILING = "canary-in-the-error-77d3"
IN_HANDOFF = (INSTRUCTION, RESULT, FAILING)
CANARIES = (*IN_CONTEXT, *IN_HANDOFF)
TEXT = (
    f"{essay(200)} {MARKER} {FACTS[0]} {essay(50)}\n"
    f'password = "{PASSWORD}"\nAuthorization: Bearer {TOKEN}\n{essay(100)}'
)
ENV = {
    "BATON_RUNNER_FUNCTIONS": json.dumps({name: f"runner_functions:{name}" for name in NAMES}),
    "BATON_EVENTS": "true",
    "BATON_LOG_LEVEL": "DEBUG",
    # What is compressed would hide a canary from a search for its bytes.
    "BATON_COMPRESSION": "none",
    "BATON_WARM_SHUTDOWN_SECONDS": "3",
}


class Tap:
    """Keeps all that is published on a server: Celery's events above all, with their bodies."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._channel = self._client.pubsub()
        self._channel.psubscribe("*")
        until(lambda: self._channel.get_message(timeout=1), what="the subscription")
        self._messages: list[bytes] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep)
        self._thread.start()

    def _keep(self) -> None:
        while not self._stopped.is_set():
            message = self._channel.get_message(timeout=0.1)
            if message is not None and isinstance(message["data"], bytes):
                self._messages.append(message["data"])

    def opened(self) -> bytes:
        """All of it, and what kombu encoded within it."""
        return b"\n".join(part for each in self._messages for part in (each, _body(each)))

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._channel.close()
        self._client.close()


def _body(message: bytes) -> bytes:
    try:
        return base64.b64decode(json.loads(message)["body"])
    except (ValueError, KeyError, TypeError):
        return b""


@pytest.fixture
def running(stack, embedder) -> Stack:
    """All pools, without beat: the test says when. The model is there, or this is skipped."""
    assert embedder.model_id
    made = stack("agents", "context", "lifecycle", "archive", env=ENV)
    made.client().config_set("rdbcompression", "no")
    return made


@pytest.fixture
def tap(running) -> Iterator[Tap]:
    with contextlib.closing(Tap(running.url)) as made:
        yield made


def ask(stack: Stack, kind: Any, **fields: Any) -> Any:
    """What the archive's pool answers; the answer, which may hold snippets, is taken away."""
    client = stack.client()
    desk = RequestDesk(client)
    request_id = desk.leave(Request(kind, "tester", fields))
    with contextlib.closing(client_dispatcher(stack.url, ClientSettings())) as dispatcher:
        dispatcher.ask_archive(request_id)
        found = desk.wait(request_id, 90)
    client.delete(f"archive:{{{request_id}}}:answers")
    return found


def in_keys(stack: Stack) -> dict[str, set[str]]:
    """Canary -> the keys whose values hold it, of the store and of broker and results."""
    found: dict[str, set[str]] = {each: set() for each in CANARIES}
    for number, client in enumerate((stack.client(), stack.broker_client())):
        for key in client.scan_iter(count=1_000):
            value = client.dump(key) or b""
            for canary in CANARIES:
                if canary.encode() in value:
                    found[canary].add(f"{number}/{key.decode()}")
    return found


def in_commands(stack: Stack) -> dict[str, set[str]]:
    """Canary -> the keys of the commands that brought it, as the append-only file has them."""
    found: dict[str, set[str]] = {each: set() for each in CANARIES}
    database = "0"
    for path in sorted(stack.redis.folder.rglob("*.aof")):
        for command in _commands(path):
            if command[0].upper() == b"SELECT":
                database = command[1].decode()
            for canary in CANARIES:
                if any(canary.encode() in each for each in command):
                    found[canary].add(f"{database}/{command[1].decode()}")
    return found


def _commands(path: Path) -> Iterator[list[bytes]]:
    """What Redis' protocol holds as arrays of strings; what comes before them is an RDB."""
    data = path.read_bytes()
    start = re.search(rb"(?:^|(?<=\n))\*\d+\r\n\$\d+\r\n", data)
    at = len(data) if start is None else start.start()
    while at < len(data) and data[at : at + 1] == b"*":
        end = data.index(b"\r\n", at)
        count, at = int(data[at + 1 : end]), end + 2
        parts = []
        for _ in range(count):
            end = data.index(b"\r\n", at)
            size = int(data[at + 1 : end])
            parts.append(data[end + 2 : end + 2 + size])
            at = end + 2 + size + 2
        yield parts


def in_files(stack: Stack) -> dict[str, set[str]]:
    """Canary -> the files that hold it: Redis' after a rewrite and a save, the state folder's."""
    client = stack.client()
    client.bgrewriteaof()
    until(
        lambda: not client.info("persistence")["aof_rewrite_in_progress"], what="the AOF rewritten"
    )
    client.save()
    found: dict[str, set[str]] = {each: set() for each in CANARIES}
    for folder in (stack.redis.folder, stack.state_dir):
        for path in folder.rglob("*"):
            data = path.read_bytes() if path.is_file() else b""
            for canary in CANARIES:
                if canary.encode() in data:
                    found[canary].add(path.name)
    return found


def all_like(keys: set[str], *patterns: str) -> bool:
    """Whether there are keys, and each is like one of these."""
    return bool(keys) and all(re.fullmatch("|".join(patterns), key) for key in keys)


CHUNKS = r"0/context:claude_max:\{\w+\}:chunks:\d+"
STAGED = r"0/context:claude_max:\{\w+\}:staging:\S+"
HANDOFF = r"0/handoff:\{\w+\}:\S+"


def test_canaries_are_where_they_must_be_and_nowhere_else(running, tap, tmp_path):
    """Handed off, archived, found, purged; events on, every pool at its most talkative."""
    settings = ClientSettings(compression="none", state_dir=tmp_path / "client")
    with RedisSwarmCoordinator(redis_url=running.url, settings=settings) as swarm:
        agent = swarm.register_agent("sonnet_coordinator", 200_000)
        session = swarm.update_context(TEXT, agent).session_id
        tasks = [ChildTask(INSTRUCTION, "shout"), ChildTask(FAILING, "fail")]
        outcome = swarm.hand_off(agent, tasks).wait(timeout_seconds=60)
        assert outcome.state == "degraded"
        assert RESULT in swarm.store.get(session).content

    # Hot: the context in its chunks; tasks, errors and results in the handoff, and in the chunks
    # of the version that they were merged into.
    keys = in_keys(running)
    assert all(all_like(keys[each], CHUNKS) for each in IN_CONTEXT)
    assert all(all_like(keys[each], CHUNKS, HANDOFF) for each in IN_HANDOFF)
    # The commands that brought them are those that wrote them: no message, no result of Celery's.
    commands = in_commands(running)
    assert all(all_like(commands[each], STAGED) for each in IN_CONTEXT)
    assert all(all_like(commands[each], STAGED, HANDOFF) for each in IN_HANDOFF)

    # Archived: of the context nothing is left in Redis, and what is in the archive is sealed.
    assert ask(running, "archive", session_id=session)["index_state"] == "indexed"
    hits = ask(running, "search", question=f"{QUESTIONS[0]} {MARKER}", limit=20)
    assert any(FACTS[0] in hit["snippet"] for hit in hits)
    assert not [each for each in (PASSWORD, TOKEN) if each in json.dumps(hits)]
    files = in_files(running)
    keys = in_keys(running)
    for canary in IN_CONTEXT:
        assert keys[canary] == set(), canary
        assert files[canary] == set(), canary
    for canary in IN_HANDOFF:
        assert all_like(keys[canary], HANDOFF), canary
        assert len(files[canary]) == 2, "a search that finds nothing proves nothing"
        assert {name.partition(".")[0] for name in files[canary]} == {"dump", "appendonly"}

    # Purged: the data key is destroyed; Chroma's files, which keep what was deleted, had no text.
    with contextlib.closing(_ledger(running)) as ledger:
        ((wrapped,),) = ledger.execute("SELECT wrapped_key FROM shelves").fetchall()
    assert ask(running, "purge", session_id=session)[0]["session"] == session
    files, keys = in_files(running), in_keys(running)
    assert all(not keys[each] and not files[each] for each in IN_CONTEXT)
    stored = [path.read_bytes() for path in running.state_dir.rglob("*") if path.is_file()]
    assert not [data for data in stored if wrapped.encode() in data]

    # All along: no log, no event.
    assert not [each for each in CANARIES if each in running.logs()]
    events = tap.opened()
    assert events.count(b"task-succeeded") >= 3
    assert not [each for each in CANARIES if each.encode() in events]


def _ledger(stack: Stack) -> sqlite3.Connection:
    return sqlite3.connect(stack.state_dir / "archive" / "ledger.sqlite")
