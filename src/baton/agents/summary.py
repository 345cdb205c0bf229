"""An extractive summary: the sentences closest to what the whole text is about, word for word."""

# ruff: noqa: RUF001  # letters and marks of other scripts are meant

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from baton.agents.excerpt import Excerpt, excerpts
from baton.agents.words import content_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    Span = tuple[int, int]

MAX_SENTENCE_CHARS: Final = 500
MIN_WORDS: Final = 4
_SAME_ENOUGH: Final = 0.5

# Not before a lower-case word: that was an abbreviation such as "e.g.".
_SENTENCE_END: Final = re.compile(r"[.!?…][\"'”’»)\]]{0,3}(?=\s++[^a-zа-яё]|\s*+\Z)|[。！？]")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_LIST_ITEM: Final = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s+")
_NOT_PROSE: Final = re.compile(r"\s*(?:#|\||<|[-=*_]{3,}\s*$)|\s*$")


def summarise(text: str, limit: int = 5) -> list[Excerpt]:
    """The `limit` sentences of `text` that are most central, in the order of the text.

    A sentence's score is its cosine to the words of the whole text, each word weighed by how
    often it occurs and how rare the sentences are that hold it; ties go to the earlier one. A
    sentence that shares most words with a better one is passed over. Headings, tables, code
    blocks, fragments and sentences of more than 500 characters are no candidates.
    """
    candidates = [
        (span, words)
        for span in _sentences(text)
        if len(words := frozenset(content_words(text[slice(*span)]))) >= MIN_WORDS
    ]
    scores = _centralities([words for _, words in candidates])
    order = sorted(range(len(candidates)), key=lambda index: (-scores[index], index))
    chosen: list[int] = []
    for index in order:
        if len(chosen) == limit:
            break
        words = candidates[index][1]
        if not any(_alike(words, candidates[other][1]) for other in chosen):
            chosen.append(index)
    return excerpts(text, sorted(candidates[index][0] for index in chosen))


def _centralities(sentences: list[frozenset[str]]) -> list[float]:
    holding = Counter(word for words in sentences for word in words)
    rarity = {word: math.log(1 + len(sentences) / count) for word, count in holding.items()}
    # fsum: the sum must not depend on the order of a set, which differs between processes.
    return [
        math.fsum(holding[word] * rarity[word] ** 2 for word in words)
        / math.sqrt(math.fsum(rarity[word] ** 2 for word in words))
        for words in sentences
    ]


def _alike(words: frozenset[str], others: frozenset[str]) -> bool:
    return len(words & others) > _SAME_ENOUGH * len(words | others)


def _sentences(text: str) -> Iterator[Span]:
    for start, end in _paragraphs(text):
        begin = start
        for stop in _SENTENCE_END.finditer(text, start, end):
            yield from _trimmed(text, begin, stop.end())
            begin = stop.end()
        yield from _trimmed(text, begin, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    sentence = text[start:end]
    first = start + len(sentence) - len(sentence.lstrip())
    last = start + len(sentence.rstrip())
    if 0 < last - first <= MAX_SENTENCE_CHARS:
        yield first, last


def _paragraphs(text: str) -> Iterator[Span]:
    """Runs of prose lines; a list item begins a run of its own, its marker left out."""
    begin: int | None = None
    fence = ""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        line = text[start:end]
        mark = _FENCE.match(line)
        item = _LIST_ITEM.match(line)
        prose = not (fence or mark or _NOT_PROSE.match(line))
        if begin is not None and (item or not prose):
            yield begin, start
            begin = None
        if prose and begin is None:
            begin = start + (item.end() if item else 0)
        if mark:
            fence = _next_fence(fence, mark[1])
        start = end
    if begin is not None:
        yield begin, len(text)


def _next_fence(fence: str, mark: str) -> str:
    if not fence:
        return mark
    return "" if mark.startswith(fence) else fence
