import base64
import gzip
import json
import tracemalloc

import pytest

from baton.content.digests import compute_version_hash
from baton.content.wire_chunks import (
    assemble_context,
    chunk_context,
    chunk_ranges,
    cut_chunks,
)
from baton.errors import (
    ContextCorruptError,
    ContextTooLargeError,
    InvalidInputError,
    InvalidTextError,
)

MIB = 1_048_576


def plain(chunk):
    return gzip.decompress(base64.b64decode(chunk["content"]))


def encoded(data):
    return base64.b64encode(gzip.compress(data)).decode()


def text_of(size_bytes):
    return "".join(f"{number:07d}\n" for number in range(size_bytes // 8 + 1))[:size_bytes]


@pytest.fixture(scope="module")
def text():
    return text_of(3 * MIB)


@pytest.fixture
def chunks(text):
    return chunk_context(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        text_of(MIB - 1),
        text_of(MIB),
        text_of(MIB + 1),
        text_of(1_046_577),
        text_of(3 * MIB),
        "é" * 600_000,
        "漢" * 400_000,
        "ok\n" * 700_000,
        "a👍" * 500_000,
        "слово 👩‍👩‍👧 " * 370_000,
    ],
    ids=lambda text: f"{text[:4]!r}x{len(text)}",
)
def test_chunk_then_assemble_is_the_identity(text):
    """For the sizes and scripts that broke the protocol's own listing, through JSON."""
    chunks = json.loads(json.dumps(chunk_context(text)))
    assert assemble_context(chunks, content_hash=compute_version_hash(text)) == text


@pytest.mark.parametrize("unit", ["a", "é", "漢", "👍", "aé漢👍"])
@pytest.mark.parametrize("overlap_tokens", [0, 1, 500, MIB // 8])
def test_chunks_have_exact_ranges_and_overlaps(unit, overlap_tokens):
    """Each holds the bytes it says, at most 1 MiB, whole characters, the overlap to 3 bytes."""
    data = (unit * (2_500_000 // len(unit.encode()))).encode()
    end = None
    for number, chunk in enumerate(chunk_context(data.decode(), overlap_tokens=overlap_tokens)):
        start, size_bytes = chunk["offset_bytes"], chunk["size_bytes"]
        assert chunk["chunk_id"] == number
        assert plain(chunk) == data[start : start + size_bytes]
        assert plain(chunk).decode()
        assert size_bytes <= MIB
        assert end is None or 4 * overlap_tokens - 3 <= end - start <= 4 * overlap_tokens
        assert chunk["offset_tokens"] == start // 4
        assert chunk["size_tokens"] == size_bytes // 4
        assert 0 < chunk["compression_ratio"] < 1
        end = start + size_bytes
    assert end == len(data)


def test_an_empty_context_is_one_empty_chunk():
    """With ratio 1."""
    (chunk,) = chunk_context("")
    assert plain(chunk) == b""
    assert (chunk["size_bytes"], chunk["compression_ratio"]) == (0, 1.0)


def test_one_chunk_holds_exactly_its_size():
    """1 MiB is one chunk, a byte more is two; 2 MiB chunks hold twice that."""
    assert len(chunk_context("x" * MIB)) == 1
    assert len(chunk_context("x" * (MIB + 1))) == 2
    assert len(chunk_context("x" * 2 * MIB, chunk_size_mb=2)) == 1


def test_chunking_advances_beneath_the_largest_overlap():
    """With an overlap of half a chunk each still ends later, and they are few."""
    chunks = chunk_context("👍" * MIB + "aé漢", overlap_tokens=MIB // 8)
    assert len(chunks) == 8
    ends = [chunk["offset_bytes"] + chunk["size_bytes"] for chunk in chunks]
    assert ends == sorted(set(ends))
    assert assemble_context(chunks).endswith("👍aé漢")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"overlap_tokens": MIB // 8 + 1}, "overlap_tokens"),
        ({"overlap_tokens": -1}, "overlap_tokens"),
        ({"overlap_tokens": 1.5}, "overlap_tokens"),
        ({"chunk_size_mb": 0}, "chunk_size_mb"),
        ({"chunk_size_mb": True}, "chunk_size_mb"),
        ({"context": b"x"}, "context"),
    ],
)
def test_chunk_context_names_the_wrong_argument(arguments, field):
    """Each is refused before any work."""
    with pytest.raises(InvalidInputError, match=f"^{field}: "):
        chunk_context(**{"context": "x", **arguments})


def test_chunk_context_refuses_lone_surrogates():
    """By the index of the character."""
    with pytest.raises(InvalidTextError, match=r"^context: .* at character 1"):
        chunk_context("a\ud800")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chunk_id", "1"),
        ("offset_bytes", None),
        ("offset_bytes", True),
        ("offset_tokens", -1),
        ("size_bytes", 1.0),
        ("size_tokens", []),
        ("compression_ratio", "half"),
        ("compression_ratio", float("nan")),
        ("content", b"bytes"),
    ],
)
def test_assemble_names_the_wrong_field(chunks, field, value):
    """By its path."""
    chunks[1][field] = value
    with pytest.raises(InvalidInputError, match=rf"^chunks\[1\]\.{field}: "):
        assemble_context(chunks)


def test_assemble_names_the_missing_field(chunks, text):
    """All but the ratio, which the protocol's envelope leaves out, are needed."""
    for chunk in chunks:
        del chunk["compression_ratio"]
    assert assemble_context(chunks) == text
    del chunks[2]["size_bytes"]
    with pytest.raises(InvalidInputError, match=r"^chunks\[2\]\.size_bytes: "):
        assemble_context(chunks)


@pytest.mark.parametrize("value", ["chunks", None, 7, {}])
def test_assemble_refuses_what_is_no_list(value):
    """With the type in the message."""
    with pytest.raises(InvalidInputError, match="chunks: expected a list of chunks"):
        assemble_context(value)


def test_assemble_refuses_what_is_no_chunk(chunks):
    """By its index."""
    with pytest.raises(InvalidInputError, match=r"chunks\[1\]: "):
        assemble_context([chunks[0], "chunk"])


def corrupted(chunks):
    with pytest.raises(ContextCorruptError) as caught:
        assemble_context(chunks)
    return str(caught.value)


def test_assemble_refuses_no_chunks():
    """An empty context has one chunk."""
    assert corrupted([]) == "chunks: none; an empty context has one"


def test_assemble_refuses_missing_repeated_and_reordered_chunks(chunks):
    """Whatever the order is, it must be the right one."""
    assert corrupted(chunks[1:]) == "chunks[0].chunk_id: expected 0, got 1"
    missing = corrupted([chunks[0], *chunks[2:]])
    assert missing == "chunks[1].chunk_id: expected 1, got 2"
    repeated = corrupted([chunks[0], chunks[0], *chunks[1:]])
    assert repeated == "chunks[1].chunk_id: expected 1, got 0"
    assert corrupted(chunks[::-1]).startswith("chunks[0].chunk_id: expected 0, got")


def test_assemble_refuses_renumbered_chunks(chunks):
    """Ranges must begin at 0, leave no gap and go forward, whatever the ids say."""
    late = corrupted([{**chunks[1], "chunk_id": 0}])
    assert late.startswith("chunks[0].offset_bytes: expected at most 0, got")
    gap = [chunks[0], {**chunks[2], "chunk_id": 1}]
    assert corrupted(gap).endswith("bytes are missing before it")
    inside = {"chunk_id": 1, "offset_bytes": 8, "size_bytes": 8, "content": encoded(b"0000001\n")}
    again = corrupted([chunks[0], {**chunks[0], "chunk_id": 1}])
    assert again == "chunks[1].offset_bytes: expected above 0, got 0"
    within = corrupted([chunks[0], {**chunks[0], **inside}])
    assert within == "chunks[1].size_bytes: it ends within the chunk before"


def test_assemble_compares_every_byte_of_the_overlap(chunks):
    """One changed byte at either end of it shows."""
    for position in (0, 1_999):
        data = bytearray(plain(chunks[1]))
        data[position] ^= 1
        changed = [chunks[0], {**chunks[1], "content": encoded(bytes(data))}, *chunks[2:]]
        assert corrupted(changed).startswith("chunks[1].content: its overlap")


def test_assemble_wants_the_declared_sizes(chunks):
    """One byte fewer than the content holds, or one more."""
    for difference in (-1, 1):
        size_bytes = chunks[1]["size_bytes"] + difference
        changed = [chunks[0], {**chunks[1], "size_bytes": size_bytes}, *chunks[2:]]
        assert corrupted(changed).startswith("chunks[1].content: gzip: not the declared")


@pytest.mark.parametrize("content", ["", "a", "a=b=", "ёж", "AAAA", "AAAA\n"])
def test_assemble_refuses_what_is_no_base64_of_gzip(chunks, content):
    """The chunk is named."""
    chunks[1]["content"] = content
    assert corrupted(chunks).startswith("chunks[1].content: ")


def test_assemble_refuses_a_second_member(chunks):
    """Python's own gzip would read both."""
    two = base64.b64encode(base64.b64decode(chunks[0]["content"]) * 2).decode()
    found = corrupted([{**chunks[0], "content": two}])
    assert found == "chunks[0].content: gzip: bytes follow the end"


def test_assemble_refuses_what_is_not_text():
    """A character that the whole does not complete."""
    (chunk,) = chunk_context("xy")
    assert corrupted([{**chunk, "content": encoded(b"x\xd0")}]) == "not UTF-8 at byte 1"


def test_assemble_finds_missing_last_chunks_by_the_hash(chunks, text):
    """Without the hash they do not show."""
    assert text.startswith(assemble_context(chunks[:-1]))
    with pytest.raises(ContextCorruptError, match="last chunks are missing"):
        assemble_context(chunks[:-1], content_hash=compute_version_hash(text))


def test_assemble_takes_any_known_hash(chunks, text):
    """Whatever `compute_version_hash` makes; anything else is invalid input."""
    digest = compute_version_hash(text, "blake2b")
    assert assemble_context(chunks, content_hash=digest) == text
    for wrong in ("md5:00", "", 5):
        with pytest.raises(InvalidInputError, match="content_hash"):
            assemble_context(chunks, content_hash=wrong)


def test_assemble_refuses_bombs_without_allocation():
    """By what it declares, or as soon as it exceeds that."""
    bomb = encoded(bytes(50_000_000))
    (chunk,) = chunk_context("x")
    tracemalloc.start()
    try:
        with pytest.raises(ContextTooLargeError, match=r"^chunks\[0\]\.size_bytes: .* 1000000 "):
            assemble_context(
                [{**chunk, "size_bytes": 50_000_000, "content": bomb}], limit_bytes=1_000_000
            )
        found = corrupted([{**chunk, "size_bytes": 9, "content": bomb}])
        assert found.startswith("chunks[0].content: gzip")
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


def test_assemble_refuses_overlaps_that_multiply_the_content():
    """Else a thousand chunks of one megabyte each would be made of one megabyte of zeros."""
    size_bytes = 8 * MIB
    many = [
        {
            "chunk_id": number,
            "offset_bytes": number,
            "offset_tokens": 0,
            "size_bytes": size_bytes,
            "size_tokens": 0,
            "content": "",
        }
        for number in range(100)
    ]
    with pytest.raises(ContextTooLargeError, match=r"^chunks: expected at most .* in all chunks"):
        assemble_context(many)


@pytest.mark.parametrize("piece_bytes", [1, 1_000, 300_001, 10**9])
@pytest.mark.parametrize("unit", ["a", "漢", "aé漢👍"])
def test_cut_chunks_are_those_of_the_whole(unit, piece_bytes):
    """However a text comes in pieces, its chunks have the ranges of `chunk_ranges`."""
    data = "".join(f"{number}{unit}" for number in range(4_000)).encode()
    pieces = (data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes))
    cut = list(cut_chunks(pieces, limit_bytes=1_000, overlap_bytes=100))
    ranges = chunk_ranges(data, 1_000, 100)
    assert cut == [(start, data[start:end]) for start, end in ranges]
    assert len(cut) > 10


@pytest.mark.parametrize("pieces", [[], [b""], [b"", b"x", b""]])
def test_cut_chunks_of_little_are_one(pieces):
    """An empty context is one empty chunk here too."""
    assert list(cut_chunks(pieces)) == [(0, b"".join(pieces))]
