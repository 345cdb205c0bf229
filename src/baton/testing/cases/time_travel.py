"""Cases: differences, rollback, forks and tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.errors import (
    ContextNotFoundError,
    InvalidIdError,
    SessionExistsError,
    TagExistsError,
    TagNotFoundError,
    VersionNotFoundError,
)
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect_equal, expect_error

if TYPE_CHECKING:
    from baton.testing.kit import Kit

case = CaseGroup("time travel")


@case
def difference_is_unified_text(kit: Kit) -> None:
    """What changed from a version to another is shown as `diff -u` would."""
    session_id = _three_versions(kit)
    unified = kit.store.diff(session_id, "1.0.0", "1.0.1").unified()
    heading = f"--- {session_id}@1.0.0\n+++ {session_id}@1.0.1\n"
    expect_equal(unified, f"{heading}@@ -1 +1 @@\n-text 0\n+text 1\n", "the difference")
    expect_equal(kit.store.diff(session_id, "1.0.1", "1.0.1").unified(), "", "to itself")


@case
def rollback_is_a_new_version_and_nothing_goes_away(kit: Kit) -> None:
    """The old content is the head again; numbers go up, and what came between stays."""
    session_id, store = _three_versions(kit), kit.store
    commit = store.rollback(session_id, "1.0.0", agent_id="b")
    expect_equal((commit.action, commit.version), ("accepted", "1.0.3"), "the commit")
    expect_equal(store.get(session_id).content, "text 0\n", "the head")
    expect_equal(store.get(session_id, "1.0.2").content, "text 2\n", "the version before")
    newest = store.history(session_id)[0]
    found = (newest.operation, newest.source)
    expect_equal(found, ("rollback", f"{session_id}@1.0.0"), "the record")


@case
def rollback_to_what_never_was_is_refused(kit: Kit) -> None:
    """The head stays."""
    session_id = _three_versions(kit)
    with expect_error(VersionNotFoundError, "1.0.9"):
        kit.store.rollback(session_id, "1.0.9", agent_id="b")
    expect_equal(kit.store.get(session_id).version, "1.0.2", "the head")


@case
def fork_lives_on_its_own(kit: Kit) -> None:
    """It begins with the version asked for, and neither side sees the other's later life."""
    trunk, store, work = _three_versions(kit), kit.store, kit.session("work")
    commit = store.fork(trunk, work, "1.0.1", agent_id="b")
    expect_equal(commit.version, "1.0.0", "the version")
    expect_equal(store.history(work)[0].source, f"{trunk}@1.0.1", "the source")
    store.append(work, "changed", agent_id="b")
    expect_equal(store.get(trunk).content, "text 2\n", "the trunk")
    store.delete(trunk, agent_id="a")
    expect_equal(kit.open_store().get(work).content, "text 1\nchanged", "the fork")


@case
def fork_never_writes_into_a_session_that_is_there(kit: Kit) -> None:
    """A name that is taken is refused, and its session stays."""
    trunk, store, taken = _three_versions(kit), kit.store, kit.session("taken")
    store.put(taken, "mine", agent_id="c")
    with expect_error(SessionExistsError, taken):
        store.fork(trunk, taken, agent_id="b")
    found = [(each.version, each.author) for each in store.history(taken)]
    expect_equal(found, [("1.0.0", "c")], "the history of the other")
    expect_equal(store.get(taken).content, "mine", "the other's content")


@case
def fork_of_nothing_is_refused(kit: Kit) -> None:
    """No session, no such version: nothing to begin with."""
    trunk, store, work = _three_versions(kit), kit.store, kit.session("work")
    with expect_error(ContextNotFoundError, "ghost"):
        store.fork(kit.session("ghost"), work, agent_id="b")
    with expect_error(VersionNotFoundError, "9.0.0"):
        store.fork(trunk, work, "9.0.0", agent_id="b")
    expect_equal(store.exists(work), False, "whether the fork exists")


@case
def tag_names_a_version_until_moved_or_removed(kit: Kit) -> None:
    """The head by default; again on the same version it changes nothing."""
    session_id, store = _three_versions(kit), kit.store
    expect_equal(store.tag(session_id, "release", "1.0.1", agent_id="a"), "1.0.1", "the version")
    expect_equal(store.tag(session_id, "latest", agent_id="a"), "1.0.2", "the head")
    store.tag(session_id, "release", "1.0.1", agent_id="a")
    store.put(session_id, "text 3\n", agent_id="a")
    expect_equal(store.tags(session_id), {"latest": "1.0.2", "release": "1.0.1"}, "the tags")
    store.untag(session_id, "release", agent_id="a")
    expect_equal(store.tags(session_id), {"latest": "1.0.2"}, "the tags left")
    with expect_error(TagNotFoundError, "release"):
        store.untag(session_id, "release", agent_id="a")


@case
def tag_is_not_moved_by_accident(kit: Kit) -> None:
    """It takes `move` to put it on another version."""
    session_id, store = _three_versions(kit), kit.store
    store.tag(session_id, "release", "1.0.1", agent_id="a")
    with expect_error(TagExistsError, "1.0.1"):
        store.tag(session_id, "release", "1.0.2", agent_id="a")
    store.tag(session_id, "release", "1.0.2", agent_id="a", move=True)
    expect_equal(store.tags(session_id), {"release": "1.0.2"}, "the tags")


@case
def tag_needs_a_version_and_a_name(kit: Kit) -> None:
    """A version that never was, and a name that is no id, are refused."""
    session_id = _three_versions(kit)
    with expect_error(VersionNotFoundError, "9.9.9"):
        kit.store.tag(session_id, "none", "9.9.9", agent_id="a")
    with expect_error(InvalidIdError, "tag"):
        kit.store.tag(session_id, "two\nlines", agent_id="a")
    expect_equal(kit.store.tags(session_id), {}, "the tags")


def _three_versions(kit: Kit) -> str:
    session_id = kit.session()
    for number in range(3):
        kit.store.put(session_id, f"text {number}\n", agent_id="a")
    return session_id
