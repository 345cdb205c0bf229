"""Passages: they tile any text, fit the window, and change only near what changed."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baton.archive.boundaries import find_boundaries
from baton.archive.passages import PASSAGE_FORMAT, split_passages
from baton.errors import InvalidTextError
from bench.corpus import fresh_text, realistic_text

MEGABYTE = 1_000_000

_RUNS = st.sampled_from(
    ["a", " ", "\n", "\r\n", "\n\n", "{'k': [1, 2]}, ", "字", "。", "👩‍👩‍👧", "é",
     "e\u0301", "x" * 150, "A sentence of seven words stands here. ", "# Heading\n", "\t", "0.123,",
     "เ", "\u2028"]
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=500),
    st.lists(st.tuples(_RUNS, st.integers(1, 400)), max_size=12).map(
        lambda runs: "".join(piece * count for piece, count in runs)
    ),
)


def check_tiling(text, passages):
    places = [(p.start_byte, p.end_byte, p.start_char, p.end_char) for p in passages]
    data = text.encode()
    assert [place[0] for place in places] == [0, *(place[1] for place in places)][:-1]
    assert [place[2] for place in places] == [0, *(place[3] for place in places)][:-1]
    assert (places[-1][1], places[-1][3]) == (len(data), len(text)) if text else places == []
    for p in passages:
        assert p.end_char > p.start_char
        assert data[p.start_byte : p.end_byte].decode() == text[p.start_char : p.end_char]


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_passages_leave_out_no_byte_of_any_text(embedder, text):
    """The ranges follow each other from the first byte to the last, at characters' edges."""
    check_tiling(text, split_passages(text, embedder))


@settings(max_examples=30, deadline=None)
@given(TEXTS)
def test_passages_part_no_line_ending_and_no_character_from_its_marks(embedder, text):
    """A cut stands neither inside CR LF nor before a combining mark or after a joiner."""
    for passage in split_passages(text, embedder)[1:]:
        before, after = text[passage.start_char - 1], text[passage.start_char]
        assert (before, after) != ("\r", "\n")
        assert before != "\u200d"
        assert after not in "\u200d\u0301"


@pytest.fixture(scope="module")
def megabyte():
    return realistic_text(MEGABYTE)


def test_passages_of_real_text_mostly_have_30_to_64_tokens(embedder, megabyte):
    """None is above the model's window, and few are below the aim."""
    passages = split_passages(megabyte, embedder)
    sizes = [len(s) for s in embedder.token_starts([p.text_in(megabyte) for p in passages])]
    assert max(sizes) <= embedder.max_tokens
    assert sum(size < 30 for size in sizes) <= len(sizes) // 50


def test_an_edit_changes_only_passages_near_it(embedder, megabyte):
    """Wherever 100 characters are put in, taken out or replaced, few passages are new."""
    old = {p.text_in(megabyte) for p in split_passages(megabyte, embedder)}
    rng = random.Random(5)
    for number in range(4):
        at = rng.randrange(len(megabyte) - 100)
        edit = ["", fresh_text(100, number), fresh_text(3, number)][number % 3]
        text = megabyte[:at] + edit + megabyte[at + 100 * (number % 2) :]
        new = [p for p in split_passages(text, embedder) if p.text_in(text) not in old]
        assert len(new) <= 30
        assert all(abs(p.start_char - at) < 60_000 for p in new)


def test_passages_are_the_same_in_every_process(embedder, megabyte):
    """Another process, with another hash seed, cuts at the same places."""
    text = megabyte[:200_000]
    code = """
import sys
import numpy as np
from tokenizers import Tokenizer
from baton.archive.model_folder import find_model_folder
from baton.archive.passages import split_passages
class Tokens:
    max_tokens = 254
    def token_starts(self, texts):
        tokenizer = Tokenizer.from_file(str(find_model_folder(None) / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        found = tokenizer.encode_batch(texts, add_special_tokens=False)
        return [np.array([start for start, _ in each.offsets], np.int64) for each in found]
print([p.end_byte for p in split_passages(sys.stdin.buffer.read().decode(), Tokens())])
"""
    said = subprocess.run(
        [sys.executable, "-c", code], input=text.encode(), capture_output=True, check=True
    )
    assert json.loads(said.stdout) == [p.end_byte for p in split_passages(text, embedder)]


def test_passages_of_a_known_text_stay_where_they_are(embedder):
    """Who moves a cut gives the format a new number: stored passage maps depend on it."""
    text = "".join(
        f"# Part {n}\n\nOf part {n} there is little to say. It has {n * 7} words, {n % 5} new.\n"
        f"Another line, of another thought: {n * n}!\n\n"
        for n in range(200)
    )
    ends = [p.end_char for p in split_passages(text, embedder)]
    assert (PASSAGE_FORMAT, hashlib.sha256(json.dumps(ends).encode()).hexdigest()[:16]) == (
        1, "94953a3e66f999ac",
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("ab" * 1_500_000, id="one word"),
        pytest.param(
            json.dumps([{"id": n, "v": n / 7} for n in range(20_000)]), id="JSON in a line"
        ),
        pytest.param("字" * 200_000, id="one character"),
        pytest.param("👩‍👩‍👧" * 50_000, id="emoji"),
        pytest.param(" " * 1_000_000, id="spaces"),
    ],
)
def test_passages_of_large_odd_texts_stay_small(embedder, text):
    """Text without sentences, words or lines is cut all the same, at most 4,000 characters long."""
    passages = split_passages(text, embedder)
    check_tiling(text, passages)
    assert max(p.end_char - p.start_char for p in passages) <= 1_000


def test_a_lone_surrogate_is_refused(embedder):
    """Text that UTF-8 cannot hold has no byte ranges."""
    with pytest.raises(InvalidTextError):
        split_passages("a\ud800b", embedder)


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("one two. Three four", "Three"),
        ("one, two\nthree four", "three"),
        ("line\nline two\n\npara", "para"),
        ("para\n\nmore. text\n# Head", "# Head"),
        ("こんにちは。世界", "世界"),
        ('He said "go." Then left', "Then"),
    ],
)
def test_the_best_cut_is_at_the_strongest_boundary(text, cut):
    """A heading is before a blank line, that before a line, a sentence, a clause and a word."""
    assert find_boundaries(text).best(1, len(text)) == text.index(cut)
