"""Hashes: the protocol's content hash, and the digest that names and checks chunks."""

from __future__ import annotations

import hashlib
from typing import Final

from baton.content.text import encode_text
from baton.errors import InvalidInputError

# hashlib's guaranteed algorithms, less the broken (md5, sha1) and the shakes, which have no length.
HASH_ALGORITHMS: Final = (
    "sha256", "sha224", "sha384", "sha512", "sha3_224", "sha3_256", "sha3_384", "sha3_512",
    "blake2b", "blake2s",
)  # fmt: skip


def compute_version_hash(context: str, algo: str = "sha256") -> str:
    """The protocol's hash of a context: `"{algo}:{hex}"` over its uncompressed UTF-8.

    Raises:
        InvalidInputError: `context` is not text, or `algo` is none of `HASH_ALGORITHMS`.
    """
    return hash_bytes(encode_text(context, "context"), algo)


def content_hash(data: bytes | bytearray) -> str:
    """`"sha256:{64 hex}"` of a content's UTF-8; equals `compute_version_hash` of its text."""
    return hash_bytes(data, "sha256")


def hash_bytes(data: bytes | bytearray, algo: str, field: str = "algo") -> str:
    """`"{algo}:{hex}"` of `data`; `field` names `algo` in errors.

    Raises:
        InvalidInputError: `algo` is none of `HASH_ALGORITHMS`.
    """
    if algo not in HASH_ALGORITHMS:
        raise InvalidInputError(field, f"one of {', '.join(HASH_ALGORITHMS)}", algo)
    return f"{algo}:{hashlib.new(algo, data).hexdigest()}"


def chunk_digest(data: bytes | memoryview) -> str:
    """BLAKE2b-256 of `data`, 64 hex digits: the name of plain bytes.

    Where the CPU has no SHA instructions it takes 0.6 of SHA-256's time.
    """
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def stored_digest(data: bytes | memoryview) -> str:
    """BLAKE2b-128 of `data`, 32 hex digits: the check of stored bytes.

    Half as long as a name, since who could make two chunks of one check would still have to meet
    the content's hash: it only has to find what was changed.
    """
    return hashlib.blake2b(data, digest_size=16).hexdigest()
