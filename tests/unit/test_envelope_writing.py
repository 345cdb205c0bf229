import base64
import gzip
import json
import tracemalloc

import brotli
import pytest

from baton.content.wire_chunks import assemble_context, chunk_context
from baton.envelope.reading import read_envelope
from baton.envelope.writing import write_envelope
from baton.errors import ContextCorruptError, ContextTooLargeError, InvalidInputError
from envelopes import AMPLE_BYTES, INSTANT, MIB, full_header_of, header_of, numbered_text, written

DATA = "naïve café ☕\n".encode() * 100
DECODERS = {"gzip": gzip.decompress, "brotli": brotli.decompress, "none": bytes}


def envelope_of(header, data, compression="gzip"):
    return json.loads(written(header, data, compression))["context_envelope"]


def test_an_envelope_has_every_field_of_the_protocol():
    """Those of its section 2, in JSON, and none of ours beside them."""
    envelope = envelope_of(full_header_of(DATA), DATA)
    assert set(envelope) == {
        "version", "schema_id", "session_id", "agent_id", "agent_role", "created_at", "updated_at",
        "content_hash", "content_compression", "content_size_bytes", "content_size_tokens",
        "chunk_count", "chunks", "metadata", "checkpoints", "dependencies", "flags",
    }  # fmt: skip
    assert set(envelope["chunks"][0]) == {
        "chunk_id", "offset_bytes", "offset_tokens", "size_bytes", "size_tokens", "content",
    }  # fmt: skip
    assert envelope["version"] == "1.0.0"
    assert envelope["created_at"] == INSTANT
    assert envelope["metadata"]["purpose"] == {"of": ["anything", None, 1.5]}
    assert envelope["metadata"]["baton"]["context_version"] == "1.4.2"
    assert envelope["flags"] == {
        "immutable": True, "sensitive": True, "encrypted": False, "archived": False,
    }  # fmt: skip


def test_metadata_is_written_as_it_was_given():
    """Nulls too, and nothing that was not."""
    given = {"model": None, "run": None, "deep": {"x": None}}
    assert envelope_of(header_of(DATA, metadata=given), DATA)["metadata"] == given


@pytest.mark.parametrize("compression", ["gzip", "brotli", "none"])
def test_content_is_base64_of_what_any_decoder_reads(compression):
    """`none` included: always Base64, so that a reader need not guess."""
    envelope = envelope_of(header_of(DATA), DATA, compression)
    assert envelope["content_compression"] == compression
    (chunk,) = envelope["chunks"]
    assert DECODERS[compression](base64.b64decode(chunk["content"])) == DATA


def test_chunks_are_those_of_chunk_context():
    """The same ranges; and with the protocol's estimate of tokens, the same tokens to one."""
    text = numbered_text(3 * MIB) + "é漢👍"
    data = text.encode()
    chunks = envelope_of(header_of(data), data)["chunks"]
    expected = chunk_context(text)
    assert len(chunks) == len(expected) == 4
    for chunk, other in zip(chunks, expected, strict=True):
        for name in ("chunk_id", "offset_bytes", "size_bytes"):
            assert chunk[name] == other[name]
        assert abs(chunk["offset_tokens"] - other["offset_tokens"]) <= 1
        assert abs(chunk["size_tokens"] - other["size_tokens"]) <= 1
    assert assemble_context(chunks) == text


def test_tokens_of_chunks_are_shares_of_the_whole():
    """A count by a real tokenizer is spread over the chunks, which end where it does."""
    data = numbered_text(3 * MIB).encode()
    chunks = envelope_of(header_of(data, content_size_tokens=1_000_003), data)["chunks"]
    assert chunks[0]["offset_tokens"] == 0
    assert chunks[-1]["offset_tokens"] + chunks[-1]["size_tokens"] == 1_000_003
    assert chunks[1]["offset_tokens"] == chunks[1]["offset_bytes"] * 1_000_003 // len(data)


@pytest.mark.parametrize(
    ("size_bytes", "count"), [(0, 1), (1, 1), (MIB - 1, 1), (MIB, 1), (MIB + 1, 2)]
)
def test_small_contexts_are_one_chunk(size_bytes, count):
    """An empty one is one empty chunk, and exactly 1 MiB is one too."""
    data = b"x" * size_bytes
    envelope = envelope_of(header_of(data), data)
    assert envelope["chunk_count"] == len(envelope["chunks"]) == count


@pytest.mark.parametrize("piece_bytes", [1_000, 300_001, 10 * MIB])
def test_pieces_may_be_cut_anywhere(piece_bytes):
    """They add up to the same envelope."""
    data = (numbered_text(MIB) + "é漢👍" * 50_000).encode()
    pieces = (data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes))
    assert written(header_of(data), pieces) == written(header_of(data), data)


def test_an_unknown_compression_is_refused_at_once():
    """Before anything is yielded; zstd is not the protocol's."""
    with pytest.raises(InvalidInputError, match="compression: expected one of gzip, brotli, none"):
        write_envelope(header_of(DATA), DATA, compression="zstd")


@pytest.mark.parametrize(
    ("data", "trouble"),
    [
        (DATA[:-1], "content_size_bytes: expected 1700, got 1699"),
        (DATA + b"x", "content_size_bytes: expected 1700, got 1701"),
        (DATA[:-1] + b"x", "content_hash: the content has another"),
    ],
)
def test_a_content_that_is_not_the_headers_is_never_whole(data, trouble):
    """The document ends in an error before its JSON ends."""
    parts = []
    with pytest.raises(ContextCorruptError, match=f"^{trouble}$"):
        parts.extend(write_envelope(header_of(DATA), data))
    assert not b"".join(parts).endswith(b"}\n")


def test_only_text_is_written():
    """A reader would refuse it."""
    data = b"x\xd0"
    with pytest.raises(ContextCorruptError, match="not UTF-8 at byte 1"):
        written(header_of(data), data)


def test_only_checkpoints_at_characters_are_written():
    """In whichever chunk they are."""
    data = (numbered_text(2 * MIB) + "é").encode()
    place = {"checkpoint_id": "cp", "token_position": 0, "label": "", "timestamp": INSTANT}
    for position in (0, MIB, len(data) - 2, len(data)):
        written(header_of(data, checkpoints=[{**place, "byte_position": position}]), data)
    inside = header_of(data, checkpoints=[{**place, "byte_position": len(data) - 1}])
    with pytest.raises(ContextCorruptError, match=r"^checkpoints\[0\]\.byte_position: .* inside a"):
        written(inside, data)


@pytest.mark.parametrize(
    ("metadata", "trouble"),
    [
        ({"x": "y" * (16 * MIB)}, "metadata: expected at most 16777216 characters"),
        ({"x": [0] * 300_000}, "header: expected at most 250000 values"),
    ],
    ids=["long", "many"],
)
def test_a_header_that_no_reader_takes_is_not_written(metadata, trouble):
    """The limits are the reader's."""
    with pytest.raises(ContextTooLargeError, match=f"^{trouble}"):
        written(header_of(DATA, metadata=metadata), DATA)


def test_the_largest_number_of_checkpoints_is_written_and_read():
    """The limits on values leave room for it."""
    data = numbered_text(80_000).encode()
    places = [
        {
            "checkpoint_id": f"cp_{number}",
            "token_position": number,
            "byte_position": 4 * number,
            "label": "step, done",
            "timestamp": INSTANT,
        }
        for number in range(10_000)
    ]
    header = header_of(data, checkpoints=places)
    assert read_envelope(written(header, data), limit_bytes=AMPLE_BYTES).header == header
    with pytest.raises(InvalidInputError, match=r"^checkpoints: "):
        header_of(data, checkpoints=[*places, {**places[0], "checkpoint_id": "more"}])


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_writing_holds_a_few_chunks(compression):
    """32 MiB of text that hardly compresses: besides itself, less than 24 MiB, however long."""
    data = base64.b85encode(numbered_text(8 * MIB).encode()) * 3
    data += b"." * (32 * MIB - len(data))
    header = header_of(data)
    tracemalloc.start()
    try:
        for part in write_envelope(header, data, compression=compression):
            assert len(part) < 2 * MIB
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 24 * MIB < len(data)
