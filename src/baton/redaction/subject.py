r"""A text as the detectors see it: its bytes, and a view in which escapes are plain.

In `{"log": "a\npassword=x"}` no word begins before `password`, but for the eye. So the view has a
form feed in the place of `\n`, and marks in front of what a backslash escapes. It has as many bytes
as the text: an offset means the same in both.
"""

from __future__ import annotations

import re
from typing import Final

ESCAPED_BACKSLASH: Final = b"\x02"
ESCAPE: Final = b"\x03"  # before a quote or a slash

_ESCAPES: Final = (
    (b"\\\\", ESCAPED_BACKSLASH * 2),
    (b"\\n", b" \f"),
    (b"\\r", b" \f"),
    (b"\\t", b" \t"),
    (b'\\"', ESCAPE + b'"'),
    (b"\\'", ESCAPE + b"'"),
    (b"\\/", ESCAPE + b"/"),
)
_PLAIN: Final = dict(_ESCAPES)
_ESCAPED: Final = re.compile(rb"\\[\\nrt\"'/]")
# In UTF-8, each character has one byte that is none of these.
_CONTINUATIONS: Final = bytes(range(0x80, 0xC0))
# A substitution takes half a microsecond an escape, `replace` a millisecond a MB for each kind.
_RARE: Final = 64


class Subject:
    """The UTF-8 bytes of a text in `data`, and the detectors' `view` of them.

    A judge that looks at much adds what it did to `owed_units`; the scan takes it from the text's
    allowance. `withheld` is the last range that a judge has withheld.
    """

    __slots__ = ("_ascii", "data", "owed_units", "view", "withheld")

    def __init__(self, text: str) -> None:
        # A lone surrogate becomes bytes that no valid text holds.
        self.data = text.encode(errors="surrogatepass")
        self.view = plain_escapes(self.data)
        self.owed_units = 0
        self.withheld = range(0)
        self._ascii = len(self.data) == len(text)

    def char_offsets(self, byte_offsets: list[int]) -> list[int]:
        """The offsets, which ascend, in characters; one within a character is the next one's."""
        if self._ascii:
            return byte_offsets
        chars, at, found = 0, 0, []
        for offset in byte_offsets:
            chars += len(self.data[at:offset].translate(None, _CONTINUATIONS))
            at = offset
            found.append(chars)
        return found

    def whole_characters(self, start: int, end: int) -> tuple[int, int]:
        """The range, grown until it begins and ends between two characters."""
        while start > 0 and self.data[start] & 0xC0 == 0x80:
            start -= 1
        while end < len(self.data) and self.data[end] & 0xC0 == 0x80:
            end += 1
        return start, end


def plain_escapes(data: bytes) -> bytes:
    """`data` with its backslash escapes made plain, at the same length."""
    count = data.count(b"\\")
    if count * _RARE < len(data):
        return _ESCAPED.sub(lambda found: _PLAIN[found[0]], data) if count else data
    for escape, plain in _ESCAPES:
        data = data.replace(escape, plain)
    return data
