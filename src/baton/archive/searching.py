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
CANDIDATES_PER_HIT: Final = 4
MIN_CANDIDATES: Final = 40
KEPT_SHELVES: Final = 64
# Reciprocal rank fusion: Cormack, Clarke and Buettcher, SIGIR 2009, with their constant.
_FUSION: Final = 60.0
# Of the words' ranking: a question in other words than the passage's must not lose by it.
_WORDS_WEIGHT: Final = 0.5


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
        score: of the fused ranking; comparable within one search.
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
class _Candidate:
    record: ShelfRecord
    version: str
    start_byte: int
    end_byte: int
    snippet: str
    similarity: float


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
        return _fused(candidates, question)[:limit]

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
            found = [each for each in map(self._opened_match, matches) if each is not None]
            if len(found) >= wanted or len(matches) < asked or asked >= MAX_MATCHES:
                return found[:wanted]
            asked = min(MAX_MATCHES, asked * 4)

    def _opened_match(self, match: Match) -> _Candidate | None:
        """A match unsealed; None where its session is not in the archive, or not searchable."""
        record = self._shelves.ledger.find(match.shelf)
        if record is None or record.state != "archived" or record.index_state != "indexed":
            return None
        copy, passages = self._open(record)
        found = passages.find(passage_name_in(match.row_id))
        if found is None:
            return None
        version, place = found
        plain = copy.part(version, place.start_byte, place.end_byte)
        return _Candidate(
            record,
            version,
            place.start_byte,
            place.end_byte,
            passages.shown(version, place.start_byte, plain).strip(),
            1.0 - match.distance,
        )

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


def _fused(candidates: list[_Candidate], question: str) -> list[ArchiveHit]:
    """Both rankings as one, best first."""
    scores = [1.0 / (_FUSION + rank) for rank in range(len(candidates))]
    for rank, index in enumerate(rank_texts([each.snippet for each in candidates], question)):
        scores[index] += _WORDS_WEIGHT / (_FUSION + rank)
    order = sorted(range(len(candidates)), key=lambda index: -scores[index])
    return [_hit(candidates[index], scores[index]) for index in order]


def _hit(candidate: _Candidate, score: float) -> ArchiveHit:
    return ArchiveHit(
        session_id=candidate.record.session,
        version=candidate.version,
        start_byte=candidate.start_byte,
        end_byte=candidate.end_byte,
        snippet=candidate.snippet,
        score=score,
        similarity=candidate.similarity,
        archived_at=utc_from_ms(candidate.record.archived_at_ms),
    )


def _ms(instant: datetime | None) -> int | None:
    if instant is None:
        return None
    if instant.tzinfo is None:
        raise InvalidInputError("since or until", "a time with its time zone", instant.isoformat())
    return int(instant.timestamp() * 1000)
