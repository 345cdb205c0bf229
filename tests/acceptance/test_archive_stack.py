"""The lifecycle over real pools and beat: archived in time, found, restored, handed off again."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING

import pytest
from celery import Celery
from runner_functions import NAMES

from archive_bench import FACTS, QUESTIONS, essay
from baton import ChildTask, ClientSettings, ContextStore, RedisSwarmCoordinator, routes
from baton.archive.requests import Request, RequestDesk
from baton.dispatch import client_dispatcher
from baton.errors import ContextArchivedError
from baton.key_providers.file import FileKeyProvider
from baton_command import BatonCommand
from waiting import until

if TYPE_CHECKING:
    from stack import Stack

SHORT = {
    "BATON_RUNNER_FUNCTIONS": json.dumps({name: f"runner_functions:{name}" for name in NAMES}),
    "BATON_LIFECYCLE_ACTIVE_SECONDS": "1",
    "BATON_LIFECYCLE_ARCHIVE_SECONDS": "3",
    "BATON_ACCESS_SWEEP_SECONDS": "0.5",
    "BATON_AGE_SWEEP_SECONDS": "0.5",
    "BATON_RECONCILE_SWEEP_SECONDS": "0.5",
    "BATON_ARCHIVE_SWEEP_SECONDS": "0.5",
    "BATON_SETTLE_SWEEP_SECONDS": "0.5",
    "BATON_NODE_SWEEP_SECONDS": "0.5",
    "BATON_WARM_SHUTDOWN_SECONDS": "3",
}
MARKER = "CONTEXT-MARKER-5f1e2a"
SECRET = "hunter2-CANARY-77aa01"  # noqa: S105  # of nothing
TEXT = f"{essay(200)} {FACTS[0]} {essay(200)}"

PLAIN_QUEUES = {"priority_steps": [0]}

pytestmark = pytest.mark.acceptance


@pytest.fixture
def running(stack, embedder) -> Stack:
    """All pools and beat, with short durations. The model is there, or this is skipped."""
    assert embedder.model_id
    return stack("agents", "context", "lifecycle", "archive", beat=True, env=SHORT)


def ask(stack: Stack, kind: str, **fields):
    """What the archive's pool answers."""
    desk = RequestDesk(stack.client())
    request_id = desk.leave(Request(kind, "tester", fields))
    dispatcher = client_dispatcher(stack.url, ClientSettings())
    try:
        dispatcher.ask_archive(request_id)
        return desk.wait(request_id, 90)
    finally:
        dispatcher.close()


def is_archived(store: ContextStore, session: str) -> bool:
    try:
        store.history(session)
    except ContextArchivedError:
        return True
    return False


def test_a_session_lives_through_all_states(running, tmp_path):
    """Handed off, archived by beat, found in other words, restored, handed off again, purged."""
    store = ContextStore(running.client())
    with RedisSwarmCoordinator(redis_url=running.url) as swarm, contextlib.closing(store):
        agent = swarm.register_agent("sonnet_coordinator", 200_000)
        session = swarm.update_context(TEXT, agent).session_id
        first = swarm.hand_off(agent, [ChildTask("one", "shout")]).wait(timeout_seconds=60)
        assert first.state == "done"
        until(lambda: is_archived(store, session), 120, what="archived by beat")

        (hit, *_) = ask(running, "search", question=QUESTIONS[0], limit=3)
        assert (hit["session_id"], FACTS[0] in hit["snippet"]) == (session, True)

        assert ask(running, "restore", session_id=session)["session_id"] == session
        head = store.get(session)
        assert head.content.startswith(TEXT)
        assert "ONE" in head.content
        again = swarm.hand_off(agent, [ChildTask("two", "shout")]).wait(timeout_seconds=60)
        assert again.state == "done"

        until(lambda: is_archived(store, session), 120, what="archived again")
        command = BatonCommand(
            tmp_path,
            "archive",
            BATON_REDIS_URL=running.url,
            BATON_STATE_DIR=str(running.state_dir),
        )
        listed = command.json("list")["sessions"]
        assert [each["session_id"] for each in listed] == [session]
        assert command.json("purge", session, "--yes")["erased"][0]["session"] == session
        assert "no copy" in command.error("restore", session, code=4)
    assert FACTS[0] not in running.logs()


def test_a_sweep_by_hand_beside_the_pools(stack, tmp_path):
    """Without beat: the archive's pool archives and carries the audit to its own folder."""
    running = stack("lifecycle", "archive", env=SHORT)
    with contextlib.closing(ContextStore(running.client())) as store:
        store.put("s", "text", agent_id="a")
        store.set_flag("s", "sensitive", agent_id="a")  # archived without a model
        elsewhere = {"BATON_REDIS_URL": running.url, "BATON_STATE_DIR": str(tmp_path / "mine")}
        short = {name: SHORT[name] for name in SHORT if "LIFECYCLE" in name}
        command = BatonCommand(tmp_path, "lifecycle", **elsewhere, **short)
        swept = until(lambda: _archived_by(command), 60, what="archived by hand")
        assert swept["left_to_pool"] == ["audit_carry"]
        assert swept["skipped"] == {}
        assert is_archived(store, "s")
    until((running.state_dir / "archive" / "audit.sqlite").exists, what="the audit carried")
    assert not (tmp_path / "mine" / "archive").exists()


def _archived_by(command: BatonCommand):
    swept = command.json("sweep")
    return swept if swept["archived"] == ["s"] else None


def test_a_sealed_context_is_nowhere_in_clear(stack, embedder, tmp_path):
    """Archived, searched, restored and archived again: its text and its secret are in no file.

    Looked at: AOF (rewritten) and RDB, every value of store and broker, the archive's folder, logs.
    After the purge its wrapped data key is in none of them either.
    """
    keys = FileKeyProvider.create(tmp_path / "master.keys")
    env = {"BATON_KEY_FILE": str(keys.path), "BATON_ARCHIVE_INDEX_SENSITIVE": "true"}
    running = stack("context", "archive", env={**SHORT, **env})
    assert embedder.model_id
    with contextlib.closing(ContextStore(running.client(), key_provider=keys)) as store:
        store.put("s", f"{TEXT} {MARKER} password={SECRET}", agent_id="a", sealed=True)
        assert ask(running, "archive", session_id="s")["index_state"] == "indexed"
        hits = ask(running, "search", question=f"{QUESTIONS[0]} password", limit=20)
        assert any(FACTS[0] in hit["snippet"] for hit in hits)
        assert SECRET not in json.dumps(hits)
        ask(running, "restore", session_id="s")
        assert MARKER in store.get("s").content
        store.flush_notes()
        ask(running, "archive", session_id="s")
    with sqlite3.connect(running.state_dir / "archive" / "ledger.sqlite") as ledger:
        ((wrapped,),) = ledger.execute("SELECT wrapped_key FROM shelves").fetchall()
    ledger.close()
    running_tasks_answer(running)
    secrets = [SECRET.encode(), MARKER.encode()]
    assert found_in(running, secrets) == {}
    assert found_in(running, [wrapped.encode()]) != {}
    ask(running, "purge", session_id="s")
    assert found_in(running, [*secrets, wrapped.encode()]) == {}


def running_tasks_answer(stack: Stack) -> None:
    """The tasks by name, as a client that speaks Celery only calls them; each may come twice."""
    with Celery(broker=stack.redis.celery_url(1), backend=stack.redis.celery_url(1)) as app:
        app.conf.update(task_create_missing_queues=True, broker_transport_options=PLAIN_QUEUES)
        for name, expected in (
            (routes.RESTORE_SESSION, {"session_id": "s", "version": "1.0.2", "was_here": False}),
            (routes.RESTORE_SESSION, {"session_id": "s", "version": "1.0.2", "was_here": True}),
            (routes.REFRESH_TTL, None),
        ):
            sent = app.send_task(name, ["s"], queue=routes.QUEUE_OF[name])
            if expected is not None:
                assert sent.get(timeout=60) == expected
        done = app.send_task(routes.ARCHIVE_SESSION, ["s"], queue=routes.ARCHIVE).get(timeout=60)
        assert (done["outcome"], done["embedded"]) == ("archived", 0)


def found_in(stack: Stack, secrets: list[bytes]) -> dict[str, bytes]:
    """Where any of these is, by file or key."""
    client, broker = stack.client(), stack.broker_client()
    # Answers to whoever asked hold snippets; they expire.
    client.delete(*client.keys("archive:*"), "none")
    client.save()
    client.bgrewriteaof()
    until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], what="AOF rewritten")
    places = {
        str(path): path.read_bytes()
        for folder in (stack.redis.folder, stack.folder)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "master.keys"
    }
    for each in (client, broker):
        places |= {key.decode("latin-1"): each.dump(key) or b"" for key in each.scan_iter()}
    places["logs"] = stack.logs().encode()
    return {name: secret for name, data in places.items() for secret in secrets if secret in data}
