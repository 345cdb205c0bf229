"""A JSON document read piece by piece: of a large one, only the value at hand is in memory."""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from baton.errors import ContextTooLargeError, InvalidInputError
from baton.merge.strict_json import STRICT_DECODER

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK_CHARACTERS: Final = 262_144
# Each value but the first stands behind one of these, so that they bound how many values can be
# made of a text. Those inside strings count too; Base64 has none.
_BEFORE_VALUES: Final = "[{,"
MAX_VALUES: Final = 500_000
MAX_VALUE_CHARACTERS: Final = 16 * 1_048_576
# Of a number, this much may follow what already reads as one: `1` in `1e+5`.
_NUMBER_TAIL: Final = 3
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class JsonStream:
    """A document's values, in the order in which they stand.

    As strict as `strict_json.parse_json`, except that depth and lone surrogates are left to
    whoever takes the values. `field` names the document in errors.

    Raises, from any method:
        InvalidInputError: the text is not UTF-8 or not strict JSON.
        ContextTooLargeError: it has more than `limit_characters`, or 500,000 values.
    """

    def __init__(
        self, source: bytes | str | BinaryIO, field: str, *, limit_characters: int
    ) -> None:
        self._field = field
        self._blocks = _bounded(_blocks(source, field), field, limit_characters)
        self._text = ""
        self._at = 0
        self._begins_at = 0

    def members(self) -> Iterator[str]:
        """Yield each key of the object that begins here; its value must be taken meanwhile."""
        self._expect("{")
        seen: set[str] = set()
        more = self.peek() != "}"
        while more:
            if self.peek() != '"':
                raise self._refusal("a key in quotes")
            key = self.value()
            if key in seen:
                raise self._refusal("distinct keys", f"<key {key[:40]!r} twice>")
            seen.add(key)
            self._expect(":")
            yield key
            more = self._comma_before("}")
        self._expect("}")

    def items(self, limit_characters: int) -> Iterator[Any]:
        """Yield each value of the list that begins here, each at most `limit_characters` long."""
        self._expect("[")
        more = self.peek() != "]"
        while more:
            yield self.value(limit_characters)
            more = self._comma_before("]")
        self._expect("]")

    def value(self, limit_characters: int = MAX_VALUE_CHARACTERS) -> Any:
        """The value that begins here, whole, at most about `limit_characters` long."""
        self.peek()
        while True:
            value, end, trouble = self._decoded()
            cut = trouble is None and end + _NUMBER_TAIL > len(self._text)
            retry = cut or isinstance(trouble, json.JSONDecodeError)
            if not retry or not self._read_on(limit_characters):
                break
        if trouble is not None:
            raise self._refusal("strict JSON", f"<{_said(trouble)}>")
        self._at = end
        return value

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ""

    def end(self) -> None:
        """Nothing may follow."""
        if self.peek():
            raise self._refusal("nothing behind the document")

    def _decoded(self) -> tuple[Any, int, Exception | None]:
        try:
            return *STRICT_DECODER.raw_decode(self._text, self._at), None
        except (ValueError, RecursionError) as error:
            # The traceback and the document would be held by whatever is raised for it.
            return None, 0, error.with_traceback(None)

    def _comma_before(self, closing: str) -> bool:
        if self.peek() == closing:
            return False
        self._expect(",")
        return True

    def _expect(self, character: str) -> None:
        if self.peek() != character:
            raise self._refusal(f"{character!r}")
        self._at += 1

    def _read_on(self, limit_characters: int | None = None) -> bool:
        """Read as much again as is held, so that retries are linear; False at the end."""
        held = self._text[self._at :]
        if limit_characters is not None and len(held) > limit_characters:
            limit = f"values of at most {limit_characters} characters"
            raise ContextTooLargeError(self._field, limit, "<more>")
        parts, wanted = [held], len(held) + 1
        while wanted > 0 and (block := next(self._blocks, "")):
            parts.append(block)
            wanted -= len(block)
        if len(parts) == 1:
            return False
        self._begins_at += self._at
        self._text, self._at = "".join(parts), 0
        return True

    def _refusal(self, expected: str, got: str | None = None) -> InvalidInputError:
        if got is None:
            place = self._begins_at + self._at
            got = f"<{self.peek()!r} at character {place}>" if self.peek() else "<the end>"
        return InvalidInputError(self._field, expected, got)


def _said(trouble: Exception) -> str:
    """What is wrong, without the place, which is counted from where we happened to read on."""
    if isinstance(trouble, RecursionError):
        return "nested too deep"
    return trouble.msg if isinstance(trouble, json.JSONDecodeError) else str(trouble)


def _blocks(source: bytes | str | BinaryIO, field: str) -> Iterator[str]:
    """The text of `source`, in blocks."""
    if isinstance(source, str):
        for begin in range(0, len(source), _BLOCK_CHARACTERS):
            yield source[begin : begin + _BLOCK_CHARACTERS]
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    decoded_bytes = 0
    for block in _byte_blocks(source, field):
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError:
            got = f"<other bytes, {decoded_bytes} bytes in or soon after>"
            raise InvalidInputError(field, "UTF-8", got) from None
        decoded_bytes += len(block)
        if text:
            yield text


def _byte_blocks(source: bytes | BinaryIO, field: str) -> Iterator[bytes]:
    """The bytes of `source` in blocks, an empty one at the end."""
    if isinstance(source, bytes):
        for begin in range(0, len(source), _BLOCK_CHARACTERS):
            yield source[begin : begin + _BLOCK_CHARACTERS]
        yield b""
        return
    if not hasattr(source, "read"):
        raise InvalidInputError(field, "text, bytes or a file", f"<{type(source).__name__}>")
    while True:
        block = source.read(_BLOCK_CHARACTERS)
        if not isinstance(block, bytes):
            raise InvalidInputError(field, "a binary stream", f"<{type(block).__name__}>")
        yield block
        if not block:
            return


def _bounded(blocks: Iterator[str], field: str, limit_characters: int) -> Iterator[str]:
    """`blocks`, as long as they stay within the limits."""
    characters = values = 0
    for block in blocks:
        characters += len(block)
        values += count_values(block)
        if characters > limit_characters:
            limit = f"at most {limit_characters} characters of JSON"
            raise ContextTooLargeError(field, limit, "<more>")
        if values > MAX_VALUES:
            raise ContextTooLargeError(field, f"at most {MAX_VALUES} values", "<more>")
        yield block


def count_values(text: str) -> int:
    """An upper bound of the values in a part of a JSON document."""
    return sum(map(text.count, _BEFORE_VALUES))
