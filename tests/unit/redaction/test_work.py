"""Redaction's work is in proportion to the text, whatever the text: counted, not timed."""

from __future__ import annotations

import json
import random
import re

import pytest

from baton.redaction import find_sensitive, redact, redacting, scanning, values
from baton.redaction.finding import WITHHELD
from baton.redaction.subject import Subject
from bench.redaction_attacks import attacks

_MARK = "[REDACTED_WITHHELD]"
# RE2 gives its automaton up where it gets too large for its memory, and so it does where much that
# is counted may begin at any place. Such numbers belong into the judges.
_MOST_COUNTED = 40
_COUNTED = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_ATTACKS = attacks(150_000)


class _Counter:
    """Counts the anchors that are found, and the units of those that are looked at."""

    def __init__(self, monkeypatch):
        self.anchors = self.units = 0
        original = scanning._anchors

        def anchors(*arguments):
            for anchor in original(*arguments):
                self.anchors += 1
                yield anchor

        monkeypatch.setattr(scanning, "_anchors", anchors)
        watched = [self._watched(each) for each in redacting._DETECTORS.all]
        monkeypatch.setattr(redacting, "_DETECTORS", scanning.Detectors(watched))

    def _watched(self, detector):
        def judge(*arguments):
            self.units += detector.units
            return detector.judge(*arguments)

        return detector._replace(judge=judge)


@pytest.mark.parametrize("name", _ATTACKS)
def test_looks_and_anchors_stay_within_the_allowance(name, monkeypatch):
    text = _ATTACKS[name]
    counter = _Counter(monkeypatch)
    find_sensitive(text)
    size = len(text.encode())
    allowed = scanning.BURST_UNITS + size // scanning.BYTES_PER_UNIT
    stretches = 2 * size // scanning.STRETCH_BYTES + 1
    assert counter.units <= allowed
    # Each anchor costs units, and one a stretch is found that is not paid for.
    assert counter.anchors <= allowed / min(4, scanning.ANCHOR_UNITS) + stretches


def test_what_a_judge_owes_is_taken_from_the_allowance():
    """A long table is one anchor, and each of its rows is paid for."""
    text = "name,password\n" + "bob,x9!abc\n" * 400
    allowance = scanning.Allowance()
    list(scanning.scan(Subject(text), [redacting._DETECTORS], allowance))
    assert allowance.spent >= 400


def test_anchors_and_cues_count_little():
    """A flood of what begins anew while it is counted would have RE2 fall back to a slow engine."""
    for detector in redacting._DETECTORS.all:
        for pattern in (detector.cue, detector.anchor.pattern.decode()):
            counted = [int(most or least) for least, most in _COUNTED.findall(pattern)]
            assert max(counted, default=0) <= _MOST_COUNTED, pattern


@pytest.mark.parametrize("seed", range(8))
def test_text_that_is_cut_within_characters_is_redacted(seed):
    """A stretch or a finding that ends within a character is no failure."""
    parts = ["密码", "是", "：", "x1!", "，", "パスワード", "password=", "é"]
    text = "".join(random.Random(seed).choices(parts, k=6_000))
    at = 0
    for finding in find_sensitive(text):
        assert at <= finding.start < finding.end <= len(text)
        at = finding.end


def _logins(count, share):
    """A document of which a share of the entries, the first ones, have passwords."""
    quiet = {"note": "nothing of interest, at some length", "place": "a hall in the old town"}
    return [
        {"user": f"user{n}", "password": f"x9!abc{n}"} if n < count * share else quiet
        for n in range(count)
    ]


def test_json_of_which_most_is_too_dense_becomes_one_string():
    text = json.dumps(_logins(20_000, 1))
    (finding,) = find_sensitive(text)
    assert (finding.kind, finding.start, finding.end) == (WITHHELD, 0, len(text))
    assert json.loads(redact(text, [finding])) == _MARK


def test_lines_of_json_that_are_too_dense_become_one_line_of_json():
    text = "\n".join(json.dumps(each) for each in _logins(20_000, 1))
    assert json.loads(redact(text, find_sensitive(text))) == _MARK


@pytest.mark.parametrize("indent", [None, 1])
def test_json_of_which_a_part_is_too_dense_keeps_its_keys_and_the_rest(indent):
    document = _logins(30_000, 0.2)
    text = json.dumps(document, indent=indent)
    findings = find_sensitive(text)
    redacted = json.loads(redact(text, findings))
    assert [each.keys() for each in redacted] == [each.keys() for each in document]
    assert redacted[-1] == document[-1]
    assert "x9!abc" not in json.dumps(redacted)
    assert len(findings) < 2_000


def test_a_list_and_a_table_that_are_too_long_are_withheld_to_their_ends():
    many = values.MAX_LISTED + 200
    listed = json.dumps(
        {
            "by": "ann@example.org",
            "passwords": [f"x9!abc{n}" for n in range(many)],
            "note": "the end",
        }
    )
    table = (
        "by ann@example.org\n\nuser,password\n"
        + "".join(f"bob,x9!abc{n}\n" for n in range(many))
        + "\nthe end\n"
    )
    for text in (listed, table):
        redacted = redact(text, find_sensitive(text))
        assert "x9!abc" not in redacted
        assert "the end" in redacted
        assert "ann@example.org" not in redacted
    assert json.loads(redact(listed, find_sensitive(listed)))["note"] == "the end"
