"""The headings of a Markdown text: ATX (`# Title`) and setext (underlined) ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Each line this finds is a fence, an ATX heading or a setext underline; other lines are passed
# over at the speed of the regex engine. No part can match the same characters in two ways.
_LINE: Final = re.compile(
    r"^ {0,3}(?:(?P<fence>`{3,}|~{3,})(?P<info>[^\r\n]*)"
    r"|(?P<hashes>#{1,6})(?:[ \t]+(?P<title>\S[^\r\n]*)?)?\r?$"
    r"|(?P<underline>=+|-+)[ \t]*\r?$)",
    re.MULTILINE,
)
_CLOSING_HASHES: Final = re.compile(r"(?:(?<=[ \t])|^)#+$")
_NOT_A_TITLE: Final = ("#", ">", "- ", "* ", "+ ", "|", "```", "~~~", "---", "===", "    ", "\t")


@dataclass(frozen=True, slots=True)
class Heading:
    """One heading: its level, 1 to 6, and where its title stands, in characters."""

    level: int
    start: int
    end: int


def find_headings(text: str) -> Iterator[Heading]:
    """The headings of `text` in order, those within code fences and front matter left out.

    A line of source code that begins with `# ` looks the same outside a fence, and is given.
    """
    fence = ""
    for line in _LINE.finditer(text, _after_front_matter(text)):
        if fence:
            fence = "" if _closes(line, fence) else fence
        elif line["fence"]:
            # A backtick after the fence makes it inline code, not a block.
            opens = line["fence"][0] == "~" or "`" not in line["info"]
            fence = line["fence"] if opens else ""
        elif line["hashes"]:
            yield from _atx(line)
        else:
            yield from _setext(text, line)


def _closes(line: re.Match[str], fence: str) -> bool:
    return (line["fence"] or "").startswith(fence) and not line["info"].strip()


def _atx(line: re.Match[str]) -> Iterator[Heading]:
    title = (line["title"] or "").rstrip()
    title = _CLOSING_HASHES.sub("", title).rstrip()
    if title:
        start = line.start("title")
        yield Heading(len(line["hashes"]), start, start + len(title))


def _setext(text: str, line: re.Match[str]) -> Iterator[Heading]:
    """The line above an underline, if it is a line of a paragraph."""
    end = line.start() - 1
    start = text.rfind("\n", 0, max(end, 0)) + 1
    above = text[start : max(end, 0)]
    title = above.strip()
    if title and not above.startswith(_NOT_A_TITLE):
        first = start + above.index(title)
        yield Heading(1 if line["underline"][0] == "=" else 2, first, first + len(title))


def _after_front_matter(text: str) -> int:
    """Where the body begins: after a YAML block between two `---` lines at the very start."""
    if not text.startswith(("---\n", "---\r\n")):
        return 0
    end = text.find("\n---", 3)
    return end + len("\n---") if end >= 0 else 0
