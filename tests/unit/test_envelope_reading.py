import base64
import copy
import io
import itertools
import json
import tracemalloc

import pytest

from baton.content.compression import compress
from baton.content.wire_chunks import chunk_context
from baton.envelope.reading import read_envelope
from baton.errors import (
    BatonError,
    ContextCorruptError,
    ContextTooLargeError,
    InvalidIdError,
    InvalidInputError,
    UnsupportedFormatError,
)
from envelopes import (
    AMPLE_BYTES,
    MIB,
    document_of,
    encoded,
    full_header_of,
    header_of,
    numbered_text,
    tampered,
    written,
)

TEXT = "начало " + numbered_text(3 * MIB) + " конец 👍"
DATA = TEXT.encode()
SMALL = "naïve café ☕\n"
SMALL_DATA = SMALL.encode()
WRONG_VALUES = (None, True, -1, 1.5, 10**4_000, "\x00", "x", [], ["x"], {}, {"x": 1}, object())


@pytest.fixture(scope="module")
def document():
    return document_of(DATA)


@pytest.fixture(scope="module")
def small():
    return document_of(SMALL_DATA)


def read(source, limit_bytes=AMPLE_BYTES):
    return read_envelope(source, limit_bytes=limit_bytes)


def refusal(source, kind=BatonError, limit_bytes=AMPLE_BYTES):
    with pytest.raises(kind) as caught:
        read(source, limit_bytes)
    return caught.value


def path_of(error):
    return str(error).partition(": ")[0]


@pytest.mark.parametrize("compression", ["gzip", "brotli", "none"])
@pytest.mark.parametrize(
    "form", [bytes, bytes.decode, io.BytesIO, json.loads], ids=("bytes", "str", "file", "parsed")
)
def test_an_envelope_reads_back_from_any_source(compression, form):
    """Header and text, from bytes, text, a file and a parsed document."""
    header = full_header_of(DATA)
    content = read(form(written(header, DATA, compression)))
    assert content.text == TEXT
    assert content.header == header
    assert SMALL not in repr(content)


def test_the_protocols_own_example_reads():
    """The JSON of its section 2, with a content in the place of its ellipses."""
    envelope = tampered(document_of(SMALL_DATA), ("agent_role",), "sonnet_coordinator")
    example = envelope["context_envelope"]
    example["metadata"] = {
        "model": "claude-sonnet-4.5", "temperature": 1.0, "max_tokens": 200000, "top_p": 0.95,
    }  # fmt: skip
    assert read(json.dumps(envelope, indent=2)).text == SMALL


@pytest.mark.parametrize(
    "name",
    [
        "content_compression",
        "metadata",
        "checkpoints",
        "dependencies",
        "flags",
        "schema_id",
        "agent_role",
    ],
)
def test_optional_fields_may_be_absent(small, name):
    """Without `content_compression`, gzip shows by its first bytes."""
    assert read(tampered(small, (name,), ...)).text == SMALL


@pytest.mark.parametrize("codec", ["gzip", "none"])
def test_an_absent_compression_is_gzip_or_none(document, codec):
    """No UTF-8 has gzip's first bytes; anything else, brotli included, must be named."""
    bare = tampered(document_of(DATA, codec), ("content_compression",), ...)
    assert read(bare).text == TEXT
    unnamed = tampered(document_of(DATA, "brotli"), ("content_compression",), ...)
    assert isinstance(refusal(unnamed), ContextCorruptError)


def test_chunks_as_the_protocol_makes_them_read(small):
    """`chunk_context` adds a compression ratio."""
    chunks = chunk_context(SMALL)
    assert "compression_ratio" in chunks[0]
    assert read(tampered(small, ("chunks",), chunks)).text == SMALL


def test_an_empty_content_may_have_one_empty_chunk_or_none():
    """Both are whole."""
    empty = document_of(b"")
    assert read(empty).text == ""
    none = tampered(tampered(empty, ("chunks",), []), ("chunk_count",), 0)
    assert read(none).text == ""
    assert read(tampered(none, ("chunks",), ...)).text == ""


def test_members_may_come_in_any_order(document):
    """Chunks before the header too."""
    members = reversed(document["context_envelope"].items())
    assert read(json.dumps({"context_envelope": dict(members)})).text == TEXT


def test_chunks_of_another_writer_may_split_characters():
    """The protocol cuts bytes: only the whole need be text, and checkpoints stand in the whole."""
    data = "жжж".encode()
    envelope = document_of(data)
    content = envelope["context_envelope"]
    content["chunks"] = [
        {
            "chunk_id": number,
            "offset_bytes": start,
            "offset_tokens": 0,
            "size_bytes": end - start,
            "size_tokens": 1,
            "content": encoded(data[start:end], "gzip"),
        }
        for number, (start, end) in enumerate([(0, 3), (3, 6)])
    ]
    content["chunk_count"] = 2
    assert read(envelope).text == "жжж"
    inside = tampered(envelope, ("checkpoints", 0, "byte_position"), 3)
    error = refusal(inside, ContextCorruptError)
    assert path_of(error) == "context_envelope.checkpoints[0].byte_position"


def test_a_checkpoint_counts_bytes():
    """Of the UTF-8: from there on stands what was written behind it."""
    text = "naïve café ☕ " * 3 + "CHECKPOINT rest"
    data = text.encode()
    position = data.index(b"CHECKPOINT")
    document = tampered(document_of(data), ("checkpoints", 0, "byte_position"), position)
    content = read(document)
    (checkpoint,) = content.header.checkpoints
    assert content.text.encode()[checkpoint.byte_position :] == b"CHECKPOINT rest"
    for inside in (position - 2, position - 3):
        wrong = tampered(document, ("checkpoints", 0, "byte_position"), inside)
        error = refusal(wrong, ContextCorruptError)
        assert path_of(error) == "context_envelope.checkpoints[0].byte_position"


@pytest.mark.parametrize("version", ["1.0.1", "1.0.17"])
def test_corrections_of_the_protocol_are_read(small, version):
    """1.0.x."""
    assert read(tampered(small, ("version",), version)).header.version == version


@pytest.mark.parametrize("version", ["1.1.0", "2.0.0", "0.1.0"])
def test_an_unknown_version_is_refused_as_such(small, version):
    """Whatever new fields it has, and without reading on."""
    changed = tampered(tampered(small, ("version",), version), ("shards",), [])
    for source in (changed, json.dumps(changed)):
        refusal(source, UnsupportedFormatError)
    cut_short = json.dumps(changed).partition('"chunks"')[0]
    refusal(cut_short, UnsupportedFormatError)


TAMPERINGS = {
    "hash": (("content_hash",), f"sha256:{'0' * 64}", "content_hash"),
    "size": (("content_size_bytes",), len(DATA) + 1, "content_size_bytes"),
    "tokens": (("content_size_tokens",), len(DATA) // 4 + 13, "chunks[3].size_tokens"),
    "fewer tokens": (("content_size_tokens",), len(DATA) // 4 - 13, "chunks[3].size_tokens"),
    "count": (("chunk_count",), 3, "chunk_count"),
    "count 0": (("chunk_count",), 0, "chunk_count"),
    "no chunks": (("chunks",), [], "chunk_count"),
    "chunks absent": (("chunks",), ..., "chunk_count"),
    "missing chunk": (("chunks", 1), ..., "chunk_count"),
    "last chunk missing": (("chunks", 3), ..., "chunk_count"),
    "id": (("chunks", 2, "chunk_id"), 3, "chunks[2].chunk_id"),
    "gap": (("chunks", 2, "offset_bytes"), 2 * MIB, "chunks[2].offset_bytes"),
    "back": (("chunks", 2, "offset_bytes"), 0, "chunks[2].offset_bytes"),
    "late begin": (("chunks", 0, "offset_bytes"), 1, "chunks[0].offset_bytes"),
    "moved by one": (("chunks", 2, "offset_bytes"), 2 * (MIB - 2_000) + 1, "chunks[2].content"),
    "short": (("chunks", 1, "size_bytes"), 1, "chunks[1].size_bytes"),
    "smaller by one": (("chunks", 1, "size_bytes"), MIB - 1, "chunks[1].content"),
    "token offset": (("chunks", 1, "offset_tokens"), MIB, "chunks[1].offset_tokens"),
    "token back": (("chunks", 2, "offset_tokens"), 5, "chunks[2].offset_tokens"),
    "token begin": (("chunks", 0, "offset_tokens"), 1, "chunks[0].offset_tokens"),
    "token size": (("chunks", 1, "size_tokens"), MIB, "chunks[1].size_tokens"),
    "not base64": (("chunks", 1, "content"), "not base64!", "chunks[1].content"),
    "cut base64": (("chunks", 1, "content"), "AAA", "chunks[1].content"),
    "no content": (("chunks", 1, "content"), "", "chunks[1].content"),
    "not gzip": (("chunks", 1, "content"), "AAAA", "chunks[1].content"),
    "other codec": (("content_compression",), "brotli", "chunks[0].content"),
    "no codec": (("content_compression",), "none", "chunks[0].content"),
    "checkpoint": (("checkpoints", 0, "byte_position"), 1, "checkpoints[0].byte_position"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_fields_that_do_not_fit_are_found(document, kind):
    """Well formed each, but not with each other or the bytes: corrupt, by the field's path."""
    place, value, path = TAMPERINGS[kind]
    changed = tampered(document, place, value)
    for source in (changed, json.dumps(changed)):
        assert path_of(refusal(source, ContextCorruptError)) == f"context_envelope.{path}"


def with_chunks(document, chunks):
    changed = tampered(document, ("chunks",), chunks)
    return tampered(changed, ("chunk_count",), len(chunks))


@pytest.mark.parametrize("renumbered", [False, True])
def test_missing_repeated_and_reordered_chunks_are_found(document, renumbered):
    """Any order but the right one; also where the ids and the count were made to fit."""
    chunks = document["context_envelope"]["chunks"]
    wrong = [
        order
        for length in range(1, 5)
        for order in itertools.permutations(range(4), length)
        if order != (0, 1, 2, 3)
    ]
    for order in [*wrong, (0, 1, 1, 2, 3), (0, 1, 2, 3, 3)]:
        chosen = [copy.copy(chunks[index]) for index in order]
        if renumbered:
            chosen = [{**chunk, "chunk_id": index} for index, chunk in enumerate(chosen)]
        refusal(with_chunks(document, chosen), ContextCorruptError)


def test_a_chunk_of_another_envelope_is_found(document):
    """Its ranges fit, its overlap or the hash does not."""
    other = document_of(TEXT.replace("7", "8").encode())["context_envelope"]["chunks"]
    for index in range(4):
        refusal(tampered(document, ("chunks", index), other[index]), ContextCorruptError)


@pytest.mark.parametrize("codec", ["gzip", "brotli", "none"])
def test_every_byte_of_the_overlap_is_compared(codec):
    """At both ends of it; the message names the chunk."""
    document = document_of(DATA, codec)
    chunk = document["context_envelope"]["chunks"][1]
    start, end = chunk["offset_bytes"], chunk["offset_bytes"] + chunk["size_bytes"]
    for position in (0, 1_999):
        plain = bytearray(DATA[start:end])
        plain[position] ^= 1
        changed = tampered(document, ("chunks", 1, "content"), encoded(bytes(plain), codec))
        error = refusal(changed, ContextCorruptError)
        assert str(error).startswith("context_envelope.chunks[1].content: its overlap")


@pytest.mark.parametrize("codec", ["gzip", "brotli", "none"])
def test_a_changed_byte_behind_the_overlap_shows_in_the_hash(codec):
    """Whatever sum the codec has was made to fit."""
    document = document_of(SMALL_DATA, codec)
    content = encoded(SMALL_DATA.replace(b"c", b"d"), codec)
    error = refusal(tampered(document, ("chunks", 0, "content"), content), ContextCorruptError)
    assert path_of(error) == "context_envelope.content_hash"


def test_what_is_not_text_is_refused():
    """By the first wrong byte, in the second chunk or at an unfinished end."""
    for data, place in ((b"x" * MIB + b"\xff" + b"x" * 9, MIB), (b"x\xd0", 1)):
        document = document_of(b"x" * len(data))
        content = document["context_envelope"]
        content["content_hash"] = header_of(data).content_hash
        for chunk in content["chunks"]:
            start = chunk["offset_bytes"]
            chunk["content"] = encoded(data[start : start + chunk["size_bytes"]], "gzip")
        error = refusal(document, ContextCorruptError)
        assert str(error).startswith("context_envelope.chunks: not UTF-8 at byte ")
        assert int(str(error).split()[-1]) in {place, place + 1}


@pytest.mark.parametrize("codec", ["gzip", "brotli"])
@pytest.mark.parametrize("tail", ["junk", "again"])
def test_bytes_behind_the_end_of_a_chunk_are_refused(codec, tail):
    """A second member or stream too."""
    document = document_of(SMALL_DATA, codec)
    stored = compress(SMALL_DATA, codec)
    stored += stored if tail == "again" else b"junk"
    content = base64.b64encode(stored).decode()
    error = refusal(tampered(document, ("chunks", 0, "content"), content), ContextCorruptError)
    assert "bytes follow the end" in str(error)


@pytest.mark.parametrize(
    ("place", "value", "path"),
    [
        (("session_id",), "a:audit", "session_id"),
        (("agent_id",), "../x", "agent_id"),
        (("agent_role",), "a b", "agent_role"),
        (("dependencies", 0, "session_id"), "a\nb", "dependencies[0].session_id"),
        (("dependencies", 0, "agent_id"), "", "dependencies[0].agent_id"),
        (("checkpoints", 0, "checkpoint_id"), "{}", "checkpoints[0].checkpoint_id"),
    ],
)
def test_ids_are_checked_wherever_they_stand(small, place, value, path):
    """None comes near a key."""
    error = refusal(tampered(small, place, value), InvalidIdError)
    assert error.field == f"context_envelope.{path}"


@pytest.mark.parametrize(
    "place",
    [
        ("new",),
        ("flags", "new"),
        ("chunks", 0, "new"),
        ("checkpoints", 0, "new"),
        ("dependencies", 0, "new"),
        ("metadata", "baton", "new"),
    ],
    ids=str,
)
def test_unknown_fields_are_refused_by_path(small, place):
    """Everywhere but in `metadata`."""
    error = refusal(tampered(small, place, 1), InvalidInputError)
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    assert error.field == f"context_envelope{steps}"
    assert error.expected == "no such field"


def test_an_unknown_field_is_refused_without_reading_on():
    """A million of them cost no more than one."""
    version = '{"context_envelope": {"version": "1.0.0", "new": 1, '
    assert refusal(version, InvalidInputError).field == "context_envelope.new"


def every_place(value, place=()):
    """The path of each value below `value`."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for step, part in parts:
        yield (*place, step)
        if isinstance(part, dict | list):
            yield from every_place(part, (*place, step))


def may_be_null(place):
    optional = {"schema_id", "agent_role", "content_compression"}
    return place[-1] in optional or (place[0] == "metadata" and len(place) in {2, 3})


def is_open(place):
    return place[:2] == ("metadata", "purpose")


def kind_of(value):
    return "number" if type(value) in {int, float} else type(value).__name__


def test_a_value_of_another_kind_is_refused_anywhere(small):
    """Each value of an envelope turned into each other kind: a typed error, with its path."""
    tried = 0
    for place in every_place(small["context_envelope"]):
        original = small["context_envelope"]
        for step in place:
            original = original[step]
        for wrong in WRONG_VALUES:
            if kind_of(wrong) == kind_of(original) or is_open(place):
                continue
            if wrong is None and may_be_null(place):
                continue
            if place in {("metadata",), ("flags",), ("metadata", "baton")} and wrong == {}:
                continue
            error = refusal(tampered(small, place, wrong))
            assert path_of(error).startswith("context_envelope"), (place, wrong)
            tried += 1
    assert tried > 300


def test_a_value_taken_away_is_refused_where_it_is_required(small):
    """All but the optional fields, metadata and flags."""
    optional = {
        "schema_id",
        "agent_role",
        "content_compression",
        "metadata",
        "checkpoints",
        "dependencies",
        "flags",
    }
    for place in every_place(small["context_envelope"]):
        changed = tampered(small, place, ...)
        if place[0] in {"metadata", "flags"} or place[-1] in optional or place[-1] == 0:
            continue
        refusal(changed)


@pytest.mark.parametrize("codec", ["gzip", "brotli", "none"])
def test_what_declares_more_than_the_limit_is_not_decompressed(codec):
    """Nor, as a stream, read: the header comes first."""
    data = b"x" * (4 * MIB)
    source = io.BytesIO(written(header_of(data), data, codec))
    error = refusal(source, ContextTooLargeError, limit_bytes=4 * MIB - 1)
    assert error.field == "context_envelope.content_size_bytes"
    assert source.tell() <= 262_144
    assert read(io.BytesIO(source.getvalue()), limit_bytes=4 * MIB).text == data.decode()


@pytest.mark.parametrize("codec", ["gzip", "brotli", "none"])
def test_bombs_are_refused_without_allocation(codec):
    """50 MB behind a declared few bytes; and 50 MB that are declared, above the limit."""
    bomb = encoded(bytes(50_000_000 if codec != "none" else 200_000), codec)
    lying = tampered(document_of(SMALL_DATA, codec), ("chunks", 0, "content"), bomb)
    honest = tampered(lying, ("chunks", 0, "size_bytes"), 50_000_000)
    claimed = tampered(lying, ("content_size_bytes",), 50_000_000)
    tracemalloc.start()
    try:
        error = refusal(lying, ContextCorruptError, limit_bytes=1_000_000)
        assert path_of(error) == "context_envelope.chunks[0].content"
        for larger in (honest, claimed):
            refusal(larger, ContextTooLargeError, limit_bytes=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", ["gzip", "brotli"])
def test_overlaps_do_not_multiply_a_bomb(codec):
    """A hundred chunks of the same eight megabytes, each a byte further on."""
    size_bytes, count = 8 * MIB, 100
    content = encoded(bytes(size_bytes), codec)
    data = bytes(size_bytes + count - 1)
    document = document_of(b"", codec)
    envelope = document["context_envelope"]
    envelope.update(
        header_of(data).model_dump(mode="json", include={"content_hash", "content_size_bytes"})
    )
    chunks = [
        {
            "chunk_id": number,
            "offset_bytes": number,
            "offset_tokens": 0,
            "size_bytes": size_bytes,
            "size_tokens": 0,
            "content": content,
        }
        for number in range(count)
    ]
    error = refusal(with_chunks(document, chunks), ContextTooLargeError)
    assert error.field == "context_envelope.chunks"


def test_a_document_larger_than_its_content_could_make_it_is_refused():
    """As a stream it is not read to its end."""
    endless = itertools.chain(
        [b'{"context_envelope": {"metadata": {"x": "'], itertools.repeat(b"x" * MIB)
    )

    class Endless(io.RawIOBase):
        def read(self, size=-1):
            return next(endless)

    error = refusal(Endless(), ContextTooLargeError, limit_bytes=1_000)
    assert error.field == "envelope"


def test_reading_holds_little_more_than_the_text():
    """A file of 43 MiB that holds 32: the text twice for a moment, and a chunk."""
    data = numbered_text(32 * MIB).encode()
    source = io.BytesIO(written(header_of(data), data, "none"))
    size_bytes = len(data)
    del data
    tracemalloc.start()
    try:
        assert len(read(source).text) == size_bytes
        assert tracemalloc.get_traced_memory()[1] < 2.5 * size_bytes
    finally:
        tracemalloc.stop()


HOSTILE_TEXTS = {
    "empty": "",
    "cut": "{",
    "null": "null",
    "list": "[]",
    "number": "5",
    "no envelope": "{}",
    "not an object": '{"context_envelope": 5}',
    "a list in it": '{"context_envelope": []}',
    "another member": '{"context_envelope": {}, "x": 1}',
    "mark": "\ufeff{}",
    "deep": "[" * 100_000,
    "deep inside": '{"context_envelope": {"metadata": ' + "[" * 100_000,
    "many keys": '{"context_envelope": {' + ",".join(f'"k{n}": 1' for n in range(300_000)) + "}}",
    "trailing comma": '{"context_envelope": {"version": "1.0.0",}}',
}


@pytest.mark.parametrize("kind", HOSTILE_TEXTS)
def test_what_is_no_envelope_is_refused(kind):
    """With a typed error, as text and as bytes."""
    for source in (HOSTILE_TEXTS[kind], HOSTILE_TEXTS[kind].encode()):
        refusal(source, InvalidInputError)


REPLACEMENTS = {
    "nan": ("1.0,", "NaN,"),
    "infinity": ("1.0,", "-Infinity,"),
    "past doubles": ("1.0,", "1e999,"),
    "digits": ("1.0,", "1" * 5_000 + ","),
    "leading zero": ("1.0,", "01,"),
    "comment": ("1.0,", "1.0, // note\n"),
    "quotes": ('"temperature"', "'temperature'"),
    "surrogate": ('"anything"', '"\\ud800"'),
    "surrogate in a label": ('"label": "', '"label": "\\udfff'),
    "control character": ('"anything"', '"a\nb"'),
    "key twice": ('"temperature": 1.0', '"temperature": 1.0, "temperature": 1.0'),
    "field twice": ('"chunk_count": 1', '"chunk_count": 1, "chunk_count": 1'),
    "chunks twice": ('"chunk_count": 1', '"chunk_count": 1, "chunks": []'),
    "behind": ('"chunk_count": 1}}', '"chunk_count": 1}} {}'),
    "unfinished": ('"chunk_count": 1}}', '"chunk_count": 1}'),
    "101 levels": ('"anything"', "[" * 99 + "]" * 99),
}  # fmt: skip


@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_json_that_two_readers_could_read_differently_is_refused(small, kind):
    """Or that is none at all."""
    before, after = REPLACEMENTS[kind]
    text = json.dumps(small)
    assert before in text
    refusal(text.replace(before, after), InvalidInputError)


@pytest.mark.parametrize(
    "source",
    [None, 5, bytearray(b"{}"), io.StringIO("{}"), ["{}"]],
    ids=("none", "number", "bytearray", "text file", "list"),
)
def test_what_is_no_source_is_refused(source):
    """With the type in the message."""
    assert refusal(source, InvalidInputError).field == "envelope"


def test_bytes_that_are_no_utf8_are_refused(small):
    """Wherever they stand."""
    text = json.dumps(small, ensure_ascii=False).encode()
    for data in (text.replace("П".encode(), b"\xff"), text[:-1] + b"\xd0"):
        assert "UTF-8" in str(refusal(data, InvalidInputError))


@pytest.mark.parametrize("key", [None, 5, ("x",), "a\nb", "\ud800"], ids=repr)
def test_keys_that_are_no_names_are_refused(small, key):
    """In a parsed document, which need not have come from JSON."""
    for document in (
        {**small, key: 1},
        {"context_envelope": {**small["context_envelope"], key: 1}},
        tampered(small, ("chunks", 0, key), 1),
        tampered(small, ("metadata", key), 1)
        if not isinstance(key, str) or key == "\ud800"
        else {},
    ):
        assert "\n" not in str(refusal(document, InvalidInputError))
