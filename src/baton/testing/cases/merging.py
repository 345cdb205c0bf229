"""Cases: concurrent writes of text, what merges and what waits for somebody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.errors import ConflictNotFoundError, InvalidInputError
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error
from baton.testing.texts import LINES, edited

if TYPE_CHECKING:
    from baton.store.contexts import ContextStore
    from baton.store.records import Commit
    from baton.testing.kit import Kit

case = CaseGroup("merging")


@case
def edits_of_different_places_are_merged(kit: Kit) -> None:
    """Two writers on one base both get in (E2)."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, LINES, agent_id="a")
    store.put(session_id, edited(LINES, 3, "three"), agent_id="a", base_version="1.0.0")
    commit = kit.open_store().put(
        session_id, edited(LINES, 30, "thirty"), agent_id="b", base_version="1.0.0"
    )
    expect_equal((commit.action, commit.version), ("merged", "1.0.2"), "the commit")
    both = edited(edited(LINES, 3, "three"), 30, "thirty")
    expect_equal(store.get(session_id).content, both, "the content")


@case
def additions_of_two_writers_are_both_kept_in_order(kit: Kit) -> None:
    """Who only added behind the base comes behind who added first."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, "log\n", agent_id="a")
    store.put(session_id, "log\nfirst\n", agent_id="a", base_version="1.0.0")
    store.put(session_id, "log\nsecond\n", agent_id="b", base_version="1.0.0")
    expect_equal(store.get(session_id).content, "log\nfirst\nsecond\n", "the content")


@case
def same_edit_by_two_writers_is_one(kit: Kit) -> None:
    """What both wrote is there once."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, LINES, agent_id="a")
    new = edited(LINES, 3, "three")
    first = store.put(session_id, new, agent_id="a", base_version="1.0.0")
    second = store.put(session_id, new, agent_id="b", base_version="1.0.0")
    expect_equal((second.action, second.version), ("accepted", first.version), "the commit")


@case
def writer_that_changed_nothing_undoes_nothing(kit: Kit) -> None:
    """Writing the base again does not take back what came since."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, LINES, agent_id="a")
    head = store.put(session_id, edited(LINES, 3, "three"), agent_id="a", base_version="1.0.0")
    late = store.put(session_id, LINES, agent_id="b", base_version="1.0.0")
    expect_equal((late.action, late.etag), ("accepted", head.etag), "the commit")


@case
def edits_of_one_place_leave_the_head_and_keep_both(kit: Kit) -> None:
    """What both changed differently waits, and neither is lost (E2)."""
    session_id, store = kit.session(), kit.store
    commit = _conflict(store, session_id)
    expect_equal((commit.action, commit.version), ("merge_required", "1.0.1"), "the commit")
    conflict_id = commit.conflict_id or ""
    found = [(each.base, each.ours, each.theirs) for each in commit.conflicts]
    expect_equal(found, [("line 3\n", "ours\n", "theirs\n")], "the conflicts")
    other = kit.open_store()
    expect("ours\n" in other.get(session_id).content, "the head to stay")
    expect("theirs\n" in other.pending_content(session_id, conflict_id), "the write to be kept")
    pending = [(each.conflict_id, each.agent_id) for each in other.conflicts(session_id)]
    expect_equal(pending, [(conflict_id, "b")], "what waits")
    expect_equal(other.explain_conflict(session_id, conflict_id), commit.conflicts, "explained")


@case
def no_marker_enters_a_context(kit: Kit) -> None:
    """Conflicts are objects, never `<<<<<<<` in a text that a model will read."""
    session_id, store = kit.session(), kit.store
    conflict_id = _conflict(store, session_id).conflict_id or ""
    store.resolve_conflict(session_id, conflict_id, agent_id="c", take="theirs")
    texts = [store.get(session_id, each.version).content for each in store.history(session_id)]
    marked = [mark for mark in ("<<<<<<<", "=======", ">>>>>>>") if mark in "".join(texts)]
    expect_equal(marked, [], "markers in versions")


@case
def taking_ours_keeps_what_else_they_changed(kit: Kit) -> None:
    """A side is taken place by place, with the head's as ours."""
    _check_taking(kit, "ours")


@case
def taking_theirs_keeps_what_else_we_changed(kit: Kit) -> None:
    """A side is taken place by place, with the pending write's as theirs."""
    _check_taking(kit, "theirs")


@case
def conflict_is_resolved_by_hand_on_top_of_what_came_since(kit: Kit) -> None:
    """A text made by hand is merged with what others wrote meanwhile."""
    session_id, store = kit.session(), kit.store
    conflict_id = _conflict(store, session_id).conflict_id or ""
    later = edited(store.get(session_id).content, 30, "later")
    store.put(session_id, later, agent_id="a", base_version="1.0.1")
    by_hand = edited(LINES, 3, "ours and theirs")
    store.resolve_conflict(session_id, conflict_id, agent_id="c", content=by_hand)
    expect_equal(store.get(session_id).content, edited(by_hand, 30, "later"), "the content")


@case
def conflict_is_resolved_once(kit: Kit) -> None:
    """Resolved, it is gone; and a resolution needs a side or a text."""
    session_id, store = kit.session(), kit.store
    conflict_id = _conflict(store, session_id).conflict_id or ""
    with expect_error(InvalidInputError, "take"):
        store.resolve_conflict(session_id, conflict_id, agent_id="c")
    store.resolve_conflict(session_id, conflict_id, agent_id="c", take="ours")
    expect_equal(store.conflicts(session_id), [], "what waits")
    with expect_error(ConflictNotFoundError, conflict_id):
        store.resolve_conflict(session_id, conflict_id, agent_id="c", take="ours")


@case
def policy_reject_stores_nothing(kit: Kit) -> None:
    """Who asks to be refused is, and learns the head."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, "one", agent_id="a")
    head = store.put(session_id, "two", agent_id="a", base_version="1.0.0")
    commit = store.put(session_id, "mine", agent_id="b", base_version="1.0.0", policy="reject")
    expect_equal((commit.action, commit.version), ("rejected", "1.0.1"), "the commit")
    expect_equal(commit.etag, head.etag, "the head's etag")
    expect_equal(len(store.history(session_id)), 2, "the number of versions")
    expect_equal(store.conflicts(session_id), [], "what waits")


@case
def policy_last_write_wins_keeps_the_loser_in_the_history(kit: Kit) -> None:
    """The newer replaces the older, says so, and the older can be read."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, "one", agent_id="a")
    store.put(session_id, "loser", agent_id="a", base_version="1.0.0")
    commit = store.put(
        session_id, "winner", agent_id="b", base_version="1.0.0", policy="last_write_wins"
    )
    found = (commit.action, commit.version, commit.replaced)
    expect_equal(found, ("accepted_with_divergence", "1.0.2", "1.0.1"), "the commit")
    expect_equal(store.get(session_id).content, "winner", "the head")
    expect_equal(store.get(session_id, "1.0.1").content, "loser", "the loser")


@case
def explicit_version_that_another_reached_is_bumped_past_it(kit: Kit) -> None:
    """A merged write gets the next number above the head."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, LINES, agent_id="a")
    options = {"base_version": "1.0.0", "version": "1.1.0"}
    store.put(session_id, edited(LINES, 3, "x"), agent_id="a", **options)  # type: ignore[arg-type]
    commit = store.put(session_id, edited(LINES, 30, "y"), agent_id="b", **options)  # type: ignore[arg-type]
    expect_equal((commit.action, commit.version), ("merged", "1.1.1"), "the commit")


@case
def write_on_a_base_that_was_collected_keeps_both_sides(kit: Kit) -> None:
    """Where nothing tells any more who changed what, nothing is merged and nothing lost."""
    session_id, store = kit.session(), kit.open_store(keep_versions=1)
    store.put(session_id, "one\n", agent_id="a")
    store.put(session_id, "two\n", agent_id="a", base_version="1.0.0")
    store.collect(session_id, agent_id="a")
    other = kit.open_store()
    commit = other.put(session_id, "mine\n", agent_id="b", base_version="1.0.0")
    expect_equal(commit.action, "merge_required", "the action")
    expect_equal(other.get(session_id).content, "two\n", "the head")
    kept = other.pending_content(session_id, commit.conflict_id or "")
    expect_equal(kept, "mine\n", "the pending write")


@case
def fork_merges_back_what_it_changed(kit: Kit) -> None:
    """The changes of trunk and fork are both in the merge, which names where they came from."""
    trunk, work, store = kit.session("trunk"), kit.session("work"), kit.store
    store.put(trunk, LINES, agent_id="a")
    store.fork(trunk, work, agent_id="b")
    store.put(work, edited(LINES, 30, "in the fork"), agent_id="b", base_version="1.0.0")
    store.put(trunk, edited(LINES, 3, "in the trunk"), agent_id="a", base_version="1.0.0")
    expect_equal(store.merge(trunk, work, agent_id="b").action, "merged", "the action")
    both = edited(edited(LINES, 3, "in the trunk"), 30, "in the fork")
    expect_equal(store.get(trunk).content, both, "the content")
    expect_equal(store.history(trunk)[0].source, f"{work}@1.0.1", "the source")
    with expect_error(InvalidInputError, "base_version"):
        store.merge(work, trunk, agent_id="b")


def _conflict(store: ContextStore, session_id: str) -> Commit:
    """The outcome of a write that waits: line 3 is `ours` at the head, `theirs` in it."""
    store.put(session_id, LINES, agent_id="a")
    ours = edited(edited(LINES, 3, "ours"), 10, "only in ours")
    store.put(session_id, ours, agent_id="a", base_version="1.0.0")
    theirs = edited(edited(LINES, 3, "theirs"), 20, "only in theirs")
    return store.put(session_id, theirs, agent_id="b", base_version="1.0.0")


def _check_taking(kit: Kit, side: str) -> None:
    session_id, store = kit.session(), kit.store
    conflict_id = _conflict(store, session_id).conflict_id or ""
    commit = store.resolve_conflict(session_id, conflict_id, agent_id="c", take=side)  # type: ignore[arg-type]
    wanted = edited(edited(LINES, 10, "only in ours"), 20, "only in theirs")
    expect_equal(store.get(session_id).content, edited(wanted, 3, side), "the content")
    expect_equal((commit.action, commit.version), ("accepted", "1.0.2"), "the commit")
