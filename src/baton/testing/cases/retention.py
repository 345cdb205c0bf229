"""Cases: what a collection drops, and what it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.errors import ContextNotFoundError, VersionNotFoundError
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error
from baton.testing.texts import long_text

if TYPE_CHECKING:
    from baton.store.contexts import ContextStore
    from baton.testing.kit import Kit

case = CaseGroup("retention")


@case
def newest_versions_are_kept_and_read(kit: Kit) -> None:
    """The others go, and say that they are gone."""
    session_id, store = kit.session(), kit.open_store(keep_versions=3)
    _write(store, session_id, 8)
    dropped = store.collect(session_id, agent_id="a").versions
    expect_equal(dropped, tuple(f"1.0.{number}" for number in range(5)), "what was dropped")
    reader = kit.open_store()
    kept = [reader.get(session_id, each.version).content for each in reader.history(session_id)]
    expect_equal(kept, ["text 7\n", "text 6\n", "text 5\n"], "what is left")
    with expect_error(VersionNotFoundError, "1.0.0"):
        reader.get(session_id, "1.0.0")


@case
def dry_run_tells_the_same_and_drops_nothing(kit: Kit) -> None:
    """What a collection says it would drop, it drops."""
    session_id, store = kit.session(), kit.open_store(keep_versions=2)
    _write(store, session_id, 6)
    planned = store.collect(session_id, agent_id="a", dry_run=True)
    expect_equal(len(store.history(session_id)), 6, "the number of versions")
    done = store.collect(session_id, agent_id="a")
    expect_equal(planned.versions, done.versions, "the versions")
    expect_equal(planned.stored_bytes, done.stored_bytes, "the bytes")
    expect_equal(store.collect(session_id, agent_id="a").versions, (), "what a second finds")


@case
def tagged_version_is_kept(kit: Kit) -> None:
    """A tag holds its version until it is removed."""
    session_id, store = kit.session(), kit.open_store(keep_versions=1)
    _write(store, session_id, 4)
    store.tag(session_id, "release", "1.0.1", agent_id="a")
    expect_equal(store.collect(session_id, agent_id="a").versions, ("1.0.0", "1.0.2"), "dropped")
    expect_equal(kit.open_store().get(session_id, "1.0.1").content, "text 1\n", "the tagged one")
    expect_equal(store.tags(session_id), {"release": "1.0.1"}, "the tags")
    store.untag(session_id, "release", agent_id="a")
    expect_equal(store.collect(session_id, agent_id="a").versions, ("1.0.1",), "dropped later")


@case
def version_with_a_checkpoint_is_kept(kit: Kit) -> None:
    """What was marked to resume from can be resumed."""
    session_id, store = kit.session(), kit.open_store(keep_versions=1)
    _write(store, session_id, 3)
    store.checkpoint(
        session_id, "x", agent_id="a", version="1.0.0", byte_position=5, checkpoint_id="cp"
    )
    store.collect(session_id, agent_id="a")
    expect_equal(kit.open_store().resume(session_id, "cp").content, "0\n", "what is resumed")


@case
def pinned_version_is_kept_until_its_end(kit: Kit) -> None:
    """A pin lets go by `unpin`, or by itself after its time."""
    session_id, store = kit.session(), kit.open_store(keep_versions=1)
    _write(store, session_id, 3)
    store.pin(session_id, "long", "1.0.0", agent_id="a", seconds=60)
    store.pin(session_id, "brief", "1.0.1", agent_id="a", seconds=0.2)
    kit.until(
        lambda: "1.0.1" in store.collect(session_id, agent_id="a").versions, "the brief pin to end"
    )
    expect_equal(store.get(session_id, "1.0.0").content, "text 0\n", "the pinned version")
    for _ in range(2):
        store.unpin(session_id, "long", agent_id="a")
    expect_equal(store.collect(session_id, agent_id="a").versions, ("1.0.0",), "dropped at last")


@case
def pending_write_holds_its_base_and_its_head(kit: Kit) -> None:
    """What waits to be merged can be merged after any collection."""
    session_id, store = kit.session(), kit.open_store(keep_versions=1)
    _write(store, session_id, 3)
    pending = store.put(session_id, "mine\n", agent_id="b", base_version="1.0.0")
    _write(store, session_id, 2)
    store.collect(session_id, agent_id="a")
    left = {each.version for each in store.history(session_id)}
    expect({"1.0.0", pending.version} <= left, "base and head to be kept")
    other = kit.open_store()
    conflict_id = pending.conflict_id or ""
    expect_equal(other.pending_content(session_id, conflict_id), "mine\n", "the pending write")


@case
def newest_version_of_a_living_agent_is_kept(kit: Kit) -> None:
    """It may be writing on top of it."""
    session_id = kit.session()
    store = kit.open_store(keep_versions=1, live_agents=lambda _agents: {"alive"})
    for agent in ("alive", "dead", "last"):
        store.put(session_id, f"by {agent}", agent_id=agent)
    expect_equal(store.collect(session_id, agent_id="a").versions, ("1.0.1",), "dropped")
    expect_equal(store.get(session_id, "1.0.0").content, "by alive", "the living one's")


@case
def version_numbers_are_never_used_again(kit: Kit) -> None:
    """They go up across collection and rollback."""
    session_id, store = kit.session(), kit.open_store(keep_versions=1)
    _write(store, session_id, 4)
    store.collect(session_id, agent_id="a")
    expect_equal(store.put(session_id, "next", agent_id="a").version, "1.0.4", "the next")
    expect_equal(store.rollback(session_id, "1.0.3", agent_id="a").version, "1.0.5", "one more")


@case
def chunks_that_versions_share_outlive_one_of_them(kit: Kit) -> None:
    """A collection drops only what no version needs."""
    session_id, store, text = kit.session(), kit.open_store(keep_versions=1), long_text(300_000)
    store.put(session_id, text, agent_id="a")
    store.put(session_id, f"{text}tail", agent_id="a")
    store.put(session_id, "short", agent_id="a")
    store.rollback(session_id, "1.0.1", agent_id="a")
    store.collect(session_id, agent_id="a")
    expect(kit.open_store().get(session_id).content == f"{text}tail", "the head to be whole")


@case
def collection_of_nothing_is_refused(kit: Kit) -> None:
    """A session that is not there is named."""
    session_id = kit.session()
    with expect_error(ContextNotFoundError, session_id):
        kit.store.collect(session_id, agent_id="a")


def _write(store: ContextStore, session_id: str, count: int) -> None:
    for number in range(count):
        store.put(session_id, f"text {number}\n", agent_id="a")
