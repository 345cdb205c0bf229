"""Makes an archived session searchable: redacted, cut into passages, embedded, put in the index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.archive.passage_map import (
    PassageMap,
    PassagePlace,
    Redaction,
    VersionMap,
    row_id,
)
from baton.archive.passages import split_passages
from baton.archive.vector_index import VectorRow
from baton.failpoints import reach
from baton.redaction import find_sensitive, redact_slice, report_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.archive.copies import SessionCopy
    from baton.archive.embedder import Embedder
    from baton.archive.shelf_seal import ShelfSeal
    from baton.archive.vector_index import VectorIndex
    from baton.redaction import Rules

EMBEDDED_AT_ONCE: Final = 1_024


@dataclass(frozen=True, slots=True)
class Indexed:
    """What was made searchable: the map, and how many passages were embedded for it."""

    passages: PassageMap
    embedded: int


class PassageIndexer:
    """Indexes copies. What is embedded already, is not again.

    Args:
        embedder: of one model.
        index: of that model's vectors.
        rules: the user's own, of what must not be searchable.
    """

    def __init__(self, embedder: Embedder, index: VectorIndex, rules: Rules) -> None:
        self._embedder = embedder
        self._index = index
        self._rules = rules

    @property
    def model_id(self) -> str:
        """Of the embedder."""
        return self._embedder.model_id

    def index_copy(
        self,
        copy: SessionCopy,
        *,
        again: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Indexed:
        """Put the passages of all its versions into the index. Idempotent.

        Args:
            copy: is read and verified.
            again: also what the index should have already.
            progress: told how many of how many passages are embedded.

        Raises:
            RedactionError: nothing more was indexed.
            EmbedderUnavailableError, IndexUnavailableError, IndexCorruptError, IndexModelError:
                some passages may be in; the next call does the rest.
            ColdStoreCorruptError: the copy is not what was stored.
        """
        texts: dict[str, str] = {}
        versions = {}
        for each in copy.dump.versions:
            versions[each.version] = self._version(copy, each.version, texts)
        shelf = copy.seal.shelf
        there = set() if again else self._index.ids(shelf)
        new = [name for name in texts if row_id(shelf, name) not in there]
        self._put(shelf, new, texts, progress)
        reach("archive.indexed")
        return Indexed(PassageMap(versions), len(new))

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
