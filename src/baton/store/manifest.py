"""The manifest: what makes up one version, as canonical JSON under its own hash."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from baton.errors import ContextCorruptError, UnsupportedFormatError

FORMAT: Final = 1
_ETAG_HEX_DIGITS: Final = 64

Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ChunkRef(NamedTuple):
    """One piece of the content, in order: which stored chunk holds it and what to expect of it."""

    chunk_id: Count
    size_bytes: Count
    stored_bytes: Count
    digest: Digest
    stored_digest: Digest


class Manifest(BaseModel):
    """One version of a session's context. Immutable; its hash is the version's etag."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    session_id: str
    version: str
    parent: str | None
    author: str
    action: Literal["accepted"]
    operation_id: str
    content_hash: str
    size_bytes: Count
    size_tokens: Count
    compression: str
    average_chunk_bytes: Count
    next_chunk: Count
    chunks: tuple[ChunkRef, ...]

    def encode(self) -> StampedManifest:
        """The manifest with its etag and in its stored form."""
        body = json.dumps(
            self.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"), sort_keys=True
        ).encode()
        etag = hashlib.sha256(body).hexdigest()
        return StampedManifest(etag, self, etag.encode() + b"\n" + body)

    @property
    def stored_sizes(self) -> dict[int, int]:
        """Each stored chunk once, in order of first use: chunk id -> stored bytes."""
        return {ref.chunk_id: ref.stored_bytes for ref in self.chunks}


class StampedManifest(NamedTuple):
    """A manifest, its etag (sha256 of its JSON, 64 hex digits) and its stored form."""

    etag: str
    manifest: Manifest
    stored: bytes


def decode_manifest(stored: bytes, session_id: str, version: str) -> StampedManifest:
    """The manifest in `stored`.

    Raises:
        ContextCorruptError: any byte differs from what was stored, or it was stored for another
            session or version.
        UnsupportedFormatError: a newer Baton wrote it.
    """
    etag, _, body = stored.partition(b"\n")
    where = f"session {session_id} version {version}: its manifest"
    if len(etag) != _ETAG_HEX_DIGITS or hashlib.sha256(body).hexdigest().encode() != etag:
        raise ContextCorruptError(f"{where} is not what was stored (hash differs)")
    try:
        fields: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ContextCorruptError(f"{where} is not JSON ({type(error).__name__})") from error
    if not isinstance(fields, dict):
        raise ContextCorruptError(f"{where} is not an object")
    if fields.get("format") != FORMAT:
        raise UnsupportedFormatError(
            f"{where} has format {fields.get('format')!r}; this Baton reads {FORMAT}. Upgrade it."
        )
    try:
        manifest = Manifest.model_validate(fields)
    except ValidationError as error:
        raise ContextCorruptError(f"{where} does not fit its format ({error})") from error
    if (manifest.session_id, manifest.version) != (session_id, version):
        raise ContextCorruptError(
            f"{where} belongs to session {manifest.session_id} version {manifest.version}"
        )
    return StampedManifest(etag.decode(), manifest, stored)
