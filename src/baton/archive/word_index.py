"""Which of a session's passages hold a word: finds what vectors are too vague for.

Names, numbers and rare words stand out less in a vector the more passages there are. SQLite's FTS5
keeps the words, in memory: it ships with Python, stems English, folds case and accents in every
script. Chinese and Japanese, which put no spaces between words, are kept as pairs of characters.
"""

from __future__ import annotations

import sqlite3
import weakref
from typing import TYPE_CHECKING, Final

import numpy as np

from baton.agents.words import content_words, paired
from baton.content.blob import pack_blob, unpack_blob
from baton.errors import ColdStoreCorruptError, ContextCorruptError
from baton.settings import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAX_QUESTION_WORDS: Final = 64
_MAX_BYTES: Final = 1024 * MIB
# Which passages hold a word is all that is kept: neither how often, nor where.
_SCHEMA: Final = (
    "CREATE VIRTUAL TABLE passages USING fts5(body, content='', detail=none, columnsize=0, "
    "tokenize='porter unicode61 remove_diacritics 2')"
)


class WordIndex:
    """The words of passages, which are told by their places in the list it was made of.

    Attributes:
        size_bytes: of memory.
    """

    def __init__(self, database: sqlite3.Connection, size_bytes: int) -> None:
        self._database = database
        self.size_bytes = size_bytes
        weakref.finalize(self, database.close)

    @classmethod
    def from_bytes(cls, stored: bytes) -> WordIndex:
        """What `words_of` gave.

        Raises:
            ColdStoreCorruptError: it is none.
        """
        database = _open()
        try:
            plain = unpack_blob(stored, limit_bytes=_MAX_BYTES)
            database.deserialize(plain)
            database.execute("SELECT rowid FROM passages WHERE passages MATCH 'a'")
        except (ContextCorruptError, sqlite3.Error) as error:
            database.close()
            raise ColdStoreCorruptError(f"a word index is damaged ({error})") from error
        return cls(database, len(plain))

    def holders(self, word: str) -> NDArray[np.int64]:
        """The passages that hold one of `question_words`, or another form of it, ascending."""
        rows = self._database.execute(
            "SELECT rowid FROM passages WHERE passages MATCH ?", (f'"{word}"',)
        )
        return np.fromiter((row for (row,) in rows), np.int64)


def words_of(texts: Sequence[str]) -> bytes:
    """The words of passages as they are stored: about a tenth of the texts' size (measured)."""
    database = _open()
    try:
        database.execute(_SCHEMA)
        with database:
            database.executemany(
                "INSERT INTO passages(rowid, body) VALUES (?, ?)",
                ((place, paired(text)) for place, text in enumerate(texts)),
            )
            database.execute("INSERT INTO passages(passages) VALUES ('optimize')")
        database.execute("VACUUM")
        return pack_blob(database.serialize(), "zstd")
    finally:
        database.close()


def question_words(question: str) -> list[str]:
    """The words of a question to look for: each once, none that says nothing, at most 64."""
    words = paired(" ".join(content_words(question))).split()
    return list(dict.fromkeys(words))[:MAX_QUESTION_WORDS]


def _open() -> sqlite3.Connection:
    # Threads take turns at the archive.
    return sqlite3.connect(":memory:", check_same_thread=False)
