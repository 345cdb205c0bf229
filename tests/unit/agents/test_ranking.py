"""Ranking: passages with exact byte ranges, found by BM25 in many scripts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.agents import ranking
from baton.agents.ranking import MAX_PASSAGE_CHARS, PassageIndex, passage_spans
from baton.errors import InvalidTextError, RunnerError

FILLER = "Nothing of interest is said in this sentence about gardens. " * 12


def only(passages):
    assert len(passages) == 1
    return passages[0]


@given(st.text(st.sampled_from("ab .\n#é漢🎈\r\t"), max_size=400), st.integers(1, 40))
def test_passage_spans_cover_all_but_white_space(piece, times):
    """Passages are in order, within their bound, and lose no character but white space."""
    text = piece * times
    spans = list(passage_spans(text))
    at = 0
    for start, end in spans:
        assert at <= start < end <= len(text)
        assert end - start <= MAX_PASSAGE_CHARS
        assert not text[at:start].strip()
        at = end
    assert not text[at:].strip()


def test_passage_spans_prefer_a_heading_then_a_paragraph():
    """A passage ends before a heading if there is one in reach, else after a paragraph."""
    text = "x" * 650 + "\n\n" + "y" * 100 + "\n## Next\n" + "z" * 600
    pieces = [text[start:end] for start, end in passage_spans(text)]
    assert pieces[1].startswith("## Next")
    text = "x" * 650 + "\n\n" + "y y " * 300
    first, *_ = passage_spans(text)
    assert first == (0, 650)


@given(
    st.lists(
        st.sampled_from(["retry ", "запуск. ", "漢字。", "🎈\n\n", "# é\n", "zz "]), max_size=800
    )
)
def test_search_gives_passages_whose_bytes_are_their_text(pieces):
    """Every passage's byte range holds exactly its text."""
    text = "".join(pieces)
    data = text.encode()
    for passage in PassageIndex(text).search("retry запуск 漢字", limit=50):
        assert data[passage.start_byte : passage.end_byte].decode() == passage.text
        assert passage.score > 0


def test_search_ranks_the_passage_about_the_query_first():
    """A passage that holds the rare words outranks those with one common word."""
    text = "\n\n".join(
        [FILLER + "Leases.", FILLER + "Leases are renewed by one thread.", FILLER + "A thread."]
    )
    best, *others = PassageIndex(text).search("How are leases renewed by a thread?")
    assert "Leases are renewed" in best.text
    assert all(best.score > other.score for other in others)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("The workers retried it.", "retrying a worker"),
        ("Перезапуск сервера прошёл.", "ПЕРЕЗАПУСК"),
        ("Un café à côté.", "CAFE"),
        ("東京都の天気は晴れです。", "東京の天気"),
        ("हिन्दी में लिखा है", "हिन्दी"),
        ("snake_case_name = 1", "case_name"),
        ("A NUL \0 inside retry", "retry"),
    ],
)
def test_search_finds_words_in_any_script_and_form(text, query):
    """Case, accents, English endings and scripts without spaces do not hide a match."""
    assert only(PassageIndex(text).search(query)).text == text


@pytest.mark.parametrize(
    "query",
    [
        '" OR *',
        "NEAR(a b) AND NOT (",
        "body:x ^ - + {}",
        "''; DROP TABLE passages",
        "'",
        "",
        "the of",
    ],
)
def test_search_takes_any_query_as_plain_words(query):
    """No query is an operator or an error; without content words nothing is found."""
    index = PassageIndex("Unrelated gardens.")
    assert index.search(query) == []
    assert only(index.search("gardens"))


def test_search_bounds_the_words_of_a_query():
    """A query of a hundred thousand words is cut, not refused."""
    query = " ".join(f"w{number}" for number in range(100_000))
    assert len(PassageIndex("w3 w63").search(query)) == 1
    assert PassageIndex("w64").search(query) == []
    assert PassageIndex("漢" * 50 + "字" * 50).search("漢字" * 10_000)


def test_search_breaks_ties_by_position():
    """Equal passages come in the order of the text, as many as asked for."""
    text = "\n\n".join(["retry " + "x" * 700] * 8)
    found = PassageIndex(text).search("retry", limit=3)
    assert [passage.start_byte for passage in found] == [0, 708, 1416]


def test_search_of_an_empty_text_finds_nothing():
    """A text without words has no passages."""
    for text in ("", " \n\t "):
        index = PassageIndex(text)
        assert (len(index), index.search("anything")) == (0, [])


def test_index_refuses_a_lone_surrogate():
    """Text that has no bytes cannot have byte ranges."""
    with pytest.raises(InvalidTextError):
        PassageIndex("a\ud800")


def test_index_serves_many_threads():
    """Searches from many threads at once give the same answer as one alone."""
    index = PassageIndex("\n\n".join(f"{FILLER} topic{number % 7}" for number in range(200)))
    expected = index.search("topic3", limit=10)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: index.search("topic3", limit=10), range(200)))
    assert all(answer == expected for answer in answers)


def test_index_says_so_where_sqlite_cannot_rank(monkeypatch):
    """A SQLite without the ranking module is a RunnerError that says what to do."""
    monkeypatch.setattr(ranking, "_SCHEMA", ranking._SCHEMA.replace("fts5", "fts9"))
    with pytest.raises(RunnerError, match=r"no such module: fts9.*whose sqlite3 has FTS5"):
        PassageIndex("text")
