"""Cases: numbers of versions, and their history."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from baton.errors import InvalidInputError, InvalidVersionError, VersionNotFoundError
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error

if TYPE_CHECKING:
    from baton.testing.kit import Kit

case = CaseGroup("versions")


@case
def each_write_raises_the_part_it_names(kit: Kit) -> None:
    """Patch by default, minor and major where asked; the parts behind begin again at 0."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, "one", agent_id="a")
    found = [
        store.put(session_id, "two", agent_id="a").version,
        store.put(session_id, "three", agent_id="a", bump="minor").version,
        store.put(session_id, "four", agent_id="a", bump="major").version,
        store.put(session_id, "five", agent_id="a", version="3.1.4").version,
    ]
    expect_equal(found, ["1.0.1", "1.1.0", "2.0.0", "3.1.4"], "the versions")


@case
def old_versions_stay_as_they_were(kit: Kit) -> None:
    """Versions are immutable: each is read as it was written, by whoever."""
    session_id = kit.session()
    commits = [kit.store.put(session_id, f"text {n}", agent_id="a") for n in range(6)]
    store = kit.open_store()
    for number, commit in enumerate(commits):
        found = store.get(session_id, commit.version)
        expect_equal((found.content, found.etag), (f"text {number}", commit.etag), "a version")


@case
def explicit_version_makes_one_even_of_equal_content(kit: Kit) -> None:
    """Who names a version gets it."""
    session_id = kit.session()
    kit.store.put(session_id, "one", agent_id="a")
    commit = kit.store.put(session_id, "one", agent_id="a", version="2.0.0")
    expect_equal(commit.version, "2.0.0", "the version")
    expect_equal(len(kit.store.history(session_id)), 2, "the number of versions")


@case
def explicit_version_is_above_the_head(kit: Kit) -> None:
    """Versions only go up: one at or below the head is refused."""
    session_id = kit.session()
    kit.store.put(session_id, "one", agent_id="a")
    for version in ("1.0.0", "0.9.9"):
        with expect_error(InvalidVersionError, "1.0.0"):
            kit.store.put(session_id, "two", agent_id="a", version=version)


@case
def malformed_version_is_refused(kit: Kit) -> None:
    """Anything but MAJOR.MINOR.PATCH is refused by the argument's name, and changes nothing."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, "one", agent_id="a")
    for wrong in ("1.0", "v1.0.0", "01.0.0", "1.0.0\n", "1.0.0-rc1", "1.0.x", "", "\u0661.0.0"):
        with expect_error(InvalidVersionError, "version"):
            store.put(session_id, "two", agent_id="a", version=wrong)
        with expect_error(InvalidVersionError, "base_version"):
            store.put(session_id, "two", agent_id="a", base_version=wrong)
        with expect_error(InvalidVersionError, "version"):
            store.get(session_id, wrong)
    with expect_error(InvalidVersionError, "bump"):
        store.put(session_id, "two", agent_id="a", bump="huge")  # type: ignore[arg-type]
    expect_equal(store.get(session_id).version, "1.0.0", "the head")


@case
def version_that_is_not_there_is_named_with_the_head(kit: Kit) -> None:
    """Who asks for a version that never was learns which is the newest."""
    session_id = kit.session()
    kit.store.put(session_id, "one", agent_id="a")
    with expect_error(VersionNotFoundError, "9.9.9"):
        kit.store.get(session_id, "9.9.9")
    with expect_error(VersionNotFoundError, "1.0.0"):
        kit.store.resolve_version(session_id, "9.9.9")


@case
def base_above_the_head_is_refused(kit: Kit) -> None:
    """Nobody can have seen a version that never was."""
    session_id = kit.session()
    kit.store.put(session_id, "one", agent_id="a")
    with expect_error(VersionNotFoundError, "1.0.7"):
        kit.store.put(session_id, "two", agent_id="a", base_version="1.0.7")


@case
def history_is_newest_first_with_parents(kit: Kit) -> None:
    """Each version names the one it was committed on, and times go up."""
    session_id = kit.session()
    for number in range(5):
        kit.store.put(session_id, f"text {number}", agent_id=f"agent_{number}")
    records = kit.open_store().history(session_id)
    expect_equal([each.version for each in records], [f"1.0.{n}" for n in range(4, -1, -1)], "them")
    expect_equal([each.parent for each in records][-1], None, "the first one's parent")
    for newer, older in pairwise(records):
        expect_equal(newer.parent, older.version, "the parent")
        expect(newer.committed_at > older.committed_at, "strictly rising times")
    expect_equal(records[0].author, "agent_4", "the author")


@case
def history_is_bounded_by_its_limit(kit: Kit) -> None:
    """With a limit, the newest so many; a limit below 1 is refused."""
    session_id = kit.session()
    for number in range(4):
        kit.store.put(session_id, f"text {number}", agent_id="a")
    found = [each.version for each in kit.store.history(session_id, 2)]
    expect_equal(found, ["1.0.3", "1.0.2"], "the history")
    with expect_error(InvalidInputError, "limit"):
        kit.store.history(session_id, 0)


@case
def newest_version_of_an_author_is_found(kit: Kit) -> None:
    """The store knows who wrote what last."""
    session_id, store = kit.session(), kit.store
    for number, author in enumerate(("a", "b", "a", "b")):
        store.put(session_id, f"text {number}", agent_id=author)
    found = [store.find_version_by(session_id, author) for author in ("a", "b", "c")]
    expect_equal(found, ["1.0.2", "1.0.3", None], "the versions")
    expect_equal(store.resolve_version(session_id), "1.0.3", "the head")
