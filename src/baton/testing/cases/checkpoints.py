"""Cases: places in a version to resume from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.errors import CheckpointNotFoundError, InvalidInputError, VersionNotFoundError
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error

if TYPE_CHECKING:
    from baton.testing.kit import Kit

case = CaseGroup("checkpoints")

_TEXT: Final = "naïve café ☕ " * 3 + "CHECKPOINT rest"
_DATA: Final = _TEXT.encode()


@case
def resume_gives_what_stands_behind_the_checkpoint(kit: Kit) -> None:
    """From the byte that was marked, in the version it was marked in."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, _TEXT, agent_id="a")
    position = _DATA.index(b"CHECKPOINT")
    made = store.checkpoint(session_id, "after the cafés", agent_id="a", byte_position=position)
    store.put(session_id, "all else", agent_id="a")
    resumed = kit.open_store().resume(session_id, made.checkpoint_id)
    found = (resumed.content, resumed.version, resumed.start_byte)
    expect_equal(found, ("CHECKPOINT rest", "1.0.0", position), "what is resumed")


@case
def checkpoint_is_the_end_by_default(kit: Kit) -> None:
    """Without a position everything is done; what is appended later is another version."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, _TEXT, agent_id="a")
    made = store.checkpoint(session_id, "done", agent_id="a")
    expect_equal(made.byte_position, len(_DATA), "the position")
    expect_equal(store.resume(session_id, made.checkpoint_id).content, "", "what is left")


@case
def checkpoint_is_never_within_a_character(kit: Kit) -> None:
    """A byte in the middle of one, or past the end, is refused."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, _TEXT, agent_id="a")
    inside = _DATA.index("☕".encode()) + 1
    for position in (inside, inside + 1, len(_DATA) + 1, -1):
        with expect_error(InvalidInputError, "byte_position"):
            store.checkpoint(session_id, "wrong", agent_id="a", byte_position=position)
    with expect_error(InvalidInputError, "byte_position"):
        store.checkpoint(session_id, "both", agent_id="a", byte_position=0, token_position=0)
    expect_equal(store.checkpoints(session_id), [], "the checkpoints")


@case
def checkpoint_at_a_token_moves_back_to_a_character(kit: Kit) -> None:
    """Tokens are four bytes each, about; what is resumed is whole text."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, _TEXT, agent_id="a")
    for token_position in range(0, len(_DATA) // 4, 3):
        made = store.checkpoint(session_id, "x", agent_id="a", token_position=token_position)
        moved = token_position * 4 - made.byte_position
        expect(0 <= moved <= 3, f"a move back by at most 3 bytes, not {moved}")
        rest = store.resume(session_id, made.checkpoint_id).content
        expect_equal(rest.encode(), _DATA[made.byte_position :], "what is resumed")


@case
def checkpoint_is_made_once_under_a_name(kit: Kit) -> None:
    """A repeat adds nothing, and they are listed in the order they were made."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, _TEXT, agent_id="a")
    for _ in range(2):
        store.checkpoint(session_id, "first", agent_id="a", byte_position=0, checkpoint_id="cp_1")
    store.checkpoint(session_id, "second", agent_id="b", checkpoint_id="cp_0")
    found = [(each.checkpoint_id, each.label) for each in store.checkpoints(session_id)]
    expect_equal(found, [("cp_1", "first"), ("cp_0", "second")], "the checkpoints")


@case
def checkpoint_that_is_not_there_is_named(kit: Kit) -> None:
    """So is a version; and a label of two lines is refused."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, _TEXT, agent_id="a")
    with expect_error(CheckpointNotFoundError, "cp_404"):
        store.resume(session_id, "cp_404")
    with expect_error(VersionNotFoundError, "7.0.0"):
        store.checkpoint(session_id, "x", agent_id="a", version="7.0.0")
    for label in ("", "two\nlines", "x" * 201):
        with expect_error(InvalidInputError, "label"):
            store.checkpoint(session_id, label, agent_id="a")
