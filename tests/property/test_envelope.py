"""What holds of any text in any envelope, and of anything that claims to be one."""

import copy
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from baton.content.compression import compress, decompress
from baton.envelope.reading import read_envelope
from baton.errors import BatonError, ContextCorruptError
from envelopes import AMPLE_BYTES, MIB, document_of, full_header_of, header_of, written

unhurried = settings(deadline=None)

codecs = st.sampled_from(["gzip", "brotli", "none"])
lines = st.lists(
    st.one_of(st.text(), st.sampled_from(["ok\n", "слово ", "👩‍👩‍👧", "漢字", "a", "\r\n"])),
    min_size=1,
    max_size=8,
).map("".join)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=9),
    lambda parts: (
        st.lists(parts, max_size=4) | st.dictionaries(st.text(max_size=5), parts, max_size=4)
    ),
    max_leaves=8,
)
SMALL = document_of("naïve café ☕\n".encode())


@unhurried
@given(st.text(), codecs)
@example("", "gzip")
@example("👩‍👩‍👧\x00\ufeff\r\n", "brotli")
def test_any_text_reads_back(text, compression):
    """With its header, whatever the compression."""
    data = text.encode()
    header = header_of(data)
    content = read_envelope(written(header, data, compression), limit_bytes=len(data))
    assert (content.header, content.text) == (header, text)


@settings(deadline=None, max_examples=25)
@given(lines.filter(bool), st.integers(-3, 3), codecs)
def test_any_text_about_the_size_of_chunks_reads_back(unit, beyond, compression):
    """Its cuts fall anywhere in its characters."""
    text = unit * (MIB // len(unit.encode()) + beyond + 3)
    data = text.encode()
    header = full_header_of(data) if text[:4].isascii() else header_of(data)
    content = read_envelope(written(header, data, compression), limit_bytes=len(data))
    assert (content.header, content.text) == (header, text)


@pytest.mark.parametrize("compression", ["gzip", "brotli", "none"])
@pytest.mark.parametrize("unit", ["x", "é", "漢", "👍", "ok\n"])
@pytest.mark.parametrize("size_bytes", [0, MIB - 1, MIB, MIB + 1, 1_046_577, 3 * MIB])
def test_texts_at_the_limits_of_chunks_read_back(size_bytes, unit, compression):
    """Sizes and scripts that broke the protocol's own listing."""
    size = len(unit.encode())
    text = unit * (size_bytes // size) + "." * (size_bytes % size)
    data = text.encode()
    assert len(data) == size_bytes
    content = read_envelope(written(header_of(data), data, compression), limit_bytes=size_bytes)
    assert content.text == text


def places(value, place=()):
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for step, part in parts:
        yield (*place, step)
        if isinstance(part, dict | list):
            yield from places(part, (*place, step))


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(list(places(SMALL))), json_values)
def test_a_changed_envelope_holds_the_same_or_is_refused(place, value):
    """Any value at any place: the text is as it was, or there is a typed error."""
    changed = copy.deepcopy(SMALL)
    target = changed
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    for source in (changed, json.dumps(changed)):
        try:
            content = read_envelope(source, limit_bytes=AMPLE_BYTES)
        except BatonError:
            continue
        assert content.text == "naïve café ☕\n"
        again = written(content.header, content.text.encode())
        assert read_envelope(again, limit_bytes=AMPLE_BYTES) == content


@settings(deadline=None, max_examples=500)
@given(st.data())
def test_a_changed_byte_of_the_document_holds_the_same_or_is_refused(data):
    """Damage in transport never makes another text."""
    text = bytearray(json.dumps(SMALL).encode())
    text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        content = read_envelope(bytes(text), limit_bytes=AMPLE_BYTES)
    except BatonError:
        return
    assert content.text == "naïve café ☕\n"


@unhurried
@given(st.binary(max_size=300) | st.text(st.characters(), max_size=300))
def test_garbage_is_refused(source):
    """With a typed error."""
    with pytest.raises(BatonError):
        read_envelope(source, limit_bytes=AMPLE_BYTES)


@unhurried
@given(st.binary(max_size=3_000), st.integers(0, 100_000))
def test_brotli_gives_the_declared_size_or_refuses(garbage, size_bytes):
    """Garbage never gets through as anything else."""
    try:
        plain = decompress(garbage, "brotli", size_bytes)
    except ContextCorruptError:
        return
    assert len(plain) == size_bytes


@unhurried
@given(st.binary(max_size=3_000), st.data())
def test_a_cut_or_longer_brotli_stream_is_refused(plain, data):
    """Any prefix, and anything behind it."""
    stored = compress(plain, "brotli")
    cut = stored[: data.draw(st.integers(0, len(stored) - 1))]
    longer = stored + data.draw(st.binary(min_size=1, max_size=20))
    for damaged in (cut, longer):
        with pytest.raises(ContextCorruptError):
            decompress(damaged, "brotli", len(plain))
