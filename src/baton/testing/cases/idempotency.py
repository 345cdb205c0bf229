"""Cases: what is asked twice happens once (C3)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from baton.errors import ContextNotFoundError, StoreUnavailableError
from baton.testing.case import CaseGroup
from baton.testing.clients import LosingClient
from baton.testing.expectations import expect, expect_equal

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.store.records import Commit
    from baton.testing.kit import Kit

T = TypeVar("T")

case = CaseGroup("idempotency")


@case
def write_under_a_name_happens_once(kit: Kit) -> None:
    """A repeat answers what the first did, even after others have written."""
    session_id, store = kit.session(), kit.store
    first = store.put(session_id, "one", agent_id="a", operation_id="op")
    store.put(session_id, "two", agent_id="b")
    again = kit.open_store().put(session_id, "one", agent_id="a", operation_id="op")
    expect_equal((again.version, again.etag), (first.version, first.etag), "the answer")
    expect_equal(store.get(session_id).content, "two", "the head")


@case
def append_under_a_name_happens_once(kit: Kit) -> None:
    """The line is there once."""
    session_id = kit.session()
    kit.store.put(session_id, "one\n", agent_id="a")
    versions = {
        kit.open_store().append(session_id, "two\n", agent_id="a", operation_id="op").version
        for _ in range(3)
    }
    expect_equal(versions, {"1.0.1"}, "the versions")
    expect_equal(kit.store.get(session_id).content, "one\ntwo\n", "the content")


@case
def conflict_under_a_name_is_one(kit: Kit) -> None:
    """A repeated write that waits, waits once."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, "one\n", agent_id="a")
    store.put(session_id, "ours\n", agent_id="a", base_version="1.0.0")
    answers = [
        store.put(session_id, "theirs\n", agent_id="b", base_version="1.0.0", operation_id="op")
        for _ in range(2)
    ]
    found = {(each.action, each.conflict_id) for each in answers}
    expect_equal(len(found), 1, "the number of different answers")
    expect_equal(len(store.conflicts(session_id)), 1, "the number of pending writes")


@case
def named_write_of_the_heads_content_is_remembered(kit: Kit) -> None:
    """Its repeat must not bring the old content back over a newer one."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, "one", agent_id="a")
    store.put(session_id, "one", agent_id="a", operation_id="op")
    store.put(session_id, "two", agent_id="b")
    store.put(session_id, "one", agent_id="a", operation_id="op")
    expect_equal(store.get(session_id).content, "two", "the head")


@case
def write_whose_reply_was_lost_is_repeated_safely(kit: Kit) -> None:
    """It may have happened; under its name, asking again makes it happened once."""
    session_id, client = kit.session(), LosingClient(kit.deployment.client)
    store = kit.open_store(client)
    store.put(session_id, "one\n", agent_id="a")
    commit = _despite_a_lost_reply(
        client,
        lambda: store.put(
            session_id, "two\n", agent_id="a", base_version="1.0.0", operation_id="op"
        ),
    )
    expect_equal((commit.action, commit.version), ("accepted", "1.0.1"), "the answer")
    expect_equal(len(kit.store.history(session_id)), 2, "the number of versions")
    entries = [each.operation for each in kit.store.show_audit(session_id)]
    expect_equal(entries, ["updated", "created"], "the audit")


@case
def append_whose_reply_was_lost_is_repeated_safely(kit: Kit) -> None:
    """No line is doubled."""
    session_id, client = kit.session(), LosingClient(kit.deployment.client)
    store = kit.open_store(client)

    def append(number: int) -> Commit:
        return store.append(session_id, f"{number}\n", agent_id="a", operation_id=f"op{number}")

    for number in range(4):
        _despite_a_lost_reply(client, partial(append, number))
    expect_equal(kit.store.get(session_id).content, "0\n1\n2\n3\n", "the content")


@case
def fork_whose_reply_was_lost_is_repeated_safely(kit: Kit) -> None:
    """The repeat finds its own fork, not a session that is in its way."""
    session_id, work = kit.session(), kit.session("work")
    client = LosingClient(kit.deployment.client)
    store = kit.open_store(client)
    store.put(session_id, "one", agent_id="a")
    commit = _despite_a_lost_reply(
        client, lambda: store.fork(session_id, work, agent_id="a", operation_id="op")
    )
    expect_equal(commit.version, "1.0.0", "the version")
    expect_equal(len(kit.store.history(work)), 1, "the number of versions")


@case
def resolution_whose_reply_was_lost_is_repeated_safely(kit: Kit) -> None:
    """A conflict resolved, and resolved again under the same name, is resolved once."""
    session_id, client = kit.session(), LosingClient(kit.deployment.client)
    store = kit.open_store(client)
    store.put(session_id, "one\n", agent_id="a")
    store.put(session_id, "ours\n", agent_id="a", base_version="1.0.0")
    pending = store.put(session_id, "theirs\n", agent_id="b", base_version="1.0.0")
    client.lose_next()
    for _ in range(2):
        try:
            store.resolve_conflict(
                session_id,
                pending.conflict_id or "",
                agent_id="c",
                content="both\n",
                operation_id="op",
            )
        except (StoreUnavailableError, LookupError):
            continue
    expect_equal(kit.store.get(session_id).content, "both\n", "the content")
    expect_equal(len(kit.store.history(session_id)), 3, "the number of versions")
    expect_equal(kit.store.conflicts(session_id), [], "what waits")


@case
def deletion_whose_reply_was_lost_spares_what_came_after(kit: Kit) -> None:
    """A session begun meanwhile is not deleted by the first call's repeat."""
    session_id, client = kit.session(), LosingClient(kit.deployment.client)
    store = kit.open_store(client)
    store.put(session_id, "old", agent_id="a")
    client.lose_next()
    try:
        store.delete(session_id, agent_id="a")
    except (StoreUnavailableError, ContextNotFoundError):
        expect(not kit.store.exists(session_id), "the deletion to have happened")
    kit.store.put(session_id, "new", agent_id="b")
    expect_equal(kit.store.get(session_id).content, "new", "the content")


@case
def mark_made_twice_is_there_once(kit: Kit) -> None:
    """Tags, checkpoints, pins and flags: again, they change nothing, and are one audit entry."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, "text", agent_id="a")
    for _ in range(2):
        store.tag(session_id, "t", "1.0.0", agent_id="a")
        store.checkpoint(session_id, "c", agent_id="a", checkpoint_id="cp")
        store.set_flag(session_id, "sensitive", agent_id="a")
    entries = sorted(each.operation for each in store.show_audit(session_id))
    expect_equal(entries, ["checkpointed", "created", "flagged", "tagged"], "the audit")


def _despite_a_lost_reply(client: LosingClient, call: Callable[[], T]) -> T:
    """What `call` answers, the second time if its reply was lost the first time."""
    client.lose_next()
    try:
        answer = call()
    except StoreUnavailableError:
        answer = call()
    expect(client.lost, "the reply to have been lost")
    return answer
