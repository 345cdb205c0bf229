"""Cases: nothing of a session stays for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.errors import ConflictNotFoundError, ContextNotFoundError
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error
from baton.testing.texts import long_text

if TYPE_CHECKING:
    from baton.testing.kit import Kit

case = CaseGroup("expiry")


@case
def every_key_of_a_session_expires(kit: Kit) -> None:
    """Whatever was done to it, no key of it is without an expiry."""
    session_id, store = kit.session(), kit.open_sealing_store()
    store.put(session_id, long_text(100_000), agent_id="a", sealed=True, operation_id="op")
    store.put(session_id, "two\n", agent_id="a", base_version="1.0.0")
    store.put(session_id, "three\n", agent_id="b", base_version="1.0.0")
    store.tag(session_id, "t", agent_id="a")
    store.checkpoint(session_id, "c", agent_id="a")
    store.pin(session_id, "p", "1.0.0", agent_id="a", seconds=60)
    store.get(session_id, agent_id="reader")
    store.flush_notes()
    store.seal_audit(session_id)
    _check_all_expire(kit, session_id, at_least=16)


@case
def what_a_deletion_leaves_expires(kit: Kit) -> None:
    """The audit, and the mark that lets a deletion be repeated."""
    session_id = kit.session()
    kit.store.put(session_id, "text", agent_id="a")
    kit.store.seal_audit(session_id)
    kit.store.delete(session_id, agent_id="a")
    _check_all_expire(kit, session_id, at_least=1)


@case
def untouched_session_runs_out_as_a_whole(kit: Kit) -> None:
    """After its backstop there is no session, and no part of one."""
    session_id = kit.session()
    store = kit.open_store(backstop_seconds=0.3)
    # One chunk: chunks outlive their session by hours, and the one written below replaces it.
    store.put(session_id, "text", agent_id="a")
    kit.until(lambda: not store.exists(session_id), "the session to expire")
    with expect_error(ContextNotFoundError, session_id):
        store.get(session_id)
    commit = kit.store.put(session_id, "anew", agent_id="a")
    expect_equal(commit.version, "1.0.0", "the version of a session begun anew")


@case
def refresh_moves_the_expiry(kit: Kit) -> None:
    """A session that is refreshed lives for the whole backstop again."""
    session_id = kit.session()
    kit.open_store(backstop_seconds=600).put(session_id, long_text(50_000), agent_id="a")
    before = kit.store.show(session_id).expires_in_seconds or 0
    kit.open_store(backstop_seconds=6_000).refresh_expiry(session_id)
    after = kit.store.show(session_id).expires_in_seconds or 0
    expect(before <= 600, f"600 s at first, not {before:g}")
    expect(after > 5_000, f"6,000 s after the refresh, not {after:g}")


@case
def pending_write_expires(kit: Kit) -> None:
    """A write that nobody merges goes after its time; the session stays."""
    session_id, store = kit.session(), kit.open_store(conflict_seconds=0.3)
    store.put(session_id, "one\n", agent_id="a")
    store.put(session_id, "ours\n", agent_id="a", base_version="1.0.0")
    commit = store.put(session_id, "theirs\n", agent_id="b", base_version="1.0.0")
    kit.until(lambda: not store.conflicts(session_id), "the pending write to expire")
    with expect_error(ConflictNotFoundError):
        store.pending_content(session_id, commit.conflict_id or "")
    collected = store.collect(session_id, agent_id="a").conflicts
    expect_equal(collected, (commit.conflict_id,), "what is collected")
    expect_equal(store.get(session_id).content, "ours\n", "the head")


def _check_all_expire(kit: Kit, session_id: str, *, at_least: int) -> None:
    raw = kit.raw(session_id)
    found = {key: raw.client.pttl(key) for key in raw.existing_keys()}
    expect(len(found) >= at_least, f"{at_least} keys or more, not {sorted(found)}")
    expect_equal([key for key, left_ms in found.items() if left_ms < 0], [], "keys for ever")
