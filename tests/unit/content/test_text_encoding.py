import pytest

from baton.content.text import decode_text, encode_text
from baton.errors import ContextCorruptError, InvalidInputError, InvalidTextError


@pytest.mark.parametrize("text", ["", "a", "Привет", "👩‍👩‍👧", "\x00\ufeff\r\n\u202e", "e\u0301"])
def test_text_round_trip_is_exact(text):
    """NUL, BOM, CRLF, direction marks and combining characters come back as they went in."""
    assert decode_text(encode_text(text)) == text


def test_encode_text_names_the_index_of_a_lone_surrogate():
    """The index counts characters, not bytes, and the field is named."""
    with pytest.raises(InvalidTextError, match=r"^note: .*a lone surrogate at character 3>$"):
        encode_text("яяя\ud800", "note")


@pytest.mark.parametrize("value", [b"bytes", None, 3, ["a"]])
def test_encode_text_refuses_what_is_not_text(value):
    """The error names the type and not the value."""
    with pytest.raises(InvalidInputError, match=f"got <{type(value).__name__}>"):
        encode_text(value)


@pytest.mark.parametrize("data", [b"ab\xff", b"ab\xd0", b"ab\xed\xa0\x80", b"ab\xc0\x80"])
def test_decode_text_is_strict(data):
    """Wrong bytes, cut characters, encoded surrogates and overlong forms are corrupt."""
    with pytest.raises(ContextCorruptError, match="not UTF-8 at byte 2"):
        decode_text(data)
