"""Redaction of any text and of any JSON: it ends, it cuts alike, and JSON stays what it was."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.redaction import (
    compile_rules,
    find_sensitive,
    json_text,
    redact,
    redact_slice,
    sanitize_for_archival,
    scanning,
)
from redaction_samples import samples

_SAMPLES = [sample.text for sample in samples()]
_WORDS = st.sampled_from(
    [
        "password",
        "=",
        ": ",
        "hunter2!",
        '"',
        "\\",
        "\n",
        "é",
        "a@b.co",
        "日",
        "4111111111111111",
        "{",
    ]
)
_TEXTS = st.one_of(
    st.text(),
    st.sampled_from(_SAMPLES),
    st.lists(st.one_of(_WORDS, st.text(max_size=3))).map("".join),
)
_KEYS = st.one_of(st.sampled_from(["password", "api_key", "token", "n"]), st.text(max_size=8))
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([4111111111111111, 123456789, 12345678]),
    st.floats(allow_nan=False, allow_infinity=False),
    _TEXTS,
)
_DOCUMENTS = st.recursive(
    _VALUES,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(_KEYS, inner, max_size=5)),
    max_leaves=20,
).filter(lambda document: isinstance(document, dict | list))
_RULES = compile_rules([("anything", r"..")])


def _shape(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _shape(value) for key, value in document.items()}
    return [_shape(each) for each in document] if isinstance(document, list) else None


@given(_DOCUMENTS, st.booleans(), st.sampled_from([None, 2]))
def test_json_that_is_redacted_parses_and_has_the_same_keys(document, ascii_only, indent):
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    redacted = redact(text, find_sensitive(text, content_type="application/json"))
    assert _shape(json.loads(redacted)) == _shape(document)


@given(_DOCUMENTS, st.booleans())
def test_json_stays_valid_under_a_rule_that_matches_everything(document, ascii_only):
    text = json.dumps(document, ensure_ascii=ascii_only)
    redacted = redact(text, find_sensitive(text, rules=_RULES))
    assert _shape(json.loads(redacted)) == _shape(document)


@given(st.lists(_DOCUMENTS, min_size=1, max_size=30), st.booleans())
def test_json_too_dense_to_look_through_stays_valid(documents, ascii_only):
    text = json.dumps(documents, ensure_ascii=ascii_only)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scanning, "BURST_UNITS", -1)
        patched.setattr(scanning, "BYTES_PER_UNIT", 10**9)
        patched.setattr(scanning, "STRETCH_BYTES", 50)
        patched.setattr(json_text, "MOST_WITHHELD", 1)
        findings = find_sensitive(text)
    assert _shape(json.loads(redact(text, findings))) == _shape(documents)
    assert all(one.end <= two.start for one, two in pairwise(findings))


@given(st.lists(_DOCUMENTS, min_size=2, max_size=4))
def test_lines_of_json_stay_lines_of_json(documents):
    text = "\n".join(json.dumps(each) for each in documents)
    redacted = redact(text, find_sensitive(text, content_type="application/x-ndjson"))
    lines = [json.loads(line) for line in redacted.split("\n")]
    assert [_shape(line) for line in lines] == [_shape(each) for each in documents]


@given(_TEXTS)
def test_findings_ascend_and_do_not_overlap(text):
    at = 0
    for finding in find_sensitive(text, rules=_RULES):
        assert at <= finding.start < finding.end <= len(text)
        at = finding.end


@given(_TEXTS, st.data())
def test_a_slice_shows_what_the_whole_shows_between_the_same_findings(text, data):
    findings = find_sensitive(text)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    shown = redact_slice(text, findings, start, end)
    cut = [f for f in findings if f.start < end and f.end > start]
    outside, at = [], start
    for finding in cut:
        outside.append(text[at : max(at, finding.start)])
        at = finding.end
    outside.append(text[at:end])
    expected = outside[0]
    for finding, piece in zip(cut, outside[1:], strict=True):
        expected += finding.replacement + piece
    assert shown == expected


@given(_TEXTS)
def test_a_report_places_what_was_redacted(text):
    sanitized = sanitize_for_archival(text)
    encoded = text.encode(errors="surrogatepass")
    for each in sanitized.report.redacted:
        secret = text[each.start_char : each.end_char]
        assert encoded[each.start_byte : each.end_byte].decode(errors="surrogatepass") == secret
        assert each.line == text.count("\n", 0, each.start_char) + 1
    assert sum(sanitized.report.counts.values()) == len(sanitized.report.redacted)
