import io
import json

import pytest

from baton.envelope.json_stream import JsonStream
from baton.errors import ContextTooLargeError, InvalidInputError

DOCUMENT = {
    "a": 1e5, "b": [], "c": [1, -2.5e-7, True, None, "x"], "d": {}, 'é"\\': '漢👍\\"' * 50,
    "list": [{"n": 12345678901234567890}, [[]], "", 0],
}  # fmt: skip


class Trickle(io.RawIOBase):
    """A file that gives a few bytes at once, however many are asked for."""

    def __init__(self, data, size):
        self.rest, self.size = data, size

    def read(self, size=-1):
        given, self.rest = self.rest[: self.size], self.rest[self.size :]
        return given


def stream_of(source, limit_characters=1_000_000):
    return JsonStream(source, "doc", limit_characters=limit_characters)


def read(stream, limit_characters=100_000):
    found = {}
    for key in stream.members():
        if stream.peek() == "[":
            found[key] = list(stream.items(limit_characters))
        else:
            found[key] = stream.value()
    stream.end()
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000_000])
@pytest.mark.parametrize("indent", [None, 3])
def test_a_document_reads_the_same_in_any_blocks(size, indent):
    """However numbers, escapes and characters are cut."""
    text = json.dumps(DOCUMENT, indent=indent, ensure_ascii=size % 2 == 0)
    assert read(stream_of(Trickle(text.encode(), size))) == DOCUMENT


@pytest.mark.parametrize("number", ["1e+5", "-1.5E-10", "0", "-0.0", "123456", "1.25", "1E5"])
def test_a_number_is_never_cut_short(number):
    """Where what is there already reads as one."""
    for size in range(1, 9):
        assert read(stream_of(Trickle(f'{{"a":{number}}}'.encode(), size))) == {"a": float(number)}


@pytest.mark.parametrize(
    "text",
    [
        "", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', '{"a" 1}', "{a:1}", '{"a":1}}',
        '{"a":[1,]}', '{"a":[1', '{"a":[1 2]}', '{"a":[,]}', '{"a":"x', '{"a":"\\u12"}',
        '{"a":tru}',
        '{"a":NaN}', '{"a":[NaN]}', '{"a":1,"a":2}', '{"a":{"b":1,"b":2}}', "{,}", "{1:2}", "[]",
        '{"a":1}\x00', '{"a":01}', '{"a":+1}', '{"a":.5}', '{"a":1.}', "\xa0{}",
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 1_000])
def test_what_is_no_strict_json_is_refused(text, size):
    """By the document's name, whatever blocks it comes in."""
    with pytest.raises(InvalidInputError, match=r"^doc: expected "):
        read(stream_of(Trickle(text.encode(), size)))


def test_a_refusal_names_the_place_in_the_whole():
    """Also behind what has been read and dropped."""
    text = '{"a": "' + "x" * 600_000 + '", "b" 1}'
    with pytest.raises(InvalidInputError, match=r"expected ':', got <'1' at character 600014>"):
        read(stream_of(text))


def test_limits_hold():
    """On the document, on its values, and on a value's length."""
    with pytest.raises(ContextTooLargeError, match="at most 500 characters"):
        read(stream_of('{"a":"' + "x" * 500 + '"}', limit_characters=500))
    with pytest.raises(ContextTooLargeError, match="at most 500000 values"):
        read(stream_of('{"a":{"b":[' + "[]," * 260_000 + "[]]}}"))
    with pytest.raises(ContextTooLargeError, match="values of at most 1000 characters"):
        read(stream_of('{"a":["' + "x" * 600_000 + '"]}'), limit_characters=1_000)
