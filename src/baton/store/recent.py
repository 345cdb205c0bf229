"""Contents that this process has just written: what the next write of the same session builds on.

An edit of a large context then costs what it changes, besides one look at all of it: cuts and names
of unchanged chunks are taken over, and hashing goes on from the last mark before the change.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from baton.settings import MIB
from baton.store.forks import renew_in_children

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES: Final = 64 * MIB
MARK_EVERY_BYTES: Final = MIB

# A hashlib hasher: `copy`, `update`, `hexdigest`.
Hasher = Any


@dataclass(frozen=True, slots=True)
class RecentText:
    """One version's UTF-8, and hashers of its beginnings, one each `MARK_EVERY_BYTES`."""

    data: bytes
    marks: tuple[Hasher, ...]


def hash_from(
    data: bytes, new_hasher: Callable[[], Hasher], before: RecentText | None, common_bytes: int
) -> tuple[Hasher, tuple[Hasher, ...]]:
    """A hasher of all of `data`, and its marks; what it has in common with `before` is not redone.

    `common_bytes`: how many bytes both begin with.
    """
    known = 0 if before is None else min(common_bytes // MARK_EVERY_BYTES, len(before.marks))
    marks = list(before.marks[:known]) if before is not None else []
    hasher = marks[-1].copy() if marks else new_hasher()
    view = memoryview(data)
    for start in range(known * MARK_EVERY_BYTES, len(data), MARK_EVERY_BYTES):
        piece = view[start : start + MARK_EVERY_BYTES]
        hasher.update(piece)
        if len(piece) == MARK_EVERY_BYTES:
            marks.append(hasher.copy())
    return hasher, tuple(marks)


class RecentTexts:
    """Recent contents by etag, bounded in bytes, the least recently used dropped first."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._texts: OrderedDict[str, RecentText] = OrderedDict()
        self.renew_after_fork()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """A lock of its own for a forked child, and the sum, which may have been amid a change."""
        self._lock = threading.Lock()
        self._size_bytes = sum(len(text.data) for text in self._texts.values())

    def find(self, etag: str) -> RecentText | None:
        """The content of the version with that etag, if it is here."""
        with self._lock:
            text = self._texts.get(etag)
            if text is not None:
                self._texts.move_to_end(etag)
            return text

    def keep(self, etag: str, text: RecentText, instead_of: str) -> None:
        """Remember a version's content, and forget the one it took the place of."""
        with self._lock:
            for stale in (instead_of, etag):
                dropped = self._texts.pop(stale, None)
                self._size_bytes -= len(dropped.data) if dropped is not None else 0
            if len(text.data) > self._max_bytes:
                return
            self._texts[etag] = text
            self._size_bytes += len(text.data)
            while self._size_bytes > self._max_bytes:
                _, oldest = self._texts.popitem(last=False)
                self._size_bytes -= len(oldest.data)
