"""The passages of a text most relevant to a query, ranked by BM25.

SQLite's FTS5 does the ranking, in memory: it ships with Python, stems English, folds case and
accents in every script, and answers in milliseconds over tens of megabytes. Chinese and Japanese,
which put no spaces between words, are indexed by character and asked for by pairs of characters.
"""

# ruff: noqa: RUF001  # letters and marks of other scripts are meant

from __future__ import annotations

import itertools
import re
import sqlite3
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.agents.excerpt import Excerpt, excerpts
from baton.agents.words import UNSPACED, content_words
from baton.errors import RunnerError

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_PASSAGE_CHARS: Final = 600
MAX_PASSAGE_CHARS: Final = 1_000
MAX_QUERY_WORDS: Final = 64

_SCHEMA: Final = (
    "CREATE VIRTUAL TABLE passages USING "
    "fts5(body, content='', tokenize='porter unicode61 remove_diacritics 2')"
)
_QUERY: Final = (
    "SELECT rowid, bm25(passages) AS cost FROM passages WHERE passages MATCH ? "
    "ORDER BY cost, rowid LIMIT ?"
)
_SENTENCE_ENDS: Final = (". ", "! ", "? ", "。", "！", "？")
_UNSPACED_CHARACTER: Final = re.compile(f"[{UNSPACED}]")
_SAME_SCRIPT: Final = re.compile(f"[{UNSPACED}]+|[^{UNSPACED}]+")


@dataclass(frozen=True, slots=True)
class Passage(Excerpt):
    """A passage and its BM25 score: positive, higher is better, comparable within one search."""

    score: float


class PassageIndex:
    """The passages of one text, ready to be searched from many threads.

    Holds its own copy of the text, and an index of about half its size (measured on English).

    Raises:
        InvalidTextError: the text holds a lone surrogate.
        RunnerError: this Python's SQLite was built without FTS5.
    """

    def __init__(self, text: str) -> None:
        self._passages = excerpts(text, passage_spans(text))
        self._lock = threading.Lock()
        self._database = _open_index()
        weakref.finalize(self, self._database.close)
        with self._database:
            self._database.executemany(
                "INSERT INTO passages(rowid, body) VALUES (?, ?)",
                ((row, _spaced(passage.text)) for row, passage in enumerate(self._passages)),
            )

    def __len__(self) -> int:
        return len(self._passages)

    def search(self, query: str, limit: int = 5) -> list[Passage]:
        """The `limit` best passages for the words of `query`, best first, ties by position.

        A passage need not hold all the words; it holds at least one. Function words do not count,
        nor does anything beyond the first 64 different words.
        """
        match = _match_expression(query)
        if not match:
            return []
        with self._lock:
            rows = self._database.execute(_QUERY, (match, limit)).fetchall()
        return [self._passage(row, -cost) for row, cost in rows]

    def _passage(self, row: int, score: float) -> Passage:
        found = self._passages[row]
        return Passage(found.start_byte, found.end_byte, found.text, score)


def passage_spans(text: str) -> Iterator[tuple[int, int]]:
    """Cut `text` into passages of 600 to 1,000 characters, at the best boundary there.

    Best is before a heading, then after a paragraph, a line, a sentence, a word. White space at
    the ends of a passage is left out; every other character is in exactly one passage.
    """
    start = 0
    while start < len(text):
        end = _cut(text, start)
        piece = text[start:end]
        stripped = piece.strip()
        if stripped:
            first = start + len(piece) - len(piece.lstrip())
            yield first, first + len(stripped)
        start = end


def _cut(text: str, start: int) -> int:
    lowest, highest = start + MIN_PASSAGE_CHARS, start + MAX_PASSAGE_CHARS
    if highest >= len(text):
        return len(text)
    heading = text.rfind("\n#", lowest, highest)
    if heading >= 0:
        return heading + 1
    for boundary in (("\n\n", "\r\n\r\n"), ("\n",), _SENTENCE_ENDS, (" ", "\t")):
        cut = max(text.rfind(mark, lowest, highest) + len(mark) for mark in boundary)
        if cut > lowest:
            return cut
    return highest


def _open_index() -> sqlite3.Connection:
    # One connection serves all threads, one at a time under the index's lock.
    database = sqlite3.connect(":memory:", check_same_thread=False)
    try:
        database.execute(_SCHEMA)
    except sqlite3.OperationalError as error:
        database.close()
        raise RunnerError(
            f"Runner offline failed: SQLite {sqlite3.sqlite_version} of this Python cannot rank "
            f"text ({error}); use a Python whose sqlite3 has FTS5."
        ) from error
    return database


def _match_expression(query: str) -> str:
    """An FTS5 expression: any of the query's words, each quoted, so that none is an operator."""
    words = list(dict.fromkeys(content_words(query)))[:MAX_QUERY_WORDS]
    terms = (term for word in words for term in _terms(word))
    return " OR ".join(f'"{term}"' for term in list(terms)[:MAX_QUERY_WORDS])


def _terms(word: str) -> Iterator[str]:
    for run in _SAME_SCRIPT.findall(word):
        if _UNSPACED_CHARACTER.match(run) and len(run) > 1:
            yield from (f"{first} {second}" for first, second in itertools.pairwise(run))
        else:
            yield run


def _spaced(text: str) -> str:
    """`text` with unspaced scripts' characters set apart, so that each is a word of its own."""
    return _UNSPACED_CHARACTER.sub(r" \g<0> ", text)
