"""The parts of a text that a caller wants kept, by bytes or by heading, as byte ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from baton.agents.byte_ranges import ByteRange, union
from baton.agents.outline import find_headings
from baton.content.chunking import character_start
from baton.errors import InvalidInputError
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Pin: TypeAlias = str | tuple[int, int]
"""A heading's title, which pins its section, or a range of UTF-8 bytes, the end excluded."""


def pinned_ranges(text: str, data: bytes, pins: Sequence[Pin]) -> list[ByteRange]:
    """What `pins` cover of `text`, whose UTF-8 is `data`: ascending, apart, whole characters.

    A range that begins or ends within a character is widened to it. A title pins from its heading
    to the next one of its level or above, subsections included; all sections, if several have it.

    Raises:
        InvalidInputError: a range is empty or not within the text, or no heading has the title.
    """
    titles = [pin for pin in pins if isinstance(pin, str)]
    spans = union(_sections(text, titles)) if titles else []
    ranges = [_whole_characters(data, pin) for pin in pins if not isinstance(pin, str)]
    return union([*ranges, *_in_bytes(text, spans)])


def _whole_characters(data: bytes, pin: tuple[int, int]) -> ByteRange:
    start, end = (check_whole_number(place, "pinned") for place in pin)
    if not start < end <= len(data):
        raise InvalidInputError("pinned", f"a range within 0 to {len(data)}", f"{start}-{end}")
    while character_start(data, end) != end:
        end += 1
    return ByteRange(character_start(data, start), end)


def _sections(text: str, titles: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The sections under the headings called one of `titles`, in characters."""
    headings = list(find_headings(text))
    wanted, found = set(titles), set[str]()
    for index, heading in enumerate(headings):
        title = text[heading.start : heading.end]
        if title not in wanted:
            continue
        found.add(title)
        # Each heading is passed over once by each of the levels above it, at most five times.
        behind = (headings[other] for other in range(index + 1, len(headings)))
        end = next((other.start for other in behind if other.level <= heading.level), None)
        yield _line_start(text, heading.start), len(text) if end is None else _line_start(text, end)
    for title in titles:
        if title not in found:
            raise InvalidInputError("pinned", "the title of a heading of the text", title)


def _line_start(text: str, place: int) -> int:
    return text.rfind("\n", 0, place) + 1


def _in_bytes(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[ByteRange]:
    at_character = at_byte = 0
    for start, end in spans:
        start_byte = at_byte + len(text[at_character:start].encode())
        at_character, at_byte = end, start_byte + len(text[start:end].encode())
        yield ByteRange(start_byte, at_byte)
