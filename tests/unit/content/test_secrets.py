"""Secrets are taken out of messages; the rest of them stays readable."""

from __future__ import annotations

import time

import pytest

from baton.content.secrets import REDACTED, redact_secrets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key sk-ant-api03-abcDEF_123-xyz was refused", "key [redacted] was refused"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer [redacted]"),
        ("sent Bearer abcdef", "sent Bearer [redacted]"),
        ("redis://user:p%40ss@host:6379/0 is down", "redis://[redacted]@host:6379/0 is down"),
        ("password=hunter2, retrying", "password=[redacted], retrying"),
        ('{"api_key": "se cr et", "n": 1}', '{"api_key": [redacted], "n": 1}'),
        ("DB_PASSWORD='a b' failed", "DB_PASSWORD=[redacted] failed"),
        ("AKIAIOSFODNN7EXAMPLE is no user", "[redacted] is no user"),
        ("push with ghp_abcdefghij0123456789", "push with [redacted]"),
        ("jwt eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0 ends", "jwt [redacted] ends"),
        (
            "x -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- y",
            "x [redacted] y",
        ),
        ("-----BEGIN PRIVATE KEY-----\ncut off", "[redacted]"),
    ],
)
def test_secret_is_taken_out_and_nothing_else(text, expected):
    assert redact_secrets(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "no such thing as a token here",
        "KeyError: 'name' in task 3 of handoff_8a3f19c2",
        "it took 3.2 s: password was not asked for",
        "https://host/path?page=2 and http://host:80/x@y",
        "task-force sk-1",
        "",
    ],
)
def test_text_without_a_secret_stays_as_it_is(text):
    assert redact_secrets(text) == text


@pytest.mark.parametrize(
    "piece", ["sk-", "eyJa.", "password=", "-----BEGIN A PRIVATE KEY-----", "://a:"]
)
def test_time_is_linear_in_hostile_text(piece):
    """Twice the text takes about twice the time, not four times; measured loosely."""

    def seconds(count):
        text = piece * count
        begin = time.process_time()
        redact_secrets(text)
        return time.process_time() - begin

    small = min(seconds(4_000) for _ in range(3))
    large = min(seconds(16_000) for _ in range(3))
    assert large < 12 * small + 0.05


def test_redacting_twice_changes_nothing_more():
    once = redact_secrets("password=hunter2 sk-ant-api03-abcdefgh")
    assert redact_secrets(once) == once
    assert REDACTED in once
