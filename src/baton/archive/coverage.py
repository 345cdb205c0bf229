"""How much of a question's words passages hold, rare words counting more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from baton.archive.word_index import WordIndex


def coverage(
    words: Sequence[str], indexes: Sequence[tuple[WordIndex, int]]
) -> list[NDArray[np.float32]]:
    """For each index, an array over its passages: the share of the words' weight that each holds.

    From 0 to 1. A word's weight is its inverse document frequency as BM25 has it,
    ln(1 + (N - n + 0.5) / (n + 0.5)), where n of all N passages hold it (Robertson and Zaragoza,
    "The Probabilistic Relevance Framework", 2009, with Lucene's 1 that keeps it above 0). A word
    that no passage holds has none.

    Args:
        words: `question_words`.
        indexes: word indexes, and how many passages each has.
    """
    total = sum(count for _, count in indexes)
    held = [np.zeros(count, np.float32) for _, count in indexes]
    whole = 0.0
    for word in words:
        holders = [index.holders(word) for index, _ in indexes]
        count = sum(map(len, holders))
        if not count:
            continue
        weight = math.log(1 + (total - count + 0.5) / (count + 0.5))
        whole += weight
        for array, some in zip(held, holders, strict=True):
            array[some] += weight
    return [array / whole for array in held] if whole else held
