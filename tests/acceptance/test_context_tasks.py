"""Contexts stored and merged by real workers, for clients that speak Celery only."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from baton.broker_url import choose_broker_url
from baton.key_providers.file import FileKeyProvider
from baton.store.contexts import ContextStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack import Stack

pytestmark = pytest.mark.acceptance

LINES = "".join(f"line {number}\n" for number in range(20))


@pytest.fixture
def running(stack) -> Stack:
    """The pools, no beat."""
    return stack("context")


@pytest.fixture
def store(running) -> Iterator[ContextStore]:
    store = ContextStore(running.client())
    yield store
    store.close()


@pytest.fixture
def ask(running) -> Iterator[Any]:
    """Sends a task by name, as any Celery client could, and waits for its answer."""
    broker = choose_broker_url(running.url, None)
    app = Celery(broker=broker, backend=broker, set_as_current=False)

    def send(task: str, task_id: str | None = None, **fields: Any) -> Any:
        result = app.send_task(task, kwargs=fields, queue="context", task_id=task_id)
        return result.get(timeout=60)

    yield send
    app.close()


def test_content_is_stored_once_for_each_message(ask, store):
    """A message that is delivered twice is one write: its id names the operation."""
    fields = {"session_id": "s", "agent_id": "a", "content": LINES}
    first = ask("context.store", task_id="one", **fields)
    again = ask("context.store", task_id="one", **{**fields, "content": "not this"})
    assert (first["action"], first["version"]) == ("accepted", "1.0.0")
    assert again["version"] == "1.0.0"
    assert store.get("s").content == LINES


def test_concurrent_writes_of_two_clients_are_merged(ask, store):
    store.put("s", LINES, agent_id="a")
    for number, agent in ((3, "b"), (15, "c")):
        answer = ask(
            "context.store",
            session_id="s",
            agent_id=agent,
            content=LINES.replace(f"line {number}\n", f"by {agent}\n"),
            base_version="1.0.0",
        )
    assert answer["action"] == "merged"
    assert "by b\n" in store.get("s").content
    assert "by c\n" in store.get("s").content


def test_a_fork_is_merged_by_reference(ask, store):
    store.put("s", LINES, agent_id="a")
    store.fork("s", "work", agent_id="b")
    store.append("work", "from the fork\n", agent_id="b")
    answer = ask("context.merge", session_id="s", source_session_id="work", agent_id="b")
    assert (answer["action"], answer["version"]) == ("accepted", "1.0.1")
    assert store.get("s").content == LINES + "from the fork\n"


def test_an_envelope_is_stored_with_its_checkpoints(ask, store):
    store.put("s", LINES, agent_id="a", metadata={"model": "sonnet"})
    store.checkpoint("s", "here", agent_id="a", byte_position=7, checkpoint_id="cp_1")
    envelope = json.loads(b"".join(store.export_envelope("s")))
    answer = ask("context.store", session_id="copy", agent_id="b", envelope=envelope)
    assert answer["session_id"] == "copy"
    assert store.resume("copy", "cp_1").content == LINES[7:]
    assert store.get("copy").metadata["model"] == "sonnet"


def test_no_plain_content_reaches_a_sealed_session(running, ask, tmp_path):
    """The worker has no key; its refusal says what to do, and the result holds no content."""
    provider = FileKeyProvider.create(tmp_path / "baton.keys")
    with closing(ContextStore(running.client(), key_provider=provider)) as store:
        store.put("s", LINES, agent_id="a", sealed=True)
        with pytest.raises(Exception, match="baton context put --sealed") as said:
            ask("context.store", session_id="s", agent_id="a", content="in clear")
        assert "in clear for session s" in str(said.value)
        assert store.show("s").version_count == 1


WRONG = [
    ({"session_id": "s"}, "agent_id"),
    ({"session_id": "s", "agent_id": "a"}, "content"),
    ({"session_id": "s", "agent_id": "a", "content": "x" * 70_000}, "content"),
    ({"session_id": "s:*", "agent_id": "a", "content": "x"}, "session_id"),
    ({"session_id": "s", "agent_id": "a", "content": 5}, "content"),
    ({"session_id": "s", "agent_id": "a", "content": "x", "policy": "mine"}, "policy"),
    ({"session_id": "s", "agent_id": "a", "content": "x", "unknown": 1}, "unknown"),
    ({"session_id": "s", "agent_id": "a", "content": "x", "sealed": True}, "sealed"),
    ({"session_id": "s", "agent_id": "a", "envelope": {}, "version": "2.0.0"}, "version"),
]


def test_wrong_messages_are_refused_by_their_field(ask, store):
    """The worker lives, and nothing is written."""
    for fields, named in WRONG:
        with pytest.raises(Exception, match=named):
            ask("context.store", **fields)
    assert not store.exists("s")
