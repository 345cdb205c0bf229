"""The vector index contract: which archived passages are near a vector.

The index is derived data. It holds vectors, random shelf ids and passage keys, never a text, a
session's name or a byte range, and is made anew from the cold store when it is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class VectorRow:
    """A passage's vector. `row_id` is unique in the index, `shelf` says whose it is."""

    row_id: str
    shelf: str
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Match:
    """A row near a vector; `distance` is 1 - cosine: 0 the same direction, 1 unrelated."""

    row_id: str
    shelf: str
    distance: float


@dataclass(frozen=True, slots=True)
class IndexHealth:
    """What a check found.

    Attributes:
        rows: that the index says it holds; None where it did not answer.
        healthy: the probe was found, and every sampled row was found by its own vector.
        reason: what is wrong; empty when healthy.
        rebuild: it will not heal by itself: `clear` it and put every row again.
    """

    rows: int | None
    healthy: bool
    reason: str = ""
    rebuild: bool = False


class VectorIndex(Protocol):
    """Rows of vectors of one model.

    Every call ends within the index's deadline (calls of many rows: each batch does). Calls of
    several threads take turns. An index may be used by a forked child of the process that made
    it: the child opens it anew.

    Raises (every method but `check` and `close`):
        IndexUnavailableError: the index did not answer in time, its disk is full, or its server is
            away. What was asked may have been done in part; every method may be repeated.
        ArchiveBusyError: another process has the index's folder open.
        IndexCorruptError: the index's files are damaged; `clear` it and put every row again.
        IndexModelError: the index holds vectors of another model; likewise.
    """

    def put(
        self, rows: Sequence[VectorRow], *, progress: Callable[[int], None] | None = None
    ) -> None:
        """Store rows, in place of those of the same ids. Idempotent; atomic for no more than a row.

        What was put is found by `find` once this returns. `progress` is told how many are in.

        Raises:
            InvalidInputError: a vector has not the model's dimensions or is not finite, an id is
                given twice or is empty. Nothing was stored.
        """

    def find(
        self,
        vector: NDArray[np.float32],
        limit: int,
        *,
        shelves: Collection[str] | None = None,
    ) -> list[Match]:
        """The rows nearest to `vector`, nearest first, at most `limit`; approximate.

        Args:
            vector: of the model's dimensions.
            limit: from 1 to 1000.
            shelves: only of these; None: of all. Empty: no row.
        """

    def similarities(
        self, vector: NDArray[np.float32], row_ids: Collection[str]
    ) -> dict[str, float]:
        """The cosine of each row with `vector`, exact; rows that are not there are left out.

        Raises:
            InvalidInputError: the vector is not finite.
        """

    def ids(self, shelf: str) -> set[str]:
        """The ids of all rows of `shelf`; empty for an unknown one."""

    def delete(self, row_ids: Collection[str]) -> None:
        """Remove rows; those that are not there are skipped. Idempotent."""

    def delete_shelf(self, shelf: str) -> None:
        """Remove all rows of `shelf`. Idempotent; repeated after a failure, it does the rest."""

    def count(self) -> int:
        """How many rows there are."""

    def check(self) -> IndexHealth:
        """Whether rows are found by their vectors. Changes nothing but the index's own probe.

        Raises nothing that is listed above: it is in the answer.
        """

    def clear(self) -> None:
        """Remove everything, whatever state or model the index is in; it is empty and usable then.

        Idempotent. Raises neither IndexCorruptError nor IndexModelError.
        """

    def close(self) -> None:
        """Let go of the folder or the connection. Idempotent; a later call opens it again."""
