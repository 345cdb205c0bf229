from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from baton.envelope.model import make_header
from baton.errors import (
    InvalidIdError,
    InvalidInputError,
    InvalidTextError,
    InvalidVersionError,
    UnsupportedFormatError,
)
from envelopes import INSTANT, full_header_of, header_of

DATA = "naïve café ☕".encode()
CHECKPOINT = {
    "checkpoint_id": "cp",
    "token_position": 1,
    "byte_position": 4,
    "label": "",
    "timestamp": INSTANT,
}


def refused(**fields):
    with pytest.raises(InvalidInputError) as caught:
        header_of(DATA, **fields)
    return caught.value


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2025-11-30T14:23:45.123Z", datetime(2025, 11, 30, 14, 23, 45, 123_000, UTC)),
        ("2025-11-30T14:23:45", datetime(2025, 11, 30, 14, 23, 45, 0, UTC)),
        ("2025-11-30T14:23:45.123456", datetime(2025, 11, 30, 14, 23, 45, 123_456, UTC)),
        ("2025-11-30T14:23:45+01:30", datetime(2025, 11, 30, 12, 53, 45, 0, UTC)),
        (
            datetime(2025, 11, 30, 14, tzinfo=timezone(timedelta(hours=2))),
            datetime(2025, 11, 30, 12, tzinfo=UTC),
        ),
    ],
    ids=str,
)
def test_instants_are_utc(text, instant):
    """With a zone or, as the protocol's own examples have them, without."""
    header = header_of(DATA, created_at=text)
    assert header.created_at == instant
    assert header.created_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        ("2025-11-30T14:23:45Z", "2025-11-30T14:23:45.000Z"),
        ("2025-11-30T14:23:45.120Z", "2025-11-30T14:23:45.120Z"),
        ("2025-11-30T14:23:45.123456Z", "2025-11-30T14:23:45.123456Z"),
    ],
)
def test_instants_are_written_as_the_protocol_has_them(instant, text):
    """In milliseconds, or microseconds where these would be lost."""
    assert header_of(DATA, updated_at=instant).model_dump(mode="json")["updated_at"] == text


@pytest.mark.parametrize(
    "instant",
    [
        "", "now", "1701346425", 1701346425, 1.5, True, None, "2025-11-30", "2025-02-30T00:00:00Z",
        "2025-11-30 14:23:45Z", "2025-11-30T24:00:00Z", "2025-11-30T14:23:60Z",
        "0001-01-01T00:00:00+23:59", "2025-11-30T14:23:45+99:99", "2025-11-30T14:23:45Z\n",
        datetime(2025, 11, 30),  # noqa: DTZ001  # that is the point
    ],
    ids=repr,
)  # fmt: skip
def test_instants_of_another_form_are_refused(instant):
    """Numbers too, whose unit one would have to guess."""
    assert refused(created_at=instant).field == "created_at"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"session_id": "a:b"}, "session_id"),
        ({"agent_id": ""}, "agent_id"),
        ({"agent_role": "haiku worker"}, "agent_role"),
        (
            {"checkpoints": [{**CHECKPOINT, "checkpoint_id": "../x"}]},
            "checkpoints[0].checkpoint_id",
        ),
        (
            {"dependencies": [{"session_id": "s", "agent_id": "a\n", "content_type": "t"}]},
            "dependencies[0].agent_id",
        ),
    ],
)
def test_ids_are_held_to_their_form(fields, path):
    """By `check_id`, wherever they stand."""
    error = refused(**fields)
    assert isinstance(error, InvalidIdError)
    assert error.field == path


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"byte_position": len(DATA) + 1}, "checkpoints[1].byte_position"),
        ({"token_position": len(DATA) // 4 + 1}, "checkpoints[1].token_position"),
        ({"checkpoint_id": "cp"}, "checkpoints[1].checkpoint_id"),
        ({"label": 5}, "checkpoints[1].label"),
        ({"label": "x" * 1_001}, "checkpoints[1].label"),
        ({"note": "x"}, "checkpoints[1].note"),
    ],
)
def test_checkpoints_are_inside_the_content_and_distinct(change, path):
    """Their fields are named by the whole path."""
    second = {**CHECKPOINT, "checkpoint_id": "other", **change}
    assert refused(checkpoints=[CHECKPOINT, second]).field == path


def test_a_checkpoint_may_stand_at_the_end():
    """Resuming from there reads nothing."""
    end = {**CHECKPOINT, "byte_position": len(DATA), "token_position": len(DATA) // 4}
    assert header_of(DATA, checkpoints=[end]).checkpoints[0].byte_position == len(DATA)


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({"model": 5}, "metadata.model"),
        ({"temperature": "1.0"}, "metadata.temperature"),
        ({"temperature": float("nan")}, "metadata.temperature"),
        ({"max_tokens": -1}, "metadata.max_tokens"),
        ({"top_p": True}, "metadata.top_p"),
        ({"baton": {"content_type": "text/html"}}, "metadata.baton.content_type"),
        ({"baton": {"contextversion": "1.0.0"}}, "metadata.baton.contextversion"),
        ({"x": float("inf")}, "metadata"),
        ({"x": object()}, "metadata"),
        ({"x": 10**5_000}, "metadata"),
        ({"x": {5: 6}}, "metadata"),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, str) else "",
)
def test_metadata_is_json_and_its_known_fields_have_types(metadata, path):
    """Whatever else it is, one wrong value refuses it."""
    assert refused(metadata=metadata).field == path


def test_metadata_keeps_what_we_do_not_know():
    """Down to a null; and known fields may be null."""
    given = {"model": None, "purpose": {"of": [None, "x"]}, "run": None}
    header = header_of(DATA, metadata=given)
    assert header.metadata.model_dump(mode="json", exclude_unset=True) == given


def test_metadata_refuses_lone_surrogates():
    """As text that no UTF-8 has."""
    assert isinstance(refused(metadata={"x": "\ud800"}), InvalidTextError)


@pytest.mark.parametrize("version", ["1.1.0", "2.0.0", "0.9.9"])
def test_other_versions_of_the_protocol_are_another_format(version):
    """They are refused as such, whatever else is wrong."""
    with pytest.raises(
        UnsupportedFormatError, match=rf"format {version}; this Baton reads 1\.0\.x"
    ):
        header_of(DATA, version=version, session_id=5)


@pytest.mark.parametrize("version", ["1", "1.0", "1.0.0-rc", "01.0.0", "", "x"])
def test_malformed_versions_are_invalid(version):
    """The protocol's, and the context's in our metadata."""
    assert isinstance(refused(version=version), InvalidVersionError)
    error = refused(metadata={"baton": {"context_version": version}})
    assert isinstance(error, InvalidVersionError)
    assert error.field == "metadata.baton.context_version"


@pytest.mark.parametrize(
    "digest", ["sha256:", "md5:00", "SHA256:" + "0" * 64, "sha256:" + "A" * 64]
)
def test_hashes_are_sha256_in_lower_case_hex(digest):
    """Twelve digits can be forged; two spellings would be two hashes."""
    assert refused(content_hash=digest).field == "content_hash"


@pytest.mark.parametrize("size", [-1, 1.0, True, "5", None, 2**53])
def test_sizes_are_integers_that_json_keeps(size):
    """From 0 to 2**53 - 1."""
    assert refused(content_size_bytes=size).field == "content_size_bytes"


def test_missing_and_unknown_fields_are_named():
    """What is missing first."""
    with pytest.raises(InvalidInputError, match=r"^session_id: expected a value, got <nothing>$"):
        make_header()
    assert "contents: expected no such field" in str(refused(contents="x"))


@pytest.mark.parametrize(
    "hostile",
    ["<x\nFORGED line", "x\nFORGED line", "<" + "x" * 10_000],
    ids=["tag", "line", "long"],
)
def test_refusals_neither_forge_lines_nor_flood(hostile):
    """A value is shown escaped and cut, a key too."""
    for error in (
        refused(session_id=hostile),
        refused(created_at=hostile),
        refused(**{hostile: 1}),
        refused(metadata={"model": [hostile]}),
    ):
        assert "\n" not in str(error)
        assert len(str(error)) < 300


def test_headers_do_not_change():
    """Neither they nor their parts."""
    header = full_header_of(DATA)
    for part, name in (
        (header, "session_id"),
        (header.flags, "immutable"),
        (header.metadata, "model"),
    ):
        with pytest.raises(ValidationError):
            setattr(part, name, "x")
