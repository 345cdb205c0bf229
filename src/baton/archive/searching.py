"""Searches archived sessions by meaning and by words.

Candidates are the passages nearest to the question, and those of the same sessions that hold most
of its words. Two rankings take turns: by cosine and words, which is better where the question names
things, and by cosine alone, which is better where it does not.
"""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from baton.archive.archivist import facet_text
from baton.archive.coverage import coverage
from baton.archive.ledger import AGENT, METADATA
from baton.archive.passage_map import passage_name_in, row_id
from baton.archive.word_index import question_words
from baton.clock import utc_from_ms
from baton.errors import InvalidInputError
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from baton.archive.copies import SessionCopy
    from baton.archive.embedder import Embedder
    from baton.archive.ledger import ShelfRecord
    from baton.archive.passage_map import PassageMap, PassagePlace
    from baton.archive.shelves import Shelves
    from baton.archive.vector_index import Match, VectorIndex
    from baton.archive.word_index import WordIndex

MAX_HITS: Final = 100
MAX_QUESTION_CHARACTERS: Final = 10_000
MAX_MATCHES: Final = 1_000
CANDIDATES_PER_HIT: Final = 10
MIN_CANDIDATES: Final = 300
WORDED_CANDIDATES: Final = 100
KEPT_BYTES: Final = 128 * 1024 * 1024
# Of a place in a map: a tuple, its name, its numbers.
_PLACE_BYTES: Final = 250
# What a passage that holds all words of the question gains beside its cosine; half of the words
# gain a quarter of that. Chosen on bench/planted_facts.py, all passages of 10 MB ranked: of 40
# facts 38 are among the first five, and 13 where question and fact share hardly a word. Without
# words 31 and 15 are, with this ranking alone 38 and 10.
_WORDS_WEIGHT: Final = 0.35


@dataclass(frozen=True, slots=True)
class Filters:
    """What hits are narrowed to; each that is given must hold.

    Attributes:
        session_id: this session.
        agent: this agent wrote some version of it, or owns it.
        since: its head was committed then or later.
        until: then or before.
        metadata: these values are in the head's metadata, at its top level; not of sealed sessions.
    """

    session_id: str | None = None
    agent: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    metadata: Mapping[str, str | float | bool] = field(default_factory=dict)

    @property
    def narrows(self) -> bool:
        """Whether any is given."""
        return bool(self.metadata or any((self.session_id, self.agent, self.since, self.until)))


@dataclass(frozen=True, slots=True)
class ArchiveHit:
    """A passage that was found.

    Attributes:
        snippet: the passage, redacted as it was when it was indexed.
        score: similarity, and more for words of the question; comparable within one search. Hits
            are not quite in this order, see above.
        similarity: cosine of question and passage.
        archived_at: when its session was archived.
    """

    session_id: str
    version: str
    start_byte: int
    end_byte: int
    snippet: str = field(repr=False)
    score: float
    similarity: float
    archived_at: datetime


@dataclass(frozen=True, slots=True)
class _Opened:
    """A shelf as a search needs it."""

    record: ShelfRecord
    copy: SessionCopy
    passages: PassageMap
    words: WordIndex

    @property
    def size_bytes(self) -> int:
        """About what it takes of memory."""
        return self.words.size_bytes + _PLACE_BYTES * len(self.passages.names)


class _Candidate(NamedTuple):
    opened: _Opened
    name: str
    similarity: float


class _Ranked(NamedTuple):
    candidate: _Candidate
    score: float


class ArchiveSearch:
    """Finds passages of archived sessions.

    Args:
        shelves: where the passages are unsealed.
        embedder: of the question.
        index: of the passages' vectors.
    """

    def __init__(self, shelves: Shelves, embedder: Embedder, index: VectorIndex) -> None:
        self._shelves = shelves
        self._embedder = embedder
        self._index = index
        self._opened: OrderedDict[tuple[str, bytes], _Opened] = OrderedDict()
        self._lock = threading.Lock()

    def search(self, question: str, limit: int, filters: Filters) -> list[ArchiveHit]:
        """See `ArchiveService.search`."""
        if check_whole_number(limit, "limit", least=1) > MAX_HITS:
            raise InvalidInputError("limit", f"at most {MAX_HITS}", limit)
        if (
            not isinstance(question, str)
            or not 0 < len(question.strip()) <= MAX_QUESTION_CHARACTERS
        ):
            expected = f"1 to {MAX_QUESTION_CHARACTERS} characters"
            raise InvalidInputError("question", expected, question)
        shelves = self._narrowed(filters)
        if shelves == [] or not self._shelves.ledger.any_searchable():
            return []
        return _hits(_in_turns(self._ranked(question, limit, shelves))[:limit])

    def forget(self, shelf: str) -> None:
        """Keep nothing of a shelf in memory: it was erased."""
        with self._lock:
            for key in [each for each in self._opened if each[0] == shelf]:
                del self._opened[key]

    def _narrowed(self, filters: Filters) -> list[str] | None:
        if not filters.narrows:
            return None
        facets = {
            f"{METADATA}{name}": facet_text(value) for name, value in filters.metadata.items()
        }
        if filters.agent is not None:
            facets[AGENT] = filters.agent
        return self._shelves.ledger.shelves_with(
            session_id=filters.session_id,
            facets=facets,
            since_ms=_ms(filters.since),
            until_ms=_ms(filters.until),
        )

    def _ranked(self, question: str, limit: int, shelves: list[str] | None) -> list[_Ranked]:
        """Candidates with their scores, in no order."""
        vector = self._embedder.embed_question(question)
        nearest = self._nearest(vector, limit, shelves)
        held = _Held(question_words(question), nearest)
        candidates = [*nearest, *self._worded(vector, held, nearest)]
        return [
            _Ranked(each, each.similarity + _WORDS_WEIGHT * held.share(each) ** 2)
            for each in candidates
        ]

    def _nearest(
        self, vector: NDArray[np.float32], limit: int, shelves: list[str] | None
    ) -> list[_Candidate]:
        """The nearest passages that may be shown, more than are asked for, nearest first."""
        wanted = max(MIN_CANDIDATES, CANDIDATES_PER_HIT * limit)
        asked = wanted
        while True:
            matches = self._index.find(vector, asked, shelves=shelves)
            found = self._candidates(matches)
            if len(found) >= wanted or len(matches) < asked or asked >= MAX_MATCHES:
                return found[:wanted]
            asked = min(MAX_MATCHES, asked * 4)

    def _worded(
        self, vector: NDArray[np.float32], held: _Held, nearest: list[_Candidate]
    ) -> list[_Candidate]:
        """Passages that hold most of the words, and are not among the nearest."""
        known = {(each.opened.record.shelf, each.name) for each in nearest}
        wanted = {
            row_id(opened.record.shelf, name): (opened, name)
            for opened, name in held.best(WORDED_CANDIDATES)
            if (opened.record.shelf, name) not in known
        }
        similarities = self._index.similarities(vector, wanted)
        return [_Candidate(*wanted[row], cosine) for row, cosine in similarities.items()]

    def _candidates(self, matches: Sequence[Match]) -> list[_Candidate]:
        """Matches in their order, without those of sessions that may not be found."""
        opened = {shelf: self._opened_shelf(shelf) for shelf in {each.shelf for each in matches}}
        found = []
        for match in matches:
            shelf, name = opened[match.shelf], passage_name_in(match.row_id)
            if shelf is not None and shelf.passages.find(name) is not None:
                found.append(_Candidate(shelf, name, 1.0 - match.distance))
        return found

    def _opened_shelf(self, shelf: str) -> _Opened | None:
        record = self._shelves.ledger.find(shelf)
        if record is None or record.state != "archived" or record.index_state != "indexed":
            return None
        return self._open(record)

    def _open(self, record: ShelfRecord) -> _Opened:
        key = (record.shelf, record.catalogue + record.passages)
        with self._lock:
            if key in self._opened:
                self._opened.move_to_end(key)
                return self._opened[key]
        passages = self._shelves.passages(record)
        words = self._shelves.words(record, passages)
        opened = _Opened(record, self._shelves.open(record), passages, words)
        with self._lock:
            self._opened[key] = opened
            kept_bytes = sum(each.size_bytes for each in self._opened.values())
            while kept_bytes > KEPT_BYTES and len(self._opened) > 1:
                kept_bytes -= self._opened.popitem(last=False)[1].size_bytes
        return opened


class _Held:
    """What share of a question's words the passages of the candidates' shelves hold."""

    def __init__(self, words: Sequence[str], candidates: Sequence[_Candidate]) -> None:
        shelves = {each.opened.record.shelf: each.opened for each in candidates}
        self._opened = list(shelves.values())
        shares = coverage(words, [(each.words, len(each.passages.names)) for each in self._opened])
        self._shares = dict(zip(shelves, shares, strict=True))

    def share(self, candidate: _Candidate) -> float:
        """Of one passage, from 0 to 1."""
        names = candidate.opened.passages.names
        return float(
            self._shares[candidate.opened.record.shelf][bisect_left(names, candidate.name)]
        )

    def best(self, limit: int) -> list[tuple[_Opened, str]]:
        """The passages that hold most, and something."""
        found = [
            (float(self._shares[opened.record.shelf][place]), opened, opened.passages.names[place])
            for opened in self._opened
            for place in np.argsort(-self._shares[opened.record.shelf], kind="stable")[:limit]
        ]
        found.sort(key=lambda each: -each[0])
        return [(opened, name) for share, opened, name in found[:limit] if share]


def _in_turns(ranked: Sequence[_Ranked]) -> list[_Ranked]:
    """By score and by similarity in turns, each once."""
    places = range(len(ranked))
    by_score = sorted(places, key=lambda at: -ranked[at].score)
    by_similarity = sorted(places, key=lambda at: -ranked[at].candidate.similarity)
    turns = itertools.chain.from_iterable(zip(by_score, by_similarity, strict=True))
    return [ranked[at] for at in dict.fromkeys(turns)]


def _hits(ranked: Sequence[_Ranked]) -> list[ArchiveHit]:
    """As they are shown, in order; the passages of one version are unsealed together."""
    by_version: dict[tuple[str, str], list[int]] = {}
    places = [_place(each.candidate) for each in ranked]
    for at, (each, (version, _)) in enumerate(zip(ranked, places, strict=True)):
        by_version.setdefault((each.candidate.opened.record.shelf, version), []).append(at)
    snippets: dict[int, str] = {}
    for (_, version), some in by_version.items():
        opened = ranked[some[0]].candidate.opened
        ranges = [(places[at][1].start_byte, places[at][1].end_byte) for at in some]
        plain = opened.copy.parts(version, ranges)
        for at, (start_byte, _), found in zip(some, ranges, plain, strict=True):
            snippets[at] = opened.passages.shown(version, start_byte, found).strip()
    return [
        _hit(each, version, place, snippets[at])
        for at, (each, (version, place)) in enumerate(zip(ranked, places, strict=True))
    ]


def _place(candidate: _Candidate) -> tuple[str, PassagePlace]:
    found = candidate.opened.passages.find(candidate.name)
    assert found is not None  # noqa: S101  # candidates are of the map
    return found


def _hit(ranked: _Ranked, version: str, place: PassagePlace, snippet: str) -> ArchiveHit:
    candidate = ranked.candidate
    record = candidate.opened.record
    return ArchiveHit(
        session_id=record.session,
        version=version,
        start_byte=place.start_byte,
        end_byte=place.end_byte,
        snippet=snippet,
        score=ranked.score,
        similarity=candidate.similarity,
        archived_at=utc_from_ms(record.archived_at_ms),
    )


def _ms(instant: datetime | None) -> int | None:
    if instant is None:
        return None
    if instant.tzinfo is None:
        raise InvalidInputError("since or until", "a time with its time zone", instant.isoformat())
    return int(instant.timestamp() * 1000)
