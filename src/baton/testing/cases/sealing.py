"""Cases: sealed sessions, with a master key made for the run (I8, J1, J2, J4, J7, J14)."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Final

from baton.errors import BatonError, KeyNotFoundError, SealBrokenError, SealedError
from baton.key_providers.environment import EnvKeyProvider
from baton.store.cache import ContextCache
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error
from baton.testing.raw import flipped, places

if TYPE_CHECKING:
    from baton.testing.kit import Kit

case = CaseGroup("sealing")

_CANARY: Final = "the canary sings at the seventh gate"
_TEXT: Final = "".join(f"{number} {_CANARY} {number * 7919}\n" for number in range(1_500))


@case
def sealed_context_reads_back_for_who_has_the_key(kit: Kit) -> None:
    """In this process and in another one."""
    session_id, metadata = kit.session(), {"note": _CANARY}
    kit.open_sealing_store().put(session_id, _TEXT, agent_id="a", sealed=True, metadata=metadata)
    context = kit.open_sealing_store().get(session_id)
    expect(context.content == _TEXT, "the text")
    expect_equal(dict(context.metadata), metadata, "the metadata")
    info = kit.open_sealing_store().show(session_id)
    expect_equal(info.flags, ("encrypted",), "the flags")


@case
def nothing_of_a_sealed_session_is_in_redis_in_clear(kit: Kit) -> None:
    """Text, metadata and unkeyed hashes appear in no stored value (I8, J14)."""
    session_id, store = kit.session(), kit.open_sealing_store()
    raw = kit.raw(session_id)
    store.put(session_id, _TEXT, agent_id="a", sealed=True, metadata={"note": _CANARY})
    store.append(session_id, f"{_CANARY}\n", agent_id="a")
    changed = _TEXT.replace("5 the", "5 one")
    store.put(session_id, changed, agent_id="b", base_version="1.0.0")
    other = _TEXT.replace("5 the", "5 other")
    store.put(session_id, other, agent_id="c", base_version="1.0.0")
    store.rollback(session_id, "1.0.0", agent_id="a")
    store.checkpoint(session_id, "half way", agent_id="a", byte_position=1_000)
    store.get(session_id, agent_id="reader")
    store.flush_notes()
    stored = raw.everything()
    expect(raw.chunk_keys(), "something to be stored")
    for secret in (b"canary", *_hashes(_TEXT), *_hashes(changed)):
        expect(secret not in stored, f"{secret[:12]!r} to be nowhere in Redis")


@case
def sealed_session_stays_sealed(kit: Kit) -> None:
    """Whatever a later write says."""
    session_id, store = kit.session(), kit.open_sealing_store()
    store.put(session_id, "first canary", agent_id="a", sealed=True)
    store.put(session_id, "second canary", agent_id="a", sealed=False)
    store.append(session_id, " third canary", agent_id="a")
    expect_equal(store.get(session_id).content, "second canary third canary", "the content")
    expect(b"canary" not in kit.raw(session_id).everything(), "no plain text in Redis")


@case
def store_without_a_key_can_do_nothing(kit: Kit) -> None:
    """Not even with what its process has in the cache."""
    session_id, cache = kit.session(), ContextCache(1 << 24)
    holder = kit.open_store(cache=cache, key_provider=kit.key_provider)
    holder.put(session_id, _TEXT, agent_id="a", sealed=True)
    holder.get(session_id)
    stranger = kit.open_store(cache=cache)
    for attempt in (
        lambda: stranger.get(session_id),
        lambda: stranger.show(session_id),
        lambda: stranger.history(session_id),
        lambda: stranger.read_range(session_id, 0, 5),
        lambda: stranger.put(session_id, "plain", agent_id="x"),
        lambda: stranger.append(session_id, "plain", agent_id="x"),
        lambda: b"".join(stranger.export_envelope(session_id)),
    ):
        with expect_error(SealedError, session_id):
            attempt()
    expect_equal(holder.get(session_id).version, "1.0.0", "the head")


@case
def sealing_without_a_key_is_refused(kit: Kit) -> None:
    """Nothing is stored in clear instead."""
    session_id = kit.session()
    with expect_error(SealedError):
        kit.store.put(session_id, "text", agent_id="a", sealed=True)
    expect(not kit.store.exists(session_id), "nothing to be stored")


@case
def another_master_key_opens_nothing_and_says_which_is_needed(kit: Kit) -> None:
    """A lost key is named, and costs only the sessions under it (J4)."""
    lost, well = kit.session("lost"), kit.session("well")
    kit.open_sealing_store().put(lost, "text", agent_id="a", sealed=True)
    other = kit.open_store(key_provider=EnvKeyProvider(secrets.token_hex(32)))
    with expect_error(KeyNotFoundError, kit.key_provider.current_key_id()):
        other.get(lost)
    other.put(well, "text", agent_id="a", sealed=True)
    expect_equal(other.get(well).content, "text", "the other session's content")


@case
def chunk_of_another_session_does_not_open(kit: Kit) -> None:
    """Not even of one under the same master key (J1)."""
    one, other, store = kit.session("one"), kit.session("other"), kit.open_sealing_store()
    for session_id in (one, other):
        store.put(session_id, _TEXT, agent_id="a", sealed=True)
    mine, theirs = kit.raw(one), kit.raw(other)
    mine.put_chunk(mine.chunk_keys()[0], mine.client.get(theirs.chunk_keys()[0]))
    with expect_error(SealBrokenError, one):
        kit.open_sealing_store().get(one)
    manifest = theirs.stored_manifest("1.0.0")
    mine.put_manifest("1.0.0", manifest)
    with expect_error(SealBrokenError, one):
        kit.open_sealing_store().get(one)


@case
def older_ciphertext_does_not_pass_for_the_newer(kit: Kit) -> None:
    """A version put back in the place of the head is found (J2)."""
    session_id, store = kit.session(), kit.open_sealing_store()
    store.put(session_id, "the old one", agent_id="a", sealed=True)
    store.put(session_id, "the new one", agent_id="a")
    raw = kit.raw(session_id)
    raw.put_manifest("1.0.1", raw.stored_manifest("1.0.0"))
    with expect_error(SealBrokenError, session_id):
        kit.open_sealing_store().get(session_id)
    old, new = raw.chunk_keys()
    raw.put_chunk(new, raw.client.get(old))
    raw.put_manifest("1.0.1", raw.stored_manifest("1.0.1"))
    with expect_error(SealBrokenError, session_id):
        kit.open_sealing_store().get(session_id)


@case
def flipped_bit_of_what_is_sealed_is_found(kit: Kit) -> None:
    """In a chunk, in a manifest, and in the wrapped key."""
    session_id = kit.session()
    kit.open_sealing_store().put(session_id, "some words " * 50, agent_id="a", sealed=True)
    raw = kit.raw(session_id)
    (chunk_key,) = raw.chunk_keys()
    for key in (chunk_key, raw.keys.data_key):
        stored = raw.client.get(key)
        for position in places(stored):
            raw.put_chunk(key, flipped(stored, position, 2))
            with expect_error(BatonError):
                kit.open_sealing_store().get(session_id)
        raw.put_chunk(key, stored)
    expect_equal(kit.open_sealing_store().get(session_id).content, "some words " * 50, "mended")


@case
def compression_comes_before_sealing(kit: Kit) -> None:
    """Sealed bytes do not compress; the other order would store everything in full (J7)."""
    session_id, store = kit.session(), kit.open_sealing_store()
    store.put(session_id, "the same words again and again\n" * 20_000, agent_id="a", sealed=True)
    info = store.show(session_id)
    expect(info.stored_bytes < info.size_bytes / 10, f"less than {info.stored_bytes} bytes stored")


@case
def equal_texts_of_two_sessions_do_not_look_equal(kit: Kit) -> None:
    """Etags and hashes are keyed, for each session by its own key."""
    store = kit.open_sealing_store()
    one, other = (
        store.put(kit.session(name), _TEXT, agent_id="a", sealed=True) for name in ("one", "other")
    )
    expect(one.content_hash != other.content_hash, "different content hashes")
    expect(one.etag != other.etag, "different etags")
    expect(one.content_hash.encode() not in _hashes(_TEXT), "a hash that is keyed")


@case
def sealed_content_enters_no_plain_session(kit: Kit) -> None:
    """A fork is sealed as well; a merge into a plain session is refused."""
    sealed, plain, work = kit.session("sealed"), kit.session("plain"), kit.session("work")
    store = kit.open_sealing_store()
    store.put(sealed, "canary\n", agent_id="a", sealed=True)
    store.put(plain, "canary\n", agent_id="a")
    with expect_error(SealedError, plain):
        store.merge(plain, sealed, agent_id="a", base_version="1.0.0")
    store.fork(sealed, work, agent_id="a")
    with expect_error(SealedError, work):
        kit.store.get(work)
    store.append(work, "two\n", agent_id="a")
    store.merge(sealed, work, agent_id="a")
    expect_equal(store.get(sealed).content, "canary\ntwo\n", "the merged content")


@case
def deletion_destroys_the_data_key(kit: Kit) -> None:
    """What a backup of the chunks still holds cannot be opened by what is left."""
    session_id, store = kit.session(), kit.open_sealing_store()
    raw = kit.raw(session_id)
    store.put(session_id, "one", agent_id="a", sealed=True)
    before = raw.client.get(raw.keys.data_key)
    store.delete(session_id, agent_id="a")
    expect_equal(raw.client.get(raw.keys.data_key), None, "the wrapped key")
    store.put(session_id, "two", agent_id="a", sealed=True)
    expect(raw.client.get(raw.keys.data_key) != before, "a new key for a new session")


def _hashes(text: str) -> list[bytes]:
    data = text.encode()
    digests = (
        hashlib.sha256(data).hexdigest(),
        hashlib.blake2b(data).hexdigest(),
        hashlib.blake2b(data, digest_size=32).hexdigest(),
    )
    return [digest.encode() for digest in digests]
