"""The words of passages: found in any form, stored as bytes, weighed by how rare they are."""

from __future__ import annotations

import math

import pytest

from baton.archive.coverage import coverage
from baton.archive.word_index import MAX_QUESTION_WORDS, WordIndex, question_words, words_of
from baton.errors import ColdStoreCorruptError

TEXTS = ("The painter repaired a fence.", "Café ZQ-7781 opens", "東京都の天気", "a fence, fences")


@pytest.fixture
def index():
    return WordIndex.from_bytes(words_of(TEXTS))


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("repairing", [0]),
        ("CAFE", [1]),
        ("7781", [1]),
        ("京都", [2]),
        ("fence", [0, 3]),
        ("東", []),
        ("elephant", []),
    ],
)
def test_a_word_is_found_in_any_form(index, question, expected):
    """Other endings, other case, no accents; Chinese and Japanese by pairs of characters."""
    (word,) = question_words(question)
    assert index.holders(word).tolist() == expected


def test_a_question_is_its_words():
    """Each once, none that says nothing, nothing that the index takes for an operator."""
    question = 'Where is "the fence" OR NEAR(fence) AND the  東京都?'
    assert question_words(question) == ["fence", "near", "東京", "京都"]
    assert question_words("who is it?") == []
    many = " ".join(f"word{number}" for number in range(100))
    assert len(question_words(many)) == MAX_QUESTION_WORDS


def test_no_passages_have_no_words():
    """An index of nothing is one."""
    index = WordIndex.from_bytes(words_of([]))
    assert index.holders("fence").tolist() == []
    assert coverage(["fence"], [(index, 0)])[0].tolist() == []


@pytest.mark.parametrize("damage", [b"", b"none", words_of(TEXTS)[:-1]])
def test_damaged_words_are_an_error(damage):
    """Not an index that finds nothing."""
    with pytest.raises(ColdStoreCorruptError):
        WordIndex.from_bytes(damage)


def test_rare_words_weigh_more(index):
    """By the formula, over all indexes together; a word that is nowhere weighs nothing."""
    other = WordIndex.from_bytes(words_of(["a fence", "nothing"]))
    shares, others = coverage(["fence", "cafe", "elephant"], [(index, 4), (other, 2)])
    fence = math.log(1 + (6 - 3 + 0.5) / 3.5)
    cafe = math.log(1 + (6 - 1 + 0.5) / 1.5)
    assert shares.tolist() == pytest.approx(
        [fence / (fence + cafe), cafe / (fence + cafe), 0, fence / (fence + cafe)]
    )
    assert others.tolist() == pytest.approx([fence / (fence + cafe), 0])
