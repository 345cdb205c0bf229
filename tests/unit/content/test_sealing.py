import base64
import hashlib
import hmac
import itertools
import logging
import subprocess
import sys
import threading
import traceback
import types

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from baton.content.compression import compress, decompress
from baton.content.encryption import (
    SEAL_OVERHEAD_BYTES,
    Cipher,
    associated_data,
    check_key,
    derive_key,
)
from baton.content.sealing import (
    ChunkPlace,
    Sealer,
    SessionSeal,
    content_mac_of,
    new_data_key,
    new_data_key_id,
    wrap_context,
)
from baton.errors import (
    ContextCorruptError,
    InvalidIdError,
    InvalidInputError,
    InvalidTextError,
    PermanentError,
    SealBrokenError,
    UnsupportedFormatError,
)
from key_material import assert_hides, assert_not_in, assert_unreachable

KEY = bytes(range(32))
SEALER = Sealer(KEY, "dk_1")
PLACE = ChunkPlace("session_1", "ab" * 32, "gzip", 1234)

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
places = st.builds(
    ChunkPlace,
    session_id=ids,
    identity=st.binary(min_size=32, max_size=32).map(bytes.hex),
    codec=st.sampled_from(["gzip", "zstd", "brotli", "none"]),
    size_bytes=st.integers(0, 1 << 20),
)


def hkdf(key, info):
    """HKDF-SHA256 of one block and no salt, straight from RFC 5869."""
    pseudorandom = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(pseudorandom, info + b"\x01", "sha256")


def fields(*texts):
    return b"".join(len(text).to_bytes(4, "big") + text for text in texts)


# --- what comes back -----------------------------------------------------------------------


@given(st.binary(max_size=4096), places)
def test_chunk_comes_back_exactly(packed, place):
    """A sealed chunk opens in its place and is 29 bytes longer."""
    sealed = SEALER.seal_chunk(packed, place=place)
    assert len(sealed) == len(packed) + SEAL_OVERHEAD_BYTES
    assert SEALER.open_chunk(sealed, place=place) == packed


@given(st.binary(max_size=4096), ids)
def test_manifest_comes_back_exactly(body, session_id):
    """A sealed manifest opens for its session and version."""
    sealed = SEALER.seal_manifest(body, session_id=session_id, version="1.2.3")
    assert SEALER.open_manifest(sealed, session_id=session_id, version="1.2.3") == body


def test_another_process_with_the_key_opens_it():
    """A sealer made anew from the same key and id opens what another one sealed."""
    sealed = SEALER.seal_chunk(b"packed", place=PLACE)
    assert Sealer(KEY, "dk_1").open_chunk(sealed, place=PLACE) == b"packed"


def test_chunk_has_the_documented_layout():
    """A chunk built by hand from the documented format opens: format, nonce, text, tag."""
    nonce = bytes(range(12))
    label = b"baton sealing 1: chunk"
    associated = b"\x01" + fields(label, b"session_1", b"ab" * 32, b"gzip", b"1234", b"dk_1")
    text = AESGCM(hkdf(KEY, label)).encrypt(nonce, b"packed", associated)
    assert SEALER.open_chunk(b"\x01" + nonce + text, place=PLACE) == b"packed"


def test_manifest_has_the_documented_layout():
    """A manifest built by hand from the documented format opens."""
    nonce = bytes(12)
    label = b"baton sealing 1: manifest"
    associated = b"\x01" + fields(label, b"session_1", b"1.2.3", b"dk_1")
    text = AESGCM(hkdf(KEY, label)).encrypt(nonce, b"{}", associated)
    sealed = b"\x01" + nonce + text
    assert SEALER.open_manifest(sealed, session_id="session_1", version="1.2.3") == b"{}"


# --- what is refused -----------------------------------------------------------------------


@given(st.binary(max_size=300), st.data())
def test_any_changed_byte_of_a_chunk_is_refused(packed, data):
    """Whatever byte changes to whatever value, nothing is served."""
    sealed = bytearray(SEALER.seal_chunk(packed, place=PLACE))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    expected = SealBrokenError if at else UnsupportedFormatError
    with pytest.raises(expected, match=r"session session_1: chunk abab"):
        SEALER.open_chunk(bytes(sealed), place=PLACE)


def test_every_flipped_bit_of_a_manifest_is_refused():
    """Each single bit counts, in each byte."""
    sealed = SEALER.seal_manifest(b"{}", session_id="s", version="1.0.0")
    for at, bit in itertools.product(range(len(sealed)), range(8)):
        changed = bytearray(sealed)
        changed[at] ^= 1 << bit
        with pytest.raises((SealBrokenError, UnsupportedFormatError)):
            SEALER.open_manifest(bytes(changed), session_id="s", version="1.0.0")


def test_every_truncation_and_any_addition_is_refused():
    """Neither a prefix, the empty one included, nor more bytes open."""
    sealed = SEALER.seal_chunk(b"packed", place=PLACE)
    for changed in (*(sealed[:end] for end in range(len(sealed))), sealed + b"\0"):
        with pytest.raises(SealBrokenError):
            SEALER.open_chunk(changed, place=PLACE)


@given(places, places)
def test_chunk_opens_in_no_other_place(place, other):
    """Another session, identity, codec or size, or all of them, is refused."""
    sealed = SEALER.seal_chunk(b"packed", place=place)
    for wrong in (
        other,
        *(place._replace(**{name: getattr(other, name)}) for name in place._fields),
    ):
        if wrong != place:
            with pytest.raises(SealBrokenError):
                SEALER.open_chunk(sealed, place=wrong)


@given(ids, ids, st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_chunk_opens_under_no_other_key_or_key_id(key_id, other_id, key, other):
    """Neither the same key under another id nor another key under the same id opens it."""
    sealed = Sealer(key, key_id).seal_chunk(b"packed", place=PLACE)
    for wrong_key, wrong_id in ((key, other_id), (other, key_id), (other, other_id)):
        if (wrong_key, wrong_id) != (key, key_id):
            with pytest.raises(SealBrokenError, match=f"data key {wrong_id}"):
                Sealer(wrong_key, wrong_id).open_chunk(sealed, place=PLACE)


def test_chunks_swapped_pairwise_are_all_refused():
    """A chunk of B pasted over one of A never reads as A's (faults J1)."""
    sealers = [Sealer(new_data_key(), new_data_key_id()) for _ in range(2)]
    stored = [
        (sealer, place, sealer.seal_chunk(text, place=place))
        for sealer, session in zip(sealers, ["a", "b"], strict=True)
        for text in (b"one", b"two", b"three")
        for place in [ChunkPlace(session, sealer.chunk_identity(text), "none", len(text))]
    ]
    for (sealer, place, own), (_, _, foreign) in itertools.permutations(stored, 2):
        assert sealer.open_chunk(own, place=place)
        with pytest.raises(SealBrokenError):
            sealer.open_chunk(foreign, place=place)


def test_older_manifest_is_refused_as_a_newer_version():
    """Yesterday's manifest put where today's stands does not open (faults J2)."""
    old = SEALER.seal_manifest(b"old", session_id="s", version="1.0.0")
    with pytest.raises(SealBrokenError, match=r"session s version 1\.0\.1: its manifest"):
        SEALER.open_manifest(old, session_id="s", version="1.0.1")


def test_chunk_is_refused_as_a_manifest():
    """Each kind has a key of its own."""
    sealed = SEALER.seal_chunk(b"{}", place=PLACE)
    with pytest.raises(SealBrokenError):
        SEALER.open_manifest(sealed, session_id="session_1", version="1.0.0")


def test_newer_format_is_named():
    """A format byte that is not ours asks for an upgrade."""
    sealed = b"\x02" + SEALER.seal_chunk(b"x", place=PLACE)[1:]
    with pytest.raises(UnsupportedFormatError, match="sealed in format 2; this Baton reads 1"):
        SEALER.open_chunk(sealed, place=PLACE)


def test_broken_seal_is_a_corrupt_context_that_a_retry_does_not_mend():
    """Whoever handles corruption handles a broken seal."""
    assert issubclass(SealBrokenError, ContextCorruptError)
    assert issubclass(SealBrokenError, PermanentError)


# --- associated data -----------------------------------------------------------------------


@given(st.lists(st.text(max_size=8), max_size=5), st.lists(st.text(max_size=8), max_size=5))
def test_associated_data_differ_wherever_fields_do(one, other):
    """No two lists of fields are encoded alike, wherever their borders lie."""
    assert (associated_data("p", *one) == associated_data("p", *other)) == (one == other)


def test_associated_data_tell_borders_apart():
    """The same letters split elsewhere are something else, and so is their number."""
    encoded = [
        associated_data(*fields_)
        for fields_ in (("p", "ab", "c"), ("p", "a", "bc"), ("pa", "b", "c"), ("p", "abc"),
                        ("p", "ab", "c", ""), ("p", "", "ab", "c"))
    ]  # fmt: skip
    assert len(set(encoded)) == len(encoded)


def test_associated_data_refuse_a_lone_surrogate():
    """What UTF-8 cannot say has no encoding here."""
    with pytest.raises(InvalidTextError):
        associated_data("p", "\ud800")


# --- keyed digests -------------------------------------------------------------------------


@given(st.binary(max_size=2000))
def test_digests_are_keyed_and_one_per_purpose(data):
    """Equal under one key, different under another, and for each purpose another one."""
    other = Sealer(bytes(32), "dk_1")
    digests = [
        digest(data)
        for sealer in (SEALER, other)
        for digest in (sealer.chunk_identity, sealer.etag_mac, sealer.content_mac)
    ]
    bare = {digest.rpartition(":")[2] for digest in digests}
    assert len(bare) == len(digests)
    assert hashlib.sha256(data).hexdigest() not in bare
    assert hashlib.blake2b(data, digest_size=32).hexdigest() not in bare
    assert Sealer(KEY, "dk_2").chunk_identity(data) == SEALER.chunk_identity(data)


@pytest.mark.parametrize(
    ("digest", "label", "prefix"),
    [
        (SEALER.chunk_identity, b"baton sealing 1: chunk identity", ""),
        (SEALER.content_mac, b"baton sealing 1: content mac", "keyed-blake2b:"),
        (SEALER.etag_mac, b"baton sealing 1: etag mac", ""),
    ],
)
def test_digests_are_blake2b_under_their_subkey(digest, label, prefix):
    """Each is BLAKE2b-256 keyed with HKDF-SHA256 of the data key and its label."""
    expected = hashlib.blake2b(b"text", key=hkdf(KEY, label), digest_size=32).hexdigest()
    assert digest(b"text") == prefix + expected


@given(st.lists(st.binary(max_size=50)))
def test_content_mac_of_pieces_is_that_of_the_whole(pieces):
    """A content fed in pieces has its own MAC, and a hasher leaves the sealer as it was."""
    hasher = SEALER.content_hasher()
    for piece in pieces:
        hasher.update(piece)
    assert content_mac_of(hasher) == SEALER.content_mac(b"".join(pieces))
    assert SEALER.content_hasher().digest() == Sealer(KEY, "x").content_hasher().digest()


def test_chunk_identity_takes_views():
    """The pieces of a cut content need no copies."""
    assert SEALER.chunk_identity(memoryview(b"abc")[1:]) == SEALER.chunk_identity(b"bc")


# --- compression, nonces, threads ----------------------------------------------------------


def test_compressed_then_sealed_stays_small():
    """A megabyte of repetition takes kilobytes sealed; the other way round it would not (J7)."""
    plain = b"the same line again and again\n" * 35_000
    packed = compress(plain, "gzip")
    sealed = SEALER.seal_chunk(packed, place=PLACE)
    assert len(sealed) == len(packed) + SEAL_OVERHEAD_BYTES < len(plain) // 50
    assert len(compress(sealed, "gzip")) >= len(sealed)
    assert decompress(SEALER.open_chunk(sealed, place=PLACE), "gzip", len(plain)) == plain


def test_equal_chunks_are_sealed_differently():
    """The same bytes in the same place give unrelated values at each call."""
    assert len({SEALER.seal_chunk(b"same", place=PLACE) for _ in range(1000)}) == 1000


FORKING = """
import os, sys
from baton.content.sealing import ChunkPlace, Sealer

sealer = Sealer(bytes(range(32)), "dk_1")
place = ChunkPlace("s", "a", "none", 1)
sealer.seal_chunk(b"before the fork", place=place)
child = os.fork()
with open(sys.argv[1] + ("child" if child == 0 else "parent"), "wb") as file:
    for _ in range(50_000):
        file.write(sealer.seal_chunk(b"x", place=place)[1:13])
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_nonces_are_unique_across_a_fork(tmp_path):
    """A sealer used on both sides of a fork repeats none of 100,000 nonces (faults J5)."""
    subprocess.run([sys.executable, "-c", FORKING, f"{tmp_path}/"], check=True)
    drawn = (tmp_path / "child").read_bytes() + (tmp_path / "parent").read_bytes()
    nonces = {drawn[at : at + 12] for at in range(0, len(drawn), 12)}
    assert len(drawn) == 12 * len(nonces) == 1_200_000


def test_sealer_is_shared_by_threads():
    """Eight threads seal, open and hash with one sealer and disturb each other nowhere."""
    wrong = []

    def work(number):
        text = bytes([number]) * 5000
        identity, mac = Sealer(KEY, "dk_1").chunk_identity(text), SEALER.content_mac(text)
        for _ in range(100):
            sealed = SEALER.seal_chunk(text, place=PLACE)
            if (
                SEALER.open_chunk(sealed, place=PLACE) != text
                or SEALER.chunk_identity(text) != identity
                or SEALER.content_mac(text) != mac
            ):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- keys ----------------------------------------------------------------------------------


def test_keys_are_never_shown(caplog):
    """No repr, pickle, copy, attribute, log line or error with its locals shows a key (J15)."""
    key = new_data_key()
    sealer = Sealer(key, "dk_1")
    labels = ("chunk", "manifest", "chunk identity", "content mac", "etag mac", "cut points")
    keys = [key, *(hkdf(key, f"baton sealing 1: {label}".encode()) for label in labels)]
    assert_hides(sealer, *keys)
    assert_hides(sealer._chunk, *keys)
    logging.getLogger("test").warning("sealed with %r %s", sealer, sealer)
    assert_not_in(caplog.text, *keys)
    with pytest.raises(SealBrokenError) as caught:
        sealer.open_chunk(bytes([1]) * 40, place=PLACE)
    ours = caught.value.__traceback__.tb_next  # the frames below the test's own
    shown = traceback.TracebackException(SealBrokenError, caught.value, ours, capture_locals=True)
    assert_not_in("".join(shown.format()), *keys)


@pytest.mark.parametrize(
    "leak",
    [KEY, KEY.hex(), repr(KEY), base64.b64encode(KEY).decode(), {"a": [KEY]}, (bytearray(KEY),)],
)
def test_search_for_keys_finds_them(leak):
    """The search that the tests above rely on sees a key in each of its forms."""
    holder = types.SimpleNamespace(inner=[leak])
    with pytest.raises(AssertionError):
        assert_unreachable(holder, KEY)


@pytest.mark.parametrize("key", [b"", KEY[:31], KEY + b"x", KEY.hex(), None, bytearray(KEY)])
def test_wrong_data_keys_are_refused_and_not_shown(key):
    """Only 32 bytes are a data key; the error tells the type or the length."""
    with pytest.raises(InvalidInputError, match=r"data_key: expected 32 bytes, got <") as caught:
        Sealer(key, "dk_1")
    assert_not_in(str(caught.value), KEY, KEY[:31])


def test_session_seal_is_the_sealer_in_its_session():
    """It adds the session's id to what its sealer does, and hides the key as that does."""
    seal = SessionSeal(SEALER, PLACE.session_id)
    place = {name: getattr(PLACE, name) for name in ("identity", "codec", "size_bytes")}
    assert SEALER.open_chunk(seal.seal_chunk(b"packed", **place), place=PLACE) == b"packed"
    assert seal.open_chunk(SEALER.seal_chunk(b"packed", place=PLACE), **place) == b"packed"
    assert_hides(seal, KEY)


def test_data_key_id_is_checked():
    """An id that could forge a log line is refused."""
    with pytest.raises(InvalidIdError):
        Sealer(KEY, "dk\n1")


def test_new_keys_are_new():
    """Each call draws another key of 32 bytes and another id."""
    assert len({check_key(new_data_key(), "key") for _ in range(100)}) == 100
    assert len({new_data_key_id() for _ in range(100)}) == 100
    Sealer(new_data_key(), new_data_key_id())


def test_cut_seed_follows_from_the_key():
    """63 bits of a subkey of its own: what is cut with it stays cut so."""
    subkey = hkdf(KEY, b"baton sealing 1: cut points")
    assert SEALER.cut_seed == int.from_bytes(subkey[:8], "big") >> 1
    assert Sealer(new_data_key(), "dk_1").cut_seed != SEALER.cut_seed


def test_derived_keys_follow_rfc_5869():
    """A subkey is HKDF-SHA256 without salt, its purpose as info."""
    assert derive_key(KEY, "a purpose") == hkdf(KEY, b"a purpose")
    assert derive_key(KEY, "a purpose") != derive_key(KEY, "another")


def test_wrap_context_binds_session_and_data_key():
    """Another session or data key is another context."""
    contexts = {wrap_context(*pair) for pair in (("a", "b"), ("b", "a"), ("ab", ""), ("", "ab"))}
    assert len(contexts) == 4


@settings(max_examples=50)
@given(st.binary(max_size=64), st.binary(max_size=64), st.binary(max_size=64))
def test_cipher_wants_its_associated_data(plain, associated, other):
    """What was said at sealing must be said at opening."""
    cipher = Cipher(KEY, "key k")
    sealed = cipher.seal(plain, associated)
    assert cipher.open(sealed, associated, "it") == plain
    if other != associated:
        with pytest.raises(SealBrokenError, match="it does not open under key k"):
            cipher.open(sealed, other, "it")
