import hashlib

import pytest

from baton.content.digests import (
    HASH_ALGORITHMS,
    chunk_digest,
    compute_version_hash,
    content_hash,
)
from baton.errors import InvalidInputError, InvalidTextError


def test_version_hash_is_the_protocols():
    """`sha256:` and the digest of the uncompressed UTF-8."""
    expected = "sha256:" + hashlib.sha256("контекст".encode()).hexdigest()
    assert compute_version_hash("контекст") == expected
    assert content_hash("контекст".encode()) == expected


@pytest.mark.parametrize("algo", HASH_ALGORITHMS)
def test_version_hash_takes_each_listed_algorithm(algo):
    """Every listed algorithm is one that each Python has."""
    assert algo in hashlib.algorithms_guaranteed
    assert compute_version_hash("x", algo) == f"{algo}:{hashlib.new(algo, b'x').hexdigest()}"


@pytest.mark.parametrize("algo", ["md5", "sha1", "shake_256", "nothing", "", None])
def test_version_hash_refuses_weak_and_unknown_algorithms(algo):
    """Broken, variable-length and unknown algorithms are invalid input."""
    with pytest.raises(InvalidInputError, match="algo: expected one of sha256"):
        compute_version_hash("x", algo)


def test_version_hash_refuses_lone_surrogates():
    """Text without UTF-8 has no hash."""
    with pytest.raises(InvalidTextError):
        compute_version_hash("\udfff")


def test_chunk_digest_takes_views():
    """A view and its bytes have one digest of 64 hex digits."""
    assert chunk_digest(memoryview(b"xabcx")[1:4]) == chunk_digest(b"abc")
    assert len(chunk_digest(b"")) == 64
