"""Cases: ids that would leave their place, and what is too large (I6, I7, I8, I9, H11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from baton.errors import ContextTooLargeError, InvalidIdError, InvalidInputError
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from baton.testing.kit import Kit

case = CaseGroup("input limits")

_FIELDS: Final = ("session_id", "agent_id", "operation_id")


@case
def id_that_is_a_pattern_is_refused(kit: Kit) -> None:
    """`*`, `?` and `[...]` would match the sessions of others (I6)."""
    _check_refused(kit, ("*", "s[12]", "s?", "s*", "^s", "s\\*"))


@case
def id_that_names_a_part_of_a_session_is_refused(kit: Kit) -> None:
    """`A:audit` would be a key of the session `A` (I7)."""
    _check_refused(kit, ("A:audit", "A:chunks", "A:chunks:0", ":", "A/audit", "../A"))


@case
def id_with_braces_is_refused(kit: Kit) -> None:
    """Braces choose a cluster's slot, so an id must have none (I8)."""
    _check_refused(kit, ("{}", "{A}", "a{b}c", "}", "{"))


@case
def id_with_control_characters_is_refused(kit: Kit) -> None:
    """A newline would forge a line of a log (I9)."""
    _check_refused(kit, ("a\nb", "a\n", "\n", "a\r", "a\0b", "a\x1b[31m", "a\u2028b", "a b"))


@case
def id_of_other_scripts_lengths_and_types_is_refused(kit: Kit) -> None:
    """An id has 1 to 128 ASCII letters, digits, `_`, `.`, `-`, and begins with none of these."""
    wrong: tuple[Any, ...] = ("", "ж", "a" * 129, ".x", "-x", "_x", "\u0660", 7, b"s", ["s"])
    _check_refused(kit, wrong)


@case
def longest_and_oddest_ids_are_taken(kit: Kit) -> None:
    """What is allowed works: dots, dashes, and 128 characters."""
    odd = kit.session("A.b-c_D.")
    longest = kit.session("x" * (128 - len(kit.session(""))))
    for session_id in (odd, longest):
        kit.store.put(session_id, session_id, agent_id="a" * 128, operation_id="o" * 128)
        expect_equal(kit.store.get(session_id).content, session_id, "the content")


@case
def ids_that_begin_alike_are_strangers(kit: Kit) -> None:
    """One session's deletion and listing touch none whose id it begins."""
    short, long = kit.session("s"), kit.session("s1")
    for session_id in (short, long):
        kit.store.put(session_id, session_id, agent_id="a")
    kit.store.delete(short, agent_id="a")
    expect(not kit.store.exists(short), "the short one to be gone")
    expect_equal(kit.store.get(long).content, long, "the other's content")


@case
def content_above_the_limit_is_refused_and_at_the_limit_taken(kit: Kit) -> None:
    """The limit counts bytes, not characters (H11)."""
    session_id, store = kit.session(), kit.open_store(max_context_bytes=10)
    with expect_error(ContextTooLargeError, "10"):
        store.put(session_id, "ééééé1", agent_id="a")
    expect(not store.exists(session_id), "nothing to be stored")
    store.put(session_id, "ééééé", agent_id="a")
    expect_equal(store.get(session_id).size_bytes, 10, "size_bytes")


@case
def append_past_the_limit_is_refused(kit: Kit) -> None:
    """A context does not grow above the limit piece by piece (H11)."""
    session_id, store = kit.session(), kit.open_store(max_context_bytes=10)
    store.append(session_id, "123456", agent_id="a")
    with expect_error(ContextTooLargeError, "10"):
        store.append(session_id, "78901", agent_id="a")
    expect_equal(store.get(session_id).content, "123456", "the content")


@case
def unknown_policy_flag_and_type_are_refused(kit: Kit) -> None:
    """A misspelt option is an error, never a default."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, "one", agent_id="a")
    for wrong in ({"policy": "merg"}, {"content_type": "text/html"}):
        with expect_error(InvalidInputError, next(iter(wrong))):
            store.put(session_id, "two", agent_id="a", **wrong)  # type: ignore[arg-type]
    with expect_error(InvalidInputError, "flag"):
        store.set_flag(session_id, "frozen", agent_id="a")  # type: ignore[arg-type]
    expect_equal(store.get(session_id).content, "one", "the content")


def _check_refused(kit: Kit, wrong: Iterable[Any]) -> None:
    """Each of them is refused wherever an id is taken, and nothing is written for it."""
    session_id, store = kit.session("untouched"), kit.store
    for value in wrong:
        for field in _FIELDS:
            arguments = {"session_id": session_id, "agent_id": "a", field: value}
            with expect_error(InvalidIdError, field):
                store.put(content="text", **arguments)
        for ask in (store.get, store.show, store.exists, store.refresh_expiry):
            with expect_error(InvalidIdError, "session_id"):
                ask(value)
        with expect_error(InvalidIdError, "session_id"):
            store.delete(value, agent_id="a")
    expect(not store.exists(session_id), "nothing to be stored")
