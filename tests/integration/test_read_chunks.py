"""Chunks of a version, as a model reads a long context, fetched without the rest of it."""

from __future__ import annotations

import random
from contextlib import closing

import pytest

from baton.content.chunking import CHUNK_LIMIT_BYTES
from baton.content.wire_chunks import chunk_ranges
from baton.errors import InvalidInputError
from baton.store.contexts import ContextStore

# No server makes a difference here; scripts and commands are tested on both elsewhere.
pytestmark = pytest.mark.one_redis

OVERLAP_BYTES = 2_000
# Between two chunks' beginnings, where no character is in the way.
STEP_BYTES = CHUNK_LIMIT_BYTES - OVERLAP_BYTES


@pytest.fixture
def store(redis_client):
    with closing(ContextStore(redis_client, compression="none")) as store:
        yield store


def mixed_text(size_bytes, seed=1):
    """Text of characters of one to four bytes, in no order."""
    draw = random.Random(seed)
    letters = "".join(draw.choices("aé€🙂", k=4_096))
    text = letters * (size_bytes // len(letters.encode()) + 1)
    return text.encode()[:size_bytes].decode(errors="ignore")


def ranges_of(text, overlap_bytes=OVERLAP_BYTES):
    return chunk_ranges(text.encode(), CHUNK_LIMIT_BYTES, overlap_bytes)


def sent_bytes(client):
    """All that the server has sent so far."""
    return client.info("stats")["total_net_output_bytes"]


@pytest.mark.parametrize("overlap_tokens", [0, 1, 500, 131_071])
@pytest.mark.parametrize("order", ["forward", "backward"])
def test_chunks_are_those_that_the_protocol_cuts(store, order, overlap_tokens):
    """In whatever order they are read, of text in which characters stand on the cuts."""
    text = mixed_text(5 * CHUNK_LIMIT_BYTES // 2)
    data, ranges = text.encode(), ranges_of(text, overlap_tokens * 4)
    store.put("s", text, agent_id="a")
    indices = range(len(ranges))
    for index in indices if order == "forward" else reversed(indices):
        chunk = store.read_chunk("s", index, overlap_tokens=overlap_tokens)
        assert (chunk.start_byte, chunk.end_byte) == ranges[index]
        assert (chunk.index, chunk.count) == (index, len(ranges))
        assert chunk.content.encode() == data[chunk.start_byte : chunk.end_byte]
        before = ranges[index - 1][1] if index else 0
        assert chunk.overlap_bytes == before - chunk.start_byte


@pytest.mark.parametrize("more_bytes", [*range(-9, 10), STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1])
def test_chunks_are_counted_exactly_where_a_byte_more_makes_one_more(store, more_bytes):
    """Characters on the cuts make chunks shorter, and so may make them more."""
    text = mixed_text(CHUNK_LIMIT_BYTES + STEP_BYTES + more_bytes, seed=more_bytes)
    store.put("s", text, agent_id="a")
    count = len(ranges_of(text))
    assert store.read_chunk("s", 0).count == count
    with pytest.raises(InvalidInputError, match=f"0 to {count - 1}, got {count}"):
        store.read_chunk("s", count)


def test_an_empty_context_is_one_empty_chunk(store):
    store.put("s", "", agent_id="a")
    chunk = store.read_chunk("s", 0)
    assert (chunk.content, chunk.count, chunk.start_byte, chunk.end_byte) == ("", 1, 0, 0)
    with pytest.raises(InvalidInputError, match="0 to 0"):
        store.read_chunk("s", 1)


@pytest.mark.parametrize("index", [-1, True, 1.0, "0"])
def test_what_is_no_number_of_a_chunk_is_refused(store, index):
    store.put("s", "text", agent_id="a")
    with pytest.raises(InvalidInputError, match="index"):
        store.read_chunk("s", index)


def test_a_chunk_is_read_without_the_rest_of_its_context(store, redis_client):
    """What is sent is that chunk, and what stands on the cuts before it; by a fresh reader too."""
    store.put("s", mixed_text(16 * CHUNK_LIMIT_BYTES), agent_id="a")
    for index, most_bytes in ((0, 2.5), (8, 8), (15, 12)):
        with closing(ContextStore(redis_client)) as reader:
            before = sent_bytes(redis_client)
            reader.read_chunk("s", index)
            assert sent_bytes(redis_client) - before < most_bytes * CHUNK_LIMIT_BYTES


def test_a_context_read_chunk_by_chunk_is_sent_about_once(store, redis_client):
    """Where the cuts are is remembered, so no chunk looks for those before it again."""
    text = mixed_text(16 * CHUNK_LIMIT_BYTES)
    store.put("s", text, agent_id="a")
    before = sent_bytes(redis_client)
    for index in range(len(ranges_of(text))):
        store.read_chunk("s", index)
    assert sent_bytes(redis_client) - before < 1.6 * len(text.encode())


def test_chunks_of_versions_are_told_apart(store):
    """What is remembered of one version's cuts is not taken for another's."""
    texts = [mixed_text(3 * CHUNK_LIMIT_BYTES, seed) for seed in (1, 2)]
    for text in texts:
        store.put("s", text, agent_id="a")
    for version, text in zip(("1.0.0", "1.0.1"), texts, strict=True):
        for index, (start, end) in enumerate(ranges_of(text)):
            chunk = store.read_chunk("s", index, version=version)
            assert (chunk.start_byte, chunk.end_byte) == (start, end)
