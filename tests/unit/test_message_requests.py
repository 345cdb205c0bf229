"""What Celery messages may ask of the store is checked before anything is done."""

from __future__ import annotations

import pytest

from baton.errors import InvalidInputError
from baton.store.requests import StoreRequest, parse_request

BY = {"session_id": "s", "agent_id": "a"}
ENVELOPE = {"context_envelope": {}}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", "2.0.0"),
        ("bump", "minor"),
        ("policy", "merge"),
        ("metadata", {}),
        ("content_type", "text/plain"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_an_envelope_takes_no_word_of_what_it_brings_itself(field, value):
    """It would be passed over in silence; the field is named, whatever its value."""
    with pytest.raises(InvalidInputError, match=f"^{field}: expected nothing beside an envelope"):
        parse_request(StoreRequest, {**BY, "envelope": ENVELOPE, field: value})


def test_an_envelope_goes_on_a_base_and_under_a_name():
    given = {"envelope": ENVELOPE, "base_version": "1.0.0", "operation_id": "o", "version": None}
    request = parse_request(StoreRequest, {**BY, **given})
    assert (request.base_version, request.operation_id) == ("1.0.0", "o")


@pytest.mark.parametrize("given", [{}, {"content": "x", "envelope": ENVELOPE}], ids=["none", "two"])
def test_a_message_holds_content_or_an_envelope(given):
    with pytest.raises(InvalidInputError, match=r"^content: expected either it or envelope"):
        parse_request(StoreRequest, BY | given)


@pytest.mark.parametrize("what", [{"content": "secret"}, {"envelope": ENVELOPE}], ids=list)
def test_nothing_sealed_comes_by_message(what):
    """The broker would hold it in clear; the error says who can store it, and shows none of it."""
    with pytest.raises(InvalidInputError, match=r"^sealed: .*`baton context put --sealed`") as said:
        parse_request(StoreRequest, {**BY, **what, "sealed": True})
    assert "secret" not in str(said.value)


def test_what_was_refused_stays_out_of_the_error():
    """Of a field of the wrong type, the type is told: errors become results and logs."""
    with pytest.raises(InvalidInputError, match=r"^content: .*<dict>"):
        parse_request(StoreRequest, {**BY, "content": {"secret": "x"}})
