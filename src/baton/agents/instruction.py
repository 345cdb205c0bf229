"""What an instruction in plain words asks of the offline runner, read by fixed rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from baton.agents.words import content_words

MAX_PATTERNS: Final = 5

# `/retr(y|ies)/` or `/todo/i`, standing alone: a path such as /usr/lib is no pattern.
_REGEX: Final = re.compile(
    r"(?<![^\s(\"'`])/(?P<body>(?![\s*/])(?:\\.|[^/\\\n])+)/(?P<flag>i?)(?![^\s.,;:!?)\"'`])"
)
_QUOTED: Final = re.compile(
    r"`([^`\n]+)`|\"([^\"\n]+)\"|“([^”\n]+)”|«([^»\n]+)»|(?<!\w)'([^'\n]+)'(?!\w)"
)
_GREP: Final = re.compile(r"\bgrep\s+(?:for\s+)?+([^\s`\"'“«/]\S*)", re.IGNORECASE)
_FIND: Final = re.compile(
    r"\b(?:find|match(?:es|ing)?|grep|search|locate|list|all|every|contain(?:s|ing)?)\b",
    re.IGNORECASE,
)
_OUTLINE: Final = re.compile(
    r"\b(?:outlines?|headings?|structure|sections?|tables? of contents|toc)\b", re.IGNORECASE
)
_SUMMARY: Final = re.compile(
    r"\b(?:summar(?:y|ies|i[sz]e[sd]?|i[sz]ing)|overview|tl;?dr)\b", re.IGNORECASE
)
_COUNT: Final = re.compile(r"\b(?:counts?|counting|how many|number of)\b", re.IGNORECASE)
_OCCURRENCES: Final = re.compile(r"\boccurrences? of ([^\s`\"'“«]*[\w)])", re.IGNORECASE)
_UNITS: Final = {
    "lines": re.compile(r"\blines?\b", re.IGNORECASE),
    "words": re.compile(r"\bwords?\b", re.IGNORECASE),
    "characters": re.compile(r"\bcharacters?\b|\bchars?\b", re.IGNORECASE),
    "bytes": re.compile(r"\bbytes?\b", re.IGNORECASE),
    "headings": re.compile(r"\bheadings?\b|\bsections?\b", re.IGNORECASE),
    "TODOs": re.compile(r"\bTODO'?s?\b", re.IGNORECASE),
}
# Words that tell what to do rather than what about.
_COMMAND_WORDS: Final = """
answer containing contains content contents context count counting counts create describe discuss
doc docs document documents everything explain extract file files find give grep heading headings
identify line lines list locate main make many match matches matching mention mentioned mentions
number occur occurrence occurrences occurs outline overview passage passages point points present
produce provide quote relevant report return say says search section sections short show structure
summaries summarise summarised summarises summarising summarize summarized summarizes summarizing
summary table tell text times tldr toc use using write
"""
_COMMANDS: Final = frozenset(_COMMAND_WORDS.split())


@dataclass(frozen=True, slots=True)
class RegexRequest:
    """A `/pattern/` or `/pattern/i` as it was written."""

    pattern: str
    ignore_case: bool


@dataclass(frozen=True, slots=True)
class Request:
    """What to give. `query` is what is left to look for by relevance, maybe empty.

    `units` are keys of `counting.COUNTERS`; the tuples hold at most five items each, in the order
    of the instruction.
    """

    regexes: tuple[RegexRequest, ...]
    literals: tuple[str, ...]
    outline: bool
    summary: bool
    units: tuple[str, ...]
    counted_terms: tuple[str, ...]
    query: str


def read_instruction(instruction: str) -> Request:
    """Decide what `instruction` asks for.

    A pattern between slashes is matched; quoted text is looked for after words such as "find" or
    "all", and counted after "count" or "how many". Words for an outline, a summary or a unit to
    count ask for these. What remains, apart from function and command words, is the query; if
    nothing is asked for and nothing remains, a summary is the answer.
    """
    regexes = [RegexRequest(m["body"], bool(m["flag"])) for m in _REGEX.finditer(instruction)]
    rest = _REGEX.sub(" ", instruction)
    terms = [next(filter(None, match.groups())) for match in _QUOTED.finditer(rest)]
    prose = _QUOTED.sub(" ", rest)
    counting = bool(_COUNT.search(prose))
    grepped = [word.rstrip(".,;:!?") for word in _GREP.findall(prose)]
    finding = bool(terms) and bool(_FIND.search(prose))
    counted = (terms + _OCCURRENCES.findall(prose)) if counting else []
    literals = (terms if finding else []) + [word for word in grepped if word]
    units = _units(prose, about_terms=bool(counted)) if counting else []
    outline = bool(_OUTLINE.search(prose)) and "headings" not in units
    query = _query(rest if terms and not (finding or counted) else prose, units, grepped + counted)
    asked = bool(regexes or literals or outline or units or counted)
    return Request(
        regexes=tuple(regexes[:MAX_PATTERNS]),
        literals=_first(literals),
        outline=outline,
        summary=bool(_SUMMARY.search(prose)) or not (asked or query),
        units=tuple(units),
        counted_terms=_first(counted),
        query=query,
    )


def _units(prose: str, *, about_terms: bool) -> list[str]:
    """The units named. "Count" alone means all; "how many retries" is a question, not a count."""
    named = [unit for unit, pattern in _UNITS.items() if pattern.search(prose)]
    bare = not named and not about_terms and not _query(prose, [], [])
    return list(_UNITS) if bare else named


def _query(prose: str, units: list[str], used: list[str]) -> str:
    for unit in units:
        prose = _UNITS[unit].sub(" ", prose)
    taken = _COMMANDS.union(*(content_words(term) for term in used))
    return " ".join(dict.fromkeys(word for word in content_words(prose) if word not in taken))


def _first(terms: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(terms))[:MAX_PATTERNS]
