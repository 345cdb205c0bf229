"""Searches archived sessions by meaning, re-ranked by words over what the archive unseals."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from baton.agents.ranking import rank_texts
from baton.archive.archivist import facet_text
from baton.archive.ledger import AGENT, METADATA
from baton.archive.passage_map import passage_name_in
from baton.clock import utc_from_ms
from baton.errors import InvalidInputError
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from baton.archive.copies import SessionCopy
    from baton.archive.embedder import Embedder
    from baton.archive.ledger import ShelfRecord
    from baton.archive.passage_map import PassageMap
    from baton.archive.shelves import Shelves
    from baton.archive.vector_index import Match, VectorIndex

MAX_HITS: Final = 100
MAX_QUESTION_CHARACTERS: Final = 10_000
MAX_MATCHES: Final = 1_000
CANDIDATES_PER_HIT: Final = 10
MIN_CANDIDATES: Final = 300
KEPT_SHELVES: Final = 64
# What the words of the question are worth beside the cosine: chosen on bench/planted_facts.py. More
# helps questions that name things, and hurts those that name nothing.
_WORDS_WEIGHT: Final = 0.2


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
        score: similarity, and more for words of the question; comparable within one search.
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
class _Place:
    row_id: str
    record: ShelfRecord
    version: str
    start_byte: int
    end_byte: int
    similarity: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    place: _Place
    snippet: str


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
        self._opened: OrderedDict[tuple[str, bytes], tuple[SessionCopy, PassageMap]] = OrderedDict()
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
        if shelves == []:
            return []
        candidates = self._candidates(question, limit, shelves)
        return _ranked(candidates, question)[:limit]

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

    def _candidates(self, question: str, limit: int, shelves: list[str] | None) -> list[_Candidate]:
        """The nearest passages that may be shown, more than are asked for, nearest first."""
        vector = self._embedder.embed_question(question)
        wanted = max(MIN_CANDIDATES, CANDIDATES_PER_HIT * limit)
        asked = wanted
        while True:
            matches = self._index.find(vector, asked, shelves=shelves)
            found = self._opened_matches(matches)
            if len(found) >= wanted or len(matches) < asked or asked >= MAX_MATCHES:
                return found[:wanted]
            asked = min(MAX_MATCHES, asked * 4)

    def _opened_matches(self, matches: list[Match]) -> list[_Candidate]:
        """Matches unsealed, nearest first; not those of sessions that may not be found."""
        places = [each for each in map(self._place, matches) if each is not None]
        by_version: dict[tuple[str, str], list[_Place]] = {}
        for place in places:
            by_version.setdefault((place.record.shelf, place.version), []).append(place)
        snippets: dict[str, str] = {}
        for some in by_version.values():
            copy, passages = self._open(some[0].record)
            version = some[0].version
            plain = copy.parts(version, [(each.start_byte, each.end_byte) for each in some])
            for each, found in zip(some, plain, strict=True):
                snippets[each.row_id] = passages.shown(version, each.start_byte, found).strip()
        return [_Candidate(each, snippets[each.row_id]) for each in places]

    def _place(self, match: Match) -> _Place | None:
        record = self._shelves.ledger.find(match.shelf)
        if record is None or record.state != "archived" or record.index_state != "indexed":
            return None
        found = self._open(record)[1].find(passage_name_in(match.row_id))
        if found is None:
            return None
        version, place = found
        similarity = 1.0 - match.distance
        return _Place(match.row_id, record, version, place.start_byte, place.end_byte, similarity)

    def _open(self, record: ShelfRecord) -> tuple[SessionCopy, PassageMap]:
        key = (record.shelf, record.catalogue + record.passages)
        with self._lock:
            if key in self._opened:
                self._opened.move_to_end(key)
                return self._opened[key]
        opened = self._shelves.open(record), self._shelves.passages(record)
        with self._lock:
            self._opened[key] = opened
            if len(self._opened) > KEPT_SHELVES:
                self._opened.popitem(last=False)
        return opened


def _ranked(candidates: list[_Candidate], question: str) -> list[ArchiveHit]:
    """By cosine and words, best first."""
    words = rank_texts([each.snippet for each in candidates], question)
    hits = [
        _hit(each, each.place.similarity + _WORDS_WEIGHT * words.get(index, 0.0))
        for index, each in enumerate(candidates)
    ]
    return sorted(hits, key=lambda hit: -hit.score)


def _hit(candidate: _Candidate, score: float) -> ArchiveHit:
    place = candidate.place
    return ArchiveHit(
        session_id=place.record.session,
        version=place.version,
        start_byte=place.start_byte,
        end_byte=place.end_byte,
        snippet=candidate.snippet,
        score=score,
        similarity=place.similarity,
        archived_at=utc_from_ms(place.record.archived_at_ms),
    )


def _ms(instant: datetime | None) -> int | None:
    if instant is None:
        return None
    if instant.tzinfo is None:
        raise InvalidInputError("since or until", "a time with its time zone", instant.isoformat())
    return int(instant.timestamp() * 1000)
