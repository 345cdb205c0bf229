"""Cases: whole versions, parts of them, and what is known without reading."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from baton.errors import ContextNotFoundError, InvalidInputError
from baton.settings import DAY_SECONDS, MIB
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error
from baton.testing.texts import long_text

if TYPE_CHECKING:
    from baton.testing.kit import Kit

case = CaseGroup("reading")


@case
def session_that_is_not_there_is_named(kit: Kit) -> None:
    """Whatever is asked of it, the error says which session holds no context."""
    session_id, store = kit.session("nobody"), kit.store
    for ask in (
        store.get,
        store.show,
        store.history,
        store.read_range,
        store.tags,
        store.checkpoints,
        store.conflicts,
        store.resolve_version,
    ):
        with expect_error(ContextNotFoundError, session_id):
            ask(session_id)
    expect(not store.exists(session_id), "no such session")


@case
def session_is_listed_and_shown(kit: Kit) -> None:
    """Sizes, owner, head and expiry are known without the content."""
    session_id, store, text = kit.session(), kit.store, long_text(50_000)
    store.put(session_id, text, agent_id="owner")
    store.put(session_id, f"{text}more", agent_id="other")
    expect(session_id in store.list(), "the session to be listed")
    expect(store.exists(session_id), "the session to exist")
    info = store.show(session_id)
    expect_equal((info.owner, info.version, info.version_count), ("owner", "1.0.1", 2), "the info")
    expect_equal(info.size_bytes, len(f"{text}more".encode()), "size_bytes")
    expect(0 < info.stored_bytes < info.size_bytes, "the text to be compressed")
    expires_in_seconds = info.expires_in_seconds or 0
    expect(127 * DAY_SECONDS < expires_in_seconds <= 128 * DAY_SECONDS, "an expiry in 128 days")


@case
def ranges_that_follow_each_other_lose_and_repeat_nothing(kit: Kit) -> None:
    """Wherever text of several bytes a character is cut, the parts add up to it."""
    session_id, text = kit.session(), long_text(30_000)
    kit.store.put(session_id, text, agent_id="a")
    data = text.encode()
    bounds = [*range(0, len(data), 1_237), len(data) + 5]
    parts = [kit.store.read_range(session_id, start, end) for start, end in pairwise(bounds)]
    expect("".join(part.content for part in parts) == text, "the parts to add up")
    for part in parts:
        expect_equal(part.content.encode(), data[part.start_byte : part.end_byte], "a range")


@case
def range_past_the_end_is_empty(kit: Kit) -> None:
    """Behind the last byte there is nothing, which is no error."""
    session_id = kit.session()
    kit.store.put(session_id, "text", agent_id="a")
    expect_equal(kit.store.read_range(session_id, 100, 200).content, "", "the range")
    expect_equal(kit.store.read_range(session_id, 2).content, "xt", "the range to the end")


@case
def range_with_wrong_bounds_is_refused(kit: Kit) -> None:
    """A negative bound, or an end before the start, is refused by name."""
    session_id = kit.session()
    kit.store.put(session_id, "text", agent_id="a")
    for start, end in ((-1, None), (5, 4), (0, -1)):
        with expect_error(InvalidInputError, "_byte"):
            kit.store.read_range(session_id, start, end)


@case
def range_of_an_old_version_is_of_that_version(kit: Kit) -> None:
    """A range is of the version asked for, not of the head."""
    session_id = kit.session()
    kit.store.put(session_id, "old words", agent_id="a")
    kit.store.put(session_id, "new words", agent_id="a")
    extract = kit.open_store().read_range(session_id, 0, 3, version="1.0.0")
    expect_equal((extract.content, extract.version), ("old", "1.0.0"), "the range")


@case
def chunks_overlap_and_add_up(kit: Kit) -> None:
    """Chunks of at most 1 MiB begin with the end of the one before, and add up to the text."""
    session_id, text = kit.session(), long_text(MIB + 300_000)
    kit.store.put(session_id, text, agent_id="a")
    first = kit.store.read_chunk(session_id, 0)
    chunks = [first, *(kit.store.read_chunk(session_id, n) for n in range(1, first.count))]
    expect_equal([chunk.count for chunk in chunks], [2, 2], "the count of chunks")
    expect(all(len(chunk.content.encode()) <= MIB for chunk in chunks), "at most 1 MiB each")
    expect(1_990 < chunks[1].overlap_bytes <= 2_000, "an overlap of about 500 tokens")
    rebuilt = b"".join(chunk.content.encode()[chunk.overlap_bytes :] for chunk in chunks)
    expect(rebuilt == text.encode(), "the chunks to add up")


@case
def chunk_that_is_not_there_is_refused(kit: Kit) -> None:
    """The error says how many there are; an overlap that would never end is refused too."""
    session_id = kit.session()
    kit.store.put(session_id, "text", agent_id="a")
    with expect_error(InvalidInputError, "0"):
        kit.store.read_chunk(session_id, 1)
    for overlap_tokens in (-1, 300_000):
        with expect_error(InvalidInputError, "overlap_tokens"):
            kit.store.read_chunk(session_id, 0, overlap_tokens=overlap_tokens)
