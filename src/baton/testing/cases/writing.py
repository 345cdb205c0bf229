"""Cases: what a write stores, and when it stores nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from baton.content.compression import Codec
from baton.errors import ContextImmutableError, ContextNotFoundError, InvalidInputError
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error
from baton.testing.texts import long_text

if TYPE_CHECKING:
    from baton.testing.kit import Kit

case = CaseGroup("writing")

_MODEL: Final = {"model": "sonnet", "top_p": 0.95}


@case
def first_write_creates_version_1_0_0(kit: Kit) -> None:
    """The first write of a session is accepted as 1.0.0, and reads back with its author."""
    session_id = kit.session()
    commit = kit.store.put(session_id, "hello", agent_id="alice")
    expect_equal((commit.version, commit.action), ("1.0.0", "accepted"), "the commit")
    context = kit.store.get(session_id)
    expect_equal((context.content, context.author), ("hello", "alice"), "the context")
    expect_equal(context.etag, commit.etag, "the etag")
    expect_equal(context.content_hash, commit.content_hash, "the content hash")


@case
def write_is_seen_by_every_other_client(kit: Kit) -> None:
    """What one store wrote, another reads at once."""
    session_id, other = kit.session(), kit.open_store()
    for number in range(5):
        kit.store.put(session_id, f"text {number}", agent_id="a")
        expect_equal(other.get(session_id).content, f"text {number}", "the content")


@case
def write_of_the_heads_own_content_makes_no_version(kit: Kit) -> None:
    """Content that is there already is accepted as the head."""
    session_id = kit.session()
    kit.store.put(session_id, "one", agent_id="a")
    again = kit.store.put(session_id, "one", agent_id="b")
    expect_equal((again.action, again.version), ("accepted", "1.0.0"), "the commit")
    expect_equal(len(kit.store.history(session_id)), 1, "the number of versions")


@case
def write_on_top_of_a_session_that_is_not_there_is_refused(kit: Kit) -> None:
    """A base version needs a session; none is begun."""
    session_id = kit.session()
    with expect_error(ContextNotFoundError, session_id):
        kit.store.put(session_id, "text", agent_id="a", base_version="1.0.0")
    expect(not kit.store.exists(session_id), "no session to be begun")


@case
def empty_context_is_a_context(kit: Kit) -> None:
    """The empty text is stored and read like any other."""
    session_id = kit.session()
    kit.store.put(session_id, "", agent_id="a")
    context = kit.open_store().get(session_id)
    expect_equal((context.content, context.size_bytes), ("", 0), "the context")


@case
def large_and_small_versions_never_mix(kit: Kit) -> None:
    """A short version after a long one has nothing of it, and the long one stays."""
    session_id, large, larger = kit.session(), long_text(400_000), long_text(700_000, 2)
    texts = [large, "small", larger, "", large]
    for text in texts:
        kit.store.put(session_id, text, agent_id="a")
    store = kit.open_store()
    found = [store.get(session_id, f"1.0.{number}").content for number in range(len(texts))]
    expect(found == texts, "every version to be what was written")


@case
def edit_in_the_middle_stores_little_more(kit: Kit) -> None:
    """A version that differs by one line shares the rest with the one before."""
    session_id, text = kit.session(), long_text(1_000_000)
    kit.store.put(session_id, text, agent_id="a")
    kit.store.put(session_id, text.replace("\n9999 of 1:", "\nchanged:"), agent_id="a")
    dropped = kit.open_store(keep_versions=1).collect(session_id, agent_id="a", dry_run=True)
    kept_bytes = kit.store.show(session_id).stored_bytes
    expect_equal(dropped.versions, ("1.0.0",), "what a collection would drop")
    expect(dropped.stored_bytes < kept_bytes / 4, "the versions to share most of their chunks")


@case
def every_codec_is_read_by_a_store_of_another(kit: Kit) -> None:
    """How a store compresses is no matter to who reads."""
    text = long_text(60_000)
    for codec in get_args(Codec):
        session_id = kit.session(codec)
        kit.open_store(compression=codec).put(session_id, text, agent_id="a")
        expect(kit.store.get(session_id).content == text, f"{codec} to be read back")


@case
def metadata_belongs_to_a_version_and_is_carried_on(kit: Kit) -> None:
    """A version has the metadata it was given, or that of the one before."""
    session_id = kit.session()
    kit.store.put(session_id, "one", agent_id="a", metadata=_MODEL)
    kit.store.put(session_id, "two", agent_id="a")
    kit.store.put(session_id, "two", agent_id="a", metadata={"model": "haiku"})
    found = [dict(kit.store.get(session_id, f"1.0.{number}").metadata) for number in range(3)]
    expect_equal(found, [_MODEL, _MODEL, {"model": "haiku"}], "the metadata")


@case
def metadata_that_is_no_json_is_refused(kit: Kit) -> None:
    """What JSON does not carry, or more than 64 KiB, is refused by name."""
    session_id = kit.session()
    for wrong in ([1], {"a": float("nan")}, {"a": object()}, {"a": "x" * 70_000}):
        with expect_error(InvalidInputError, "metadata"):
            kit.store.put(session_id, "text", agent_id="a", metadata=wrong)  # type: ignore[arg-type]
    expect(not kit.store.exists(session_id), "nothing to be stored")


@case
def append_adds_behind_the_head(kit: Kit) -> None:
    """Appending keeps every byte that was there, and puts the new ones behind them."""
    session_id, other = kit.session(), kit.open_store()
    kit.store.append(session_id, "one\n", agent_id="a")
    other.append(session_id, "two\n", agent_id="b")
    kit.store.append(session_id, "three", agent_id="a")
    expect_equal(kit.open_store().get(session_id).content, "one\ntwo\nthree", "the content")


@case
def append_to_a_large_context_keeps_all_of_it(kit: Kit) -> None:
    """Many chunks and a tail, by a writer who has never read them."""
    session_id, text = kit.session(), long_text(500_000)
    kit.store.put(session_id, text, agent_id="a")
    kit.open_store().append(session_id, "the tail 🧭", agent_id="b")
    expect(kit.store.get(session_id).content == f"{text}the tail 🧭", "text and tail")


@case
def append_puts_a_blank_line_where_asked(kit: Kit) -> None:
    """With `blank_line` entries are a blank line apart, and the first has none before it."""
    session_id = kit.session()
    for entry in ("one", "two\n", "three"):
        kit.store.append(session_id, entry, agent_id="a", blank_line=True)
    expect_equal(kit.store.get(session_id).content, "one\n\ntwo\n\nthree", "the content")


@case
def append_begins_no_session_that_must_exist(kit: Kit) -> None:
    """With `must_exist`, appending to nothing is an error."""
    session_id = kit.session()
    with expect_error(ContextNotFoundError, session_id):
        kit.store.append(session_id, "text", agent_id="a", must_exist=True)
    expect(not kit.store.exists(session_id), "no session to be begun")


@case
def immutable_session_takes_no_write(kit: Kit) -> None:
    """Once flagged, no version is added in any way, and all can be read."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, "one", agent_id="a")
    store.set_flag(session_id, "immutable", agent_id="a")
    with expect_error(ContextImmutableError, session_id):
        store.put(session_id, "two", agent_id="b")
    with expect_error(ContextImmutableError, session_id):
        store.append(session_id, "two", agent_id="b")
    with expect_error(ContextImmutableError, session_id):
        store.rollback(session_id, "1.0.0", agent_id="b")
    expect_equal(store.get(session_id).content, "one", "the content")
    expect_equal(store.show(session_id).flags, ("immutable",), "the flags")
