"""The lifecycle over real pools and beat: archived in time, found, restored, handed off again."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from runner_functions import NAMES

from archive_bench import FACTS, QUESTIONS, essay
from baton import ChildTask, ClientSettings, ContextStore, RedisSwarmCoordinator
from baton.archive.requests import Request, RequestDesk
from baton.dispatch import client_dispatcher
from baton.errors import ContextArchivedError
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
TEXT = f"{essay(200)} {FACTS[0]} {essay(200)}"

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
