"""What the tools read of the context: exact ranges of bytes, and passages by relevance."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from baton.agents.anthropic.delimiting import delimited
from baton.agents.anthropic.tools import MAX_PASSAGES, MAX_READ_BYTES
from baton.agents.excerpt import byte_range
from baton.agents.memo import Memo
from baton.agents.ranking import PassageIndex
from baton.content.chunking import character_start
from baton.content.text import encode_text
from baton.errors import InvalidInputError

if TYPE_CHECKING:
    from baton.agents.runner import Assignment

INDEX_MEMORY_BYTES: Final = 64 * 1024 * 1024
_INDEX_SHARE: Final = 2  # an index counts as twice its text, as in the offline runner


class ContextReader:
    """Shared by all threads: the bytes and the index of a context are made once."""

    def __init__(self) -> None:
        self._bytes: Memo[bytes] = Memo(INDEX_MEMORY_BYTES)
        self._indexes: Memo[PassageIndex] = Memo(INDEX_MEMORY_BYTES)

    def read(self, assignment: Assignment, start: int, end: int) -> str:
        """The text from byte `start` on, up to `end`, at most 32 KiB of it, in whole characters.

        Raises:
            InvalidInputError: the range is empty, or begins beyond the context.
        """
        text = assignment.context
        data = self._bytes.get(
            assignment.context_hash, sys.getsizeof(text), lambda: encode_text(text, "context")
        )
        if not start < end:
            raise InvalidInputError("end", f"above start ({start})", end)
        if start >= len(data):
            raise InvalidInputError("start", f"below the context's {len(data)} bytes", start)
        first = character_start(data, start)
        last = character_start(data, min(end, first + MAX_READ_BYTES, len(data)))
        if last <= first:  # within one character
            last = min(len(data), first + 1)
            while character_start(data, last) != last:
                last += 1
        piece = delimited("context", data[first:last].decode())
        return f"[bytes {first}-{last}] of {len(data)}:\n{piece}"

    def search(self, assignment: Assignment, query: str) -> str:
        """The best passages for the words of `query`.

        Raises:
            RunnerError: this Python's SQLite cannot rank text.
        """
        text = assignment.context
        index = self._indexes.get(
            assignment.context_hash,
            sys.getsizeof(text) * _INDEX_SHARE,
            lambda: PassageIndex(text),
        )
        found = index.search(query, MAX_PASSAGES)
        if not found:
            return "No passage of the context holds any of these words."
        return "\n\n".join(
            f"{byte_range(each)}:\n{delimited('context', each.text)}" for each in found
        )
