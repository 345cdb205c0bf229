"""Makes an archived session searchable: redacted, cut into passages, embedded, put in the index."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Final

from baton.archive.passage_map import (
    FORMAT,
    PassageMap,
    PassagePlace,
    Redaction,
    VersionMap,
    row_id,
)
from baton.archive.passages import PASSAGE_FORMAT, split_passages
from baton.archive.vector_index import VectorRow
from baton.archive.word_index import words_of
from baton.errors import ColdStoreCorruptError, UnsupportedFormatError
from baton.failpoints import reach
from baton.redaction import compile_rules, find_sensitive, redact_slice, report_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from baton.archive.copies import SessionCopy
    from baton.archive.embedder import Embedder
    from baton.archive.ledger import ShelfRecord
    from baton.archive.shelf_seal import ShelfSeal
    from baton.archive.shelves import Shelves
    from baton.archive.vector_index import VectorIndex
    from baton.store.manifest import Manifest

logger = logging.getLogger(__name__)

EMBEDDED_AT_ONCE: Final = 1_024


@dataclass(frozen=True, slots=True)
class Indexed:
    """What was made searchable.

    Attributes:
        passages: the map.
        name: of the map's segment.
        embedded: how many passages were embedded for it.
    """

    passages: PassageMap
    name: bytes
    embedded: int


class PassageIndexer:
    """Indexes copies. What is embedded already, is not again.

    Args:
        shelves: where maps and words are kept.
        embedder: of one model.
        index: of that model's vectors.
        rules: the user's own, of what must not be searchable: kind -> RE2 pattern.

    Raises:
        RedactionRuleError: a rule is none.
    """

    def __init__(
        self, shelves: Shelves, embedder: Embedder, index: VectorIndex, rules: Mapping[str, str]
    ) -> None:
        self._shelves = shelves
        self._embedder = embedder
        self._index = index
        self._rules = compile_rules(rules.items())
        # What a map depends on beside the content and the model.
        self._manner = [FORMAT, PASSAGE_FORMAT, metadata.version("baton"), dict(rules)]

    @property
    def model_id(self) -> str:
        """Of the embedder."""
        return self._embedder.model_id

    def index_copy(
        self,
        record: ShelfRecord,
        copy: SessionCopy,
        *,
        again: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Indexed:
        """Put the passages of all its versions into the index. Idempotent.

        Args:
            record: of its shelf. Where it has the map of an earlier copy with the same contents,
                that is taken.
            copy: is read and verified, where it is not that.
            again: also what the index should have already.
            progress: told how many of how many passages are embedded.

        Raises:
            RedactionError: nothing more was indexed.
            EmbedderUnavailableError, IndexUnavailableError, IndexCorruptError, IndexModelError:
                some passages may be in; the next call does the rest.
            ColdStoreCorruptError: the copy is not what was stored.
        """
        there = set() if again else self._index.ids(record.shelf)
        passages, embedded = self._same(record, copy, there), 0
        if passages is None:
            passages, embedded = self._made(copy, there, progress)
        reach("archive.indexed")
        return Indexed(passages, self._shelves.put_passages(copy.seal, passages), embedded)

    def _same(self, record: ShelfRecord, copy: SessionCopy, there: set[str]) -> PassageMap | None:
        """The map of the shelf's earlier copy, if it had the same contents and all is in place."""
        if not record.passages:
            return None
        try:
            before = self._shelves.passages(record)
            if before.origins != self._origins(copy):
                return None
            self._shelves.words(record, before)
        except (ColdStoreCorruptError, UnsupportedFormatError) as error:
            logger.warning("session %s: its passages are indexed anew: %s", record.session, error)
            return None
        rows = {row_id(record.shelf, name) for name in before.names}
        return before.renamed(_versions(copy)) if rows <= there else None

    def _made(
        self,
        copy: SessionCopy,
        there: set[str],
        progress: Callable[[int, int], None] | None,
    ) -> tuple[PassageMap, int]:
        """The map made anew, and how many passages were embedded for it."""
        shelf, texts = copy.seal.shelf, dict[str, str]()
        maps = {version: self._version(copy, version, texts) for version in _versions(copy)}
        new = [name for name in texts if row_id(shelf, name) not in there]
        self._put(shelf, new, texts, progress)
        words = words_of([texts[name] for name in sorted(texts)])
        kept = self._shelves.put_words(copy.seal, words)
        return PassageMap(maps, self._origins(copy), kept), len(new)

    def _origins(self, copy: SessionCopy) -> list[str]:
        return [self._origin(copy.manifest(version)) for version in _versions(copy)]

    def _origin(self, manifest: Manifest) -> str:
        made_from = [*self._manner, self.model_id, manifest.content_type, manifest.content_hash]
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()

    def drop_all(self, shelf: str) -> None:
        """Take every row of a shelf out of the index: it must not be searchable any more."""
        self._index.delete_shelf(shelf)

    def drop_others(self, seal: ShelfSeal, passages: PassageMap) -> None:
        """Take rows of a shelf out of the index that its map does not have."""
        kept = {row_id(seal.shelf, name) for name in passages.names}
        gone = self._index.ids(seal.shelf) - kept
        if gone:
            self._index.delete(gone)

    def _version(self, copy: SessionCopy, version: str, texts: dict[str, str]) -> VersionMap:
        """One version's map; the searchable texts of its passages go into `texts`, by name."""
        text = copy.text(version)
        content_type = copy.manifest(version).content_type
        findings = find_sensitive(text, content_type=content_type, rules=self._rules)
        places = []
        for passage in split_passages(text, self._embedder):
            shown = redact_slice(text, findings, passage.start_char, passage.end_char).strip()
            if not shown:
                continue
            name = copy.seal.passage_name(shown)
            texts.setdefault(name, shown)
            places.append(PassagePlace(passage.start_byte, passage.end_byte, name))
        redactions = [
            Redaction(each.start_byte, each.end_byte, each.kind)
            for each in report_of(text, findings).redacted
        ]
        return VersionMap(places, redactions)

    def _put(
        self,
        shelf: str,
        names: list[str],
        texts: dict[str, str],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        # Long ones together with long ones: a batch is padded to its longest.
        names.sort(key=lambda name: len(texts[name]))
        for start in range(0, len(names), EMBEDDED_AT_ONCE):
            batch = names[start : start + EMBEDDED_AT_ONCE]

            def tell(done: int, start: int = start) -> None:
                if progress is not None:
                    progress(start + done, len(names))

            vectors = self._embedder.embed([texts[name] for name in batch], progress=tell)
            self._index.put(
                [
                    VectorRow(row_id(shelf, name), shelf, vector)
                    for name, vector in zip(batch, vectors, strict=True)
                ]
            )


def _versions(copy: SessionCopy) -> list[str]:
    return [each.version for each in copy.dump.versions]
