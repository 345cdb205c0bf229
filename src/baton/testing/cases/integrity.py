"""Cases: what is not what was stored is never served (B6, H6-H9, H14). They damage sessions."""

from __future__ import annotations

import gzip
import hashlib
from typing import TYPE_CHECKING

from baton.errors import ContextCorruptError, UnsupportedFormatError
from baton.settings import MIB
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error
from baton.testing.raw import flipped, places
from baton.testing.texts import long_text

if TYPE_CHECKING:
    from baton.testing.kit import Kit
    from baton.testing.raw import RawSession

case = CaseGroup("integrity")


@case
def flipped_bit_of_a_chunk_is_found(kit: Kit) -> None:
    """Anywhere in it (B6, H8)."""
    raw = _stored(kit, "s", long_text(20_000))
    reader = kit.open_store()
    for key in raw.chunk_keys():
        stored = raw.client.get(key)
        for position in places(stored):
            raw.put_chunk(key, flipped(stored, position, position % 8))
            with expect_error(ContextCorruptError, raw.keys.session_id):
                reader.get(raw.keys.session_id)
        raw.put_chunk(key, stored)
    expect(reader.get(raw.keys.session_id).content == long_text(20_000), "the text, mended")


@case
def flipped_bit_of_a_manifest_is_found(kit: Kit) -> None:
    """Anywhere in it (B6)."""
    raw = _stored(kit, "s", "some text")
    stored = raw.stored_manifest("1.0.0")
    for position in places(stored, 60):
        raw.client.hset(raw.keys.manifests, "1.0.0", flipped(stored, position))
        with expect_error(ContextCorruptError):
            kit.open_store().get(raw.keys.session_id)
    raw.client.hset(raw.keys.manifests, "1.0.0", stored)
    expect_equal(kit.open_store().get(raw.keys.session_id).content, "some text", "the text")


@case
def missing_chunk_is_found(kit: Kit) -> None:
    """Nothing is served of a version that is not whole (B5, H9)."""
    raw = _stored(kit, "s", long_text(300_000))
    raw.client.unlink(raw.chunk_keys()[1])
    _check_refused(kit, raw)


@case
def swapped_chunks_are_found(kit: Kit) -> None:
    """Each in the other's place (H9)."""
    raw = _stored(kit, "s", long_text(300_000))
    one, other = raw.chunk_keys()[:2]
    first, second = raw.client.get(one), raw.client.get(other)
    raw.put_chunk(one, second)
    raw.put_chunk(other, first)
    _check_refused(kit, raw)


@case
def doubled_chunk_is_found(kit: Kit) -> None:
    """One in the place of the next (H9)."""
    raw = _stored(kit, "s", long_text(300_000))
    one, other = raw.chunk_keys()[:2]
    raw.put_chunk(other, raw.client.get(one))
    _check_refused(kit, raw)


@case
def chunk_of_another_session_is_found(kit: Kit) -> None:
    """As well formed as it is (H9)."""
    raw, other = _stored(kit, "s", "text of s"), _stored(kit, "t", "text of t")
    raw.put_chunk(raw.chunk_keys()[0], raw.client.get(other.chunk_keys()[0]))
    _check_refused(kit, raw)


@case
def chunk_of_another_version_is_found(kit: Kit) -> None:
    """An old text in the place of the new one (H9)."""
    raw = _stored(kit, "s", "the old text")
    kit.store.put(raw.keys.session_id, "the new text", agent_id="a")
    old, new = raw.chunk_keys()
    raw.put_chunk(new, raw.client.get(old))
    _check_refused(kit, raw)


@case
def manifest_of_another_session_or_version_is_found(kit: Kit) -> None:
    """A valid manifest in a place that is not its own."""
    raw, other = _stored(kit, "s", "one"), _stored(kit, "t", "one")
    kit.store.put(raw.keys.session_id, "two", agent_id="a")
    mine = raw.stored_manifest("1.0.0")
    raw.put_manifest("1.0.1", other.stored_manifest("1.0.0"))
    _check_refused(kit, raw)
    raw.put_manifest("1.0.1", mine)
    _check_refused(kit, raw)


@case
def missing_manifest_is_found_by_readers_and_writers(kit: Kit) -> None:
    """Nobody writes on top of what is damaged (B5)."""
    raw = _stored(kit, "s", "one")
    raw.client.hdel(raw.keys.manifests, "1.0.0")
    _check_refused(kit, raw)
    with expect_error(ContextCorruptError, raw.keys.session_id):
        kit.open_store().put(raw.keys.session_id, "two", agent_id="a")


@case
def missing_container_is_found_by_a_writer(kit: Kit) -> None:
    """Versions that are left are not written over (B5)."""
    raw = _stored(kit, "s", "one")
    raw.client.unlink(raw.keys.base)
    with expect_error(ContextCorruptError, raw.keys.session_id):
        kit.open_store().put(raw.keys.session_id, "two", agent_id="a", operation_id="op")
    # What was on its way in would expire, but only after this run.
    raw.client.unlink(f"{raw.keys.staging_prefix('op')}0")


@case
def damaged_container_is_found(kit: Kit) -> None:
    """Its head, its etag, its time and its state."""
    raw = _stored(kit, "s", "one")
    container = raw.client.hgetall(raw.keys.base)
    for field, wrong in (
        ("head", b"\xff"),
        ("head", b"x"),
        ("head_etag", b"\xfe"),
        ("head_at", b"soon"),
        ("state", b"?"),
    ):
        raw.client.hset(raw.keys.base, field, wrong)
        _check_refused(kit, raw)
        raw.client.hset(raw.keys.base, field, container[field.encode()])
    expect_equal(kit.open_store().get(raw.keys.session_id).content, "one", "the text, mended")


@case
def manifest_of_an_unknown_format_is_refused_by_name(kit: Kit) -> None:
    """What a newer Baton wrote is not guessed (H14)."""
    raw = _stored(kit, "s", "one")
    header, _, body = raw.stored_manifest("1.0.0").partition(b"\n")
    body = body.replace(b'"format":2', b'"format":3')
    etag = hashlib.sha256(body).hexdigest().encode()
    raw.put_manifest("1.0.0", etag + header[64:] + b"\n" + body)
    with expect_error(UnsupportedFormatError, "format 3"):
        kit.open_store().get(raw.keys.session_id)


@case
def bomb_in_the_place_of_a_chunk_is_refused(kit: Kit) -> None:
    """What unpacks to more than was stored is not unpacked (H6)."""
    raw = _stored(kit, "s", long_text(20_000))
    raw.put_chunk(raw.chunk_keys()[0], gzip.compress(bytes(32 * MIB)))
    _check_refused(kit, raw)


@case
def second_member_tail_and_emptiness_of_a_chunk_are_refused(kit: Kit) -> None:
    """A chunk is one gzip member, whole, with nothing behind it (H7)."""
    raw = _stored(kit, "s", long_text(20_000))
    key = raw.chunk_keys()[0]
    stored = raw.client.get(key)
    for wrong in (stored + gzip.compress(b"more"), stored + b"tail", stored[:-7], b""):
        raw.put_chunk(key, wrong)
        _check_refused(kit, raw)


@case
def range_and_envelope_of_damaged_content_are_refused(kit: Kit) -> None:
    """No way of reading serves what was not stored (B6)."""
    raw = _stored(kit, "s", long_text(300_000))
    for key in raw.chunk_keys():
        stored = raw.client.get(key)
        raw.put_chunk(key, flipped(stored, len(stored) // 2))
    session_id, reader = raw.keys.session_id, kit.open_store()
    for read in (
        lambda: reader.read_range(session_id, 10, 20),
        lambda: reader.read_chunk(session_id, 0),
        lambda: b"".join(reader.export_envelope(session_id)),
        lambda: reader.rollback(session_id, "1.0.0", agent_id="a"),
    ):
        with expect_error(ContextCorruptError, session_id):
            read()


@case
def damage_does_not_spread_to_the_next_version(kit: Kit) -> None:
    """Writing the text again repairs the session; the damaged version stays refused."""
    text = long_text(300_000)
    raw = _stored(kit, "s", text)
    key = raw.chunk_keys()[1]
    stored = raw.client.get(key)
    raw.put_chunk(key, flipped(stored, len(stored) // 2))
    session_id = raw.keys.session_id
    commit = kit.open_store().put(session_id, f"{text}tail", agent_id="a")
    expect(kit.open_store().get(session_id).content == f"{text}tail", "the new version to be whole")
    expect_equal(commit.version, "1.0.1", "the version")
    with expect_error(ContextCorruptError, "1.0.0"):
        kit.open_store().get(session_id, "1.0.0")


def _stored(kit: Kit, name: str, text: str) -> RawSession:
    """A session of this one text, to be damaged."""
    session_id = kit.session(name)
    kit.store.put(session_id, text, agent_id="a")
    return kit.raw(session_id)


def _check_refused(kit: Kit, raw: RawSession) -> None:
    """A process that remembers nothing of it does not read the session's head."""
    session_id = raw.keys.session_id
    with expect_error(ContextCorruptError, session_id):
        kit.open_store().get(session_id)
