"""Finding and taking out: offsets, slices, reports, JSON, a user's rules, failures."""

from __future__ import annotations

import json
import pickle

import pytest

from baton.errors import PermanentError, RedactionError, RedactionRuleError
from baton.redaction import (
    compile_rules,
    find_sensitive,
    redact,
    redact_slice,
    sanitize_for_archival,
    scanning,
)
from baton.redaction import redacting as module
from baton.redaction.finding import WITHHELD

_GITHUB = "ghp_" + "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zA1b2C"


def test_offsets_are_characters_of_the_original():
    text = "日本語 é\U0001f511 password=Geheim#9 Ende"
    (finding,) = find_sensitive(text)
    assert text[finding.start : finding.end] == "Geheim#9"
    assert redact(text, [finding]) == "日本語 é\U0001f511 password=[REDACTED_PASSWORD] Ende"


def test_a_slice_replaces_what_it_cuts_as_a_whole():
    text = "a password=hunter2! b"
    findings = find_sensitive(text)
    inside = text.index("nter")
    assert redact_slice(text, findings, 0, inside) == "a password=[REDACTED_PASSWORD]"
    assert redact_slice(text, findings, inside, len(text)) == "[REDACTED_PASSWORD] b"
    assert redact_slice(text, findings, inside, inside + 1) == "[REDACTED_PASSWORD]"
    assert redact_slice(text, findings, 0, 1) == "a"


def test_a_report_says_what_was_where_and_never_the_secret():
    text = f"first line\ntoken: {_GITHUB}\ncard 4111 1111 1111 1111\n"
    sanitized = sanitize_for_archival(text)
    assert [(each.kind, each.rule, each.line) for each in sanitized.report.redacted] == [
        ("api_key", "github", 2),
        ("credit_card", "luhn", 3),
    ]
    assert sanitized.report.counts == {"api_key": 1, "credit_card": 1}
    assert _GITHUB not in sanitized.text
    assert _GITHUB not in repr(sanitized.report)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"api_key": "sk-1", "n": 1}', {"api_key": "[REDACTED_API_KEY]", "n": 1}),
        ('{"card": 4111111111111111}', {"card": "[REDACTED_CREDIT_CARD]"}),
        ('{"log": "a\\npassword=x9!y\\nb"}', {"log": "a\npassword=[REDACTED_PASSWORD]\nb"}),
        ('{"password": "a\\"b\\\\"}', {"password": "[REDACTED_PASSWORD]"}),
        ('{"a@b.co": "a@b.co"}', {"a@b.co": "[REDACTED_EMAIL]"}),
        ('{"n": "p\\u00e4ss", "password": "gr\\u00fcn7"}', {"n": "päss"}),
    ],
)
def test_in_json_values_are_replaced_and_keys_stay(text, expected):
    redacted = json.loads(redact(text, find_sensitive(text, content_type="application/json")))
    assert {**redacted, **expected} == redacted


def test_text_that_only_claims_to_be_json_is_redacted_as_plain_text():
    text = '{"password": "hunter2!", oops'
    assert "hunter2" not in redact(text, find_sensitive(text, content_type="application/json"))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('password="it\'s-a-secret"', "s-a-secret"),
        ('password = "pa\\"ss"', "ss"),
    ],
)
def test_no_tail_of_a_quoted_password_is_left(text, left):
    assert left not in redact(text, find_sensitive(text)).replace("password", "")


def test_a_quote_that_is_never_closed_swallows_no_prose():
    text = 'password="x9!abc\nThis is prose.\nAnd more.'
    assert "This is prose.\nAnd more." in redact(text, find_sensitive(text))


def test_a_users_rule_redacts_under_its_own_name():
    rules = compile_rules([("employee", r"\bEMP-\d{4}\b"), ("größe", r"x")][:1])
    text = "ask EMP-1234 or EMP-12345, über EMP-0001"
    redacted = redact(text, find_sensitive(text, rules=rules))
    assert redacted == "ask [REDACTED_EMPLOYEE] or EMP-12345, über [REDACTED_EMPLOYEE]"


def test_a_users_rule_never_splits_a_character():
    rules = compile_rules([("byte", r"\C")])
    assert redact("é日", find_sensitive("é日", rules=rules)) == "[REDACTED_BYTE]" * 2


@pytest.mark.parametrize(
    "pairs",
    [
        [("mine", r"(a")],
        [("mine", r"(?=a)b")],
        [("mine", "")],
        [("mine", "a*")],
        [("mine", "x" * 1_001)],
        [("mine", "((a{100}){100}){100}")],
        [("mine", "\ud800")],
        [("mine", "a"), ("mine", "b")],
    ],
)
def test_a_refused_rule_is_named(pairs):
    with pytest.raises(RedactionRuleError, match="redaction rule mine: expected"):
        compile_rules(pairs)


def test_a_refused_name_is_shown_and_the_error_travels():
    with pytest.raises(RedactionRuleError) as raised:
        compile_rules([("not a name", "a")])
    assert "not a name" in str(raised.value)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)  # noqa: S301


def test_whatever_fails_is_one_error_that_does_not_quote_the_text(monkeypatch):
    def fail(*_):
        raise RuntimeError("password=hunter2!")

    monkeypatch.setattr(module, "scan", fail)
    with pytest.raises(RedactionError) as raised:
        find_sensitive("password=hunter2!")
    assert isinstance(raised.value, PermanentError)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_a_text_too_dense_to_look_through_is_withheld(monkeypatch):
    monkeypatch.setattr(scanning, "BURST_UNITS", 0)
    text = "password=hunter2! " * 5_000 + "quiet words " * 2_000
    findings = find_sensitive(text)
    redacted = redact(text, findings)
    assert WITHHELD in {finding.kind for finding in findings}
    assert "hunter2" not in redacted
    assert redacted.endswith("quiet words ")


def test_anchors_that_are_looked_at_stay_in_proportion_to_the_text(monkeypatch):
    """The price of a text is RE2's pass and the looks; four times the text has four times both."""
    looks = []
    for size in (1, 4):
        count = _count_looks(monkeypatch, "password=password=x1! " * 20_000 * size)
        looks.append(count)
    burst = scanning.BURST_UNITS
    assert looks[1] <= 4 * looks[0] + burst


def _count_looks(monkeypatch, text):
    looked = 0
    original = scanning._anchors

    def counting(*arguments):
        nonlocal looked
        for anchor in original(*arguments):
            looked += 1
            yield anchor

    with monkeypatch.context() as patched:
        patched.setattr(scanning, "_anchors", counting)
        find_sensitive(text)
    return looked
