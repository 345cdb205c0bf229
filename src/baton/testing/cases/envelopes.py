"""Cases: contexts leave and enter as the protocol's JSON envelope (H6, H7, H9, H11, H14)."""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any, get_args

from baton.envelope.model import ROOT, WireCodec
from baton.errors import (
    BatonError,
    ContextCorruptError,
    ContextTooLargeError,
    InvalidInputError,
    SessionExistsError,
    UnsupportedFormatError,
)
from baton.settings import MIB
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error
from baton.testing.texts import long_text

if TYPE_CHECKING:
    from baton.testing.kit import Kit

case = CaseGroup("envelopes")


@case
def context_comes_back_from_its_envelope(kit: Kit) -> None:
    """Content, version, metadata and checkpoints, by every compression."""
    text, source = long_text(MIB + 50_000), kit.session("source")
    kit.store.put(source, text, agent_id="a", version="2.1.0", metadata={"model": "sonnet"})
    kit.store.checkpoint(source, "here", agent_id="a", byte_position=0, checkpoint_id="cp")
    for codec in get_args(WireCodec):
        target = kit.session(codec)
        envelope = b"".join(kit.store.export_envelope(source, compression=codec))
        kit.store.import_envelope(envelope, agent_id="b", session_id=target)
        found = kit.open_store().get(target)
        expect(found.content == text, f"the content to come back by {codec}")
        expect_equal((found.version, found.metadata["model"]), ("2.1.0", "sonnet"), "the version")
        labels = [each.label for each in kit.store.checkpoints(target)]
        expect_equal(labels, ["here"], "the checkpoints")


@case
def envelope_names_its_session_and_hash(kit: Kit) -> None:
    """It is one JSON object that says what it holds."""
    session_id = kit.session()
    commit = kit.store.put(session_id, "text", agent_id="a")
    envelope = json.loads(b"".join(kit.store.export_envelope(session_id)))[ROOT]
    found = (envelope["session_id"], envelope["content_hash"], envelope["content_size_bytes"])
    expect_equal(found, (session_id, commit.content_hash, 4), "the envelope")


@case
def import_begins_a_session_and_never_overwrites_one(kit: Kit) -> None:
    """On top of a session that is there it takes a base version."""
    session_id, document = kit.session(), _document(kit)
    kit.store.put(session_id, "mine", agent_id="a")
    with expect_error(SessionExistsError, session_id):
        kit.store.import_envelope(document, agent_id="b", session_id=session_id)
    expect_equal(kit.store.get(session_id).content, "mine", "the content")
    commit = kit.store.import_envelope(
        document, agent_id="b", session_id=session_id, base_version="1.0.0"
    )
    expect_equal(commit.version, "1.0.1", "the version")
    expect_equal(kit.store.get(session_id).author, "b", "the author")


@case
def immutable_flag_travels(kit: Kit) -> None:
    """A session that took no writes takes none where it arrives."""
    document, session_id = _document(kit), kit.session()
    document[ROOT]["flags"]["immutable"] = True
    kit.store.import_envelope(document, agent_id="b", session_id=session_id)
    expect_equal(kit.store.show(session_id).flags, ("immutable",), "the flags")


@case
def envelope_of_an_unknown_protocol_is_refused(kit: Kit) -> None:
    """What a newer writer means by its fields is not guessed (H14)."""
    for version in ("2.0.0", "1.1.0"):
        document = _document(kit)
        document[ROOT]["version"] = version
        _check_refused(kit, document, UnsupportedFormatError, version)


@case
def envelope_with_unknown_or_missing_fields_is_refused_by_path(kit: Kit) -> None:
    """Nothing is dropped in silence."""
    document = _document(kit)
    document[ROOT]["surprise"] = 1
    _check_refused(kit, document, InvalidInputError, "surprise")
    document = _document(kit)
    del document[ROOT]["chunks"][0]["offset_bytes"]
    _check_refused(kit, document, InvalidInputError, "chunks[0].offset_bytes")


@case
def envelope_whose_hash_or_bytes_differ_is_refused(kit: Kit) -> None:
    """Content that is not what the header says is never stored (H8)."""
    document = _document(kit)
    document[ROOT]["content_hash"] = f"sha256:{'0' * 64}"
    _check_refused(kit, document, ContextCorruptError, "content_hash")
    document = _document(kit)
    chunk = document[ROOT]["chunks"][0]
    chunk["content"] = _gzipped(b"X" * chunk["size_bytes"])
    _check_refused(kit, document, ContextCorruptError, "")


@case
def envelope_with_chunks_missing_doubled_or_swapped_is_refused(kit: Kit) -> None:
    """Chunks are counted, numbered and placed (H9)."""
    document = _document(kit, MIB + 50_000)
    first, second = document[ROOT]["chunks"]
    for chunks in ([first], [second], [second, first], [first, first], [first, second, second], []):
        document[ROOT]["chunks"] = chunks
        _check_refused(kit, document, (ContextCorruptError, InvalidInputError), "chunk")


@case
def envelope_with_a_bomb_is_refused(kit: Kit) -> None:
    """A chunk that unpacks to more than it declares is not unpacked (H6)."""
    document = _document(kit)
    document[ROOT]["chunks"][0]["content"] = _gzipped(bytes(32 * MIB))
    _check_refused(kit, document, ContextCorruptError, "chunks[0]")


@case
def envelope_with_a_second_member_or_a_tail_is_refused(kit: Kit) -> None:
    """A chunk is one gzip member and nothing behind it; empty is none (H7)."""
    document = _document(kit)
    chunk = document[ROOT]["chunks"][0]
    packed = base64.b64decode(chunk["content"])
    for stored in (packed + gzip.compress(b"more"), packed + b"tail", b"", packed[:-3]):
        chunk["content"] = base64.b64encode(stored).decode()
        _check_refused(kit, document, ContextCorruptError, "chunks[0]")


@case
def envelope_that_declares_too_much_is_refused_before_it_is_read(kit: Kit) -> None:
    """A declared gigabyte is refused by its number (H11)."""
    document = _document(kit)
    document[ROOT]["content_size_bytes"] = 1 << 30
    _check_refused(kit, document, ContextTooLargeError, "content_size_bytes")


@case
def document_that_is_no_envelope_is_refused(kit: Kit) -> None:
    """Broken, nested without end or with keys given twice: a typed error (H12)."""
    for text in (
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"context_envelope": {"version": NaN}}',
        b'{"context_envelope": {}, "context_envelope": {}}',
        b'{"context_envelope": ' + b"[" * 100_000,
    ):
        _check_refused(kit, text, BatonError, "")


def _document(kit: Kit, size_bytes: int = 2_000) -> dict[str, Any]:
    """A parsed envelope, as another deployment could have sent it."""
    session_id = kit.session(f"origin{size_bytes}")
    if not kit.store.exists(session_id):
        kit.store.put(session_id, long_text(size_bytes), agent_id="a")
    document: dict[str, Any] = json.loads(b"".join(kit.store.export_envelope(session_id)))
    return document


def _gzipped(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data)).decode()


def _check_refused(
    kit: Kit, document: Any, kind: type[Exception] | tuple[type[Exception], ...], naming: str
) -> None:
    """It is refused by that error, and no session is begun."""
    target, store = kit.session("target"), kit.open_store(max_context_bytes=16 * MIB)
    with expect_error(kind, naming):
        store.import_envelope(document, agent_id="b", session_id=target)
    expect(not store.exists(target), "nothing to be stored")
