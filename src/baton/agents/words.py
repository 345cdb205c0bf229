"""The words that carry a text's meaning, for ranking and summaries."""

# ruff: noqa: RUF001  # letters and marks of other scripts are meant

from __future__ import annotations

import itertools
import re
from typing import Final

# Python's \w leaves out the vowel signs of Indic and Thai scripts and combining accents.
_MARKS: Final = "\u0300-\u036f\u0591-\u05c7\u064b-\u0652\u0900-\u0dff\u0e00-\u0eff"
_WORD: Final = re.compile(rf"(?:[^\W_]|[{_MARKS}])+")
# Scripts that put no spaces between words: kana and Chinese characters.
UNSPACED: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNSPACED_RUN: Final = re.compile(f"[{UNSPACED}]+")

_ENGLISH: Final = """
a about above after again against all also am an and any are aren as at be because been before
being below between both but by can cannot could did do does doing don down during each every few
for from further had has have having he her here hers him his how i if in into is isn it its itself
just let ll may me might more most must my no nor not now of off on once only or other our ours out
over own per please re s same shall she should so some such t than that the their theirs them then
there these they this those through to too under until up upon us ve very was we were what when
where which while who whom whose why will with within without would you your yours
"""
_RUSSIAN: Final = """
а без бы был была были было быть в вам вас весь во вот все всё вы где да даже для до его ее её если
есть еще ещё же за и из или им их к как какая какие какой ко когда кто ли мне мы на над нас не него
нее неё нет ни них но о об он она они оно от по под при с со так также там то того тоже только том
ты у уже чем что чтобы эта эти это этот я
"""
_STOP_WORDS: Final = frozenset((_ENGLISH + _RUSSIAN).split())


def content_words(text: str) -> list[str]:
    """The words of `text` in order, lower case, without English and Russian function words."""
    return [word for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS]


def paired(text: str) -> str:
    """`text` with each run of an unspaced script as its pairs of characters, each a word."""
    return _UNSPACED_RUN.sub(_pairs, text)


def _pairs(run: re.Match[str]) -> str:
    found = run.group()
    pairs = map("".join, itertools.pairwise(found)) if len(found) > 1 else (found,)
    return f" {' '.join(pairs)} "
