"""Cases: what is deleted is gone, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.errors import ContextNotFoundError
from baton.store.cache import ContextCache
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error
from baton.testing.texts import long_text

if TYPE_CHECKING:
    from baton.testing.kit import Kit

case = CaseGroup("deletion")


@case
def deleted_session_is_gone_and_others_stay(kit: Kit) -> None:
    """No version of it can be read; the next session is untouched."""
    session_id, other, store = kit.session(), kit.session("other"), kit.store
    for each in (session_id, other):
        store.put(each, long_text(50_000), agent_id="a")
    store.delete(session_id, agent_id="b")
    expect(not store.exists(session_id), "the session to be gone")
    expect(session_id not in store.list(), "the session not to be listed")
    for version in (None, "1.0.0"):
        with expect_error(ContextNotFoundError, session_id):
            store.get(session_id, version)
    expect(store.get(other).content == long_text(50_000), "the other to stay")


@case
def deletion_of_what_is_not_there_is_refused(kit: Kit) -> None:
    """A second deletion is told so."""
    session_id = kit.session()
    for _ in range(2):
        with expect_error(ContextNotFoundError, session_id):
            kit.store.delete(session_id, agent_id="a")
        kit.store.put(session_id, "text", agent_id="a")
        kit.store.delete(session_id, agent_id="a")


@case
def audit_outlives_its_session(kit: Kit) -> None:
    """Who deleted it can be read afterwards."""
    session_id = kit.session()
    kit.store.put(session_id, "text", agent_id="a")
    kit.store.delete(session_id, agent_id="b")
    newest = next(kit.store.show_audit(session_id))
    expect_equal((newest.operation, newest.agent), ("deleted", "b"), "the newest entry")


@case
def deletion_leaves_no_content(kit: Kit) -> None:
    """Nothing but audit, and a mark without content, is stored afterwards."""
    session_id = kit.session()
    raw = kit.raw(session_id)
    kit.store.put(session_id, long_text(200_000), agent_id="a")
    expect(raw.chunk_keys(), "chunks to be there before")
    kit.store.delete(session_id, agent_id="a")
    left = {key.removeprefix(raw.keys.base) for key in raw.existing_keys()}
    expect_equal(left - {":audit", ":audit_state", ":audit_seals", ":deleted"}, set(), "left")


@case
def session_begun_anew_shows_nothing_of_the_old(kit: Kit) -> None:
    """Not even to a writer who remembers the old one."""
    session_id, remembering = kit.session(), kit.open_store()
    old, new = long_text(150_000), long_text(150_000, 2)
    kit.store.put(session_id, old, agent_id="a")
    remembering.get(session_id)
    kit.store.delete(session_id, agent_id="a")
    expect_equal(kit.store.put(session_id, new, agent_id="a").version, "1.0.0", "the version")
    remembering.put(session_id, f"{old}tail", agent_id="b", base_version="1.0.0")
    reader = kit.open_store()
    expect(reader.get(session_id).content == f"{old}tail", "the head to be what was written")
    expect(reader.get(session_id, "1.0.0").content == new, "the version before to be the new one")


@case
def cache_serves_no_deleted_session_and_no_old_head(kit: Kit) -> None:
    """A cached text is served only while it is the one that is stored."""
    session_id, cached = kit.session(), kit.open_store(cache=ContextCache(1 << 24))
    kit.store.put(session_id, "one", agent_id="a")
    expect_equal(cached.get(session_id).content, "one", "the content")
    kit.store.put(session_id, "two", agent_id="a")
    expect_equal(cached.get(session_id).content, "two", "the content after a write")
    kit.store.delete(session_id, agent_id="a")
    with expect_error(ContextNotFoundError, session_id):
        cached.get(session_id)
