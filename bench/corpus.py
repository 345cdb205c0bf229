"""Realistic text of any size: passages of this repository, and prose made of its words."""

from __future__ import annotations

import random
import re
from collections import Counter
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
EDIT_BYTES: Final = 1024

_SOURCES: Final = ("*.md", "docs/**/*.md", "src/**/*.py", "src/**/*.lua", "workers/*.py")
_PROSE_SHARE: Final = 0.12
_NAMES: Final = ("Zoë", "François", "Łukasz", "Ирина", "東京", "naïve", "café", "—", "“so”", "€5")


def realistic_text(size_bytes: int, *, seed: int = 1) -> str:
    """Text of exactly `size_bytes` of UTF-8, the same for one checkout and one `seed`.

    Passages come in random order, so that no long run repeats: a store that finds repeated
    chunks gains nothing here. gzip makes it about 3 times smaller.
    """
    rng = random.Random(seed)
    passages = _passages()
    blocks: list[str] = []
    made_bytes = 0
    while made_bytes < size_bytes:
        block = _prose(rng) if rng.random() < _PROSE_SHARE else rng.choice(passages)
        blocks.append(block)
        made_bytes += len(block.encode()) + 2
    data = "\n\n".join(blocks).encode()[:size_bytes]
    text = data.decode(errors="ignore")
    return text + " " * (size_bytes - len(text.encode()))


def ascii_text(size_bytes: int) -> str:
    """As `realistic_text`, in ASCII only."""
    return realistic_text(size_bytes).encode("ascii", "replace").decode()[:size_bytes]


def pieces(text: str, size_bytes: int) -> list[str]:
    """`text` in pieces of `size_bytes` of UTF-8, or up to 3 less at a character's edge."""
    data = text.encode()
    starts = range(0, len(data) - size_bytes + 1, size_bytes)
    return [data[start : start + size_bytes].decode(errors="ignore") for start in starts]


def edited(text: str, number: int, *, at: int | None = None, size: int = EDIT_BYTES) -> str:
    """`text` with `size` characters written anew in ASCII, differently for each `number`.

    They begin at `at`; None: in the middle.
    """
    begin = len(text) // 2 if at is None else at
    return text[:begin] + fresh_text(size, number) + text[begin + size :]


def fresh_text(size: int, number: int) -> str:
    """So many characters of ASCII prose, differently for each `number`."""
    rng = random.Random(number)
    fresh = ""
    while len(fresh) < size:
        fresh += _prose(rng) + "\n"
    return fresh.encode("ascii", "replace").decode()[:size]


def with_lines_changed(text: str, changes: int, *, side: int) -> str:
    """`text` with so many lines written anew, evenly spread; 0 and 1, two sides that never touch.

    It needs `8 * changes` lines.
    """
    lines = text.split("\n")
    stride = len(lines) // changes
    rng = random.Random(side)
    for change in range(changes):
        # The sides have a quarter of each stride to themselves, and a quarter's gap to the other.
        at = change * stride + side * stride // 2 + rng.randrange(stride // 4)
        lines[at] = _prose(rng)
    return "\n".join(lines)


def _prose(rng: random.Random) -> str:
    words, cumulative = _vocabulary()
    sentences = []
    for _ in range(rng.randint(3, 8)):
        chosen = rng.choices(words, cum_weights=cumulative, k=rng.randint(6, 20))
        if rng.random() < 0.05:
            chosen.append(rng.choice(_NAMES))
        sentences.append(" ".join(chosen).capitalize() + ".")
    return " ".join(sentences)


@cache
def _passages() -> tuple[str, ...]:
    files = sorted({path for pattern in _SOURCES for path in ROOT.glob(pattern)})
    texts = (path.read_text(encoding="utf-8") for path in files)
    return tuple(part for text in texts for part in text.split("\n\n") if part.strip())


@cache
def _vocabulary() -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Words of the repository, and their cumulative counts."""
    counts = Counter(re.findall(r"[A-Za-z][a-z]{1,11}", " ".join(_passages())))
    words = sorted(counts)
    return tuple(words), tuple(accumulate(counts[word] for word in words))
