"""The manifest: what makes up one version, under its own hash or, if it is sealed, its own key.

Stored form: `etag`, a space, `content hash`, a newline, then the body: canonical JSON, or that JSON
sealed. The first line repeats what the body says, so that scripts, which cannot open a seal, have
it at hand; readers believe the body.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from baton.errors import ContextCorruptError, UnsupportedFormatError

if TYPE_CHECKING:
    from baton.content.sealing import Sealer

FORMAT: Final = 2

ContentType = Literal["text/plain", "application/json"]
WriteAction = Literal["accepted", "merged", "accepted_with_divergence", "merge_required"]
WriteOperation = Literal[
    "put", "append", "merge", "resolve", "rollback", "fork", "import", "restore"
]

Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
OptionalCheck = Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")]


class ChunkRef(NamedTuple):
    """One piece of the content, in order: which stored chunk holds it and what to expect of it.

    `digest` names the plain bytes (keyed, in a sealed session). `stored_digest` checks the stored
    ones; it is empty where a seal does.
    """

    chunk_id: Count
    size_bytes: Count
    stored_bytes: Count
    digest: Digest
    stored_digest: OptionalCheck


class Manifest(BaseModel):
    """One version of a session's context. Immutable; its hash is the version's etag.

    Attributes:
        parent: the head it was committed on; None for a session's first version.
        base: the version its writer saw; None for one that looked at none.
        action: how it came about; `merge_required` for a pending revision, which is no version.
        source: `session@version` it was copied from or merged with, if any.
        content_hash: `sha256:…`, or `keyed-blake2b:…` in a sealed session.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    session_id: str
    version: str
    parent: str | None
    base: str | None
    author: str
    action: WriteAction
    operation: WriteOperation
    operation_id: str
    source: str | None
    content_hash: str
    content_type: ContentType
    metadata: dict[str, Any]
    size_bytes: Count
    size_tokens: Count
    compression: str
    average_chunk_bytes: Count
    next_chunk: Count
    chunks: tuple[ChunkRef, ...]

    def encode(self, sealer: Sealer | None = None) -> StampedManifest:
        """The manifest with its etag and in its stored form, sealed if a `sealer` is given."""
        body = json.dumps(
            self.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"), sort_keys=True
        ).encode()
        etag = _etag(body, sealer)
        if sealer is not None:
            body = sealer.seal_manifest(body, session_id=self.session_id, version=self.version)
        return StampedManifest(
            etag,
            self,
            f"{etag} {self.content_hash}\n".encode() + body,
            "" if sealer is None else sealer.data_key_id,
        )

    @property
    def stored_sizes(self) -> dict[int, int]:
        """Each stored chunk once, in order of first use: chunk id -> stored bytes."""
        return {ref.chunk_id: ref.stored_bytes for ref in self.chunks}


class StampedManifest(NamedTuple):
    """A manifest, its etag (64 hex digits), its stored form, and the data key it is sealed under.

    The etag is the SHA-256 of the JSON; keyed, in a sealed session. `data_key_id` is empty where
    nothing is sealed.
    """

    etag: str
    manifest: Manifest
    stored: bytes
    data_key_id: str


def pending_name(conflict_id: str) -> str:
    """What stands for the version in a pending revision's manifest."""
    return f"pending:{conflict_id}"


def decode_manifest(
    stored: bytes, session_id: str, version: str, sealer: Sealer | None = None
) -> StampedManifest:
    """The manifest in `stored`.

    Raises:
        ContextCorruptError: any byte differs from what was stored, or it was stored for another
            session or version; SealBrokenError, if it is sealed.
        UnsupportedFormatError: a newer Baton wrote it.
    """
    header, _, body = stored.partition(b"\n")
    where = f"session {session_id} version {version}: its manifest"
    if sealer is not None:
        body = sealer.open_manifest(body, session_id=session_id, version=version)
    etag = _etag(body, sealer)
    if not header.startswith(etag.encode() + b" "):
        raise ContextCorruptError(f"{where} is not what was stored (hash differs)")
    manifest = _parse(body, where)
    if (manifest.session_id, manifest.version) != (session_id, version):
        raise ContextCorruptError(
            f"{where} belongs to session {manifest.session_id} version {manifest.version}"
        )
    if header != f"{etag} {manifest.content_hash}".encode():
        raise ContextCorruptError(f"{where} is not what was stored (its first line differs)")
    return StampedManifest(etag, manifest, stored, "" if sealer is None else sealer.data_key_id)


def _parse(body: bytes, where: str) -> Manifest:
    try:
        fields: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ContextCorruptError(f"{where} is not JSON ({type(error).__name__})") from error
    if not isinstance(fields, dict):
        raise ContextCorruptError(f"{where} is not an object")
    if fields.get("format") != FORMAT:
        raise UnsupportedFormatError(
            f"{where} has format {fields.get('format')!r}; this Baton reads {FORMAT}. Upgrade it, "
            "or for format 1 (Baton before 0.2) store the content again."
        )
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        raise ContextCorruptError(f"{where} does not fit its format ({error})") from error


def _etag(body: bytes, sealer: Sealer | None) -> str:
    return hashlib.sha256(body).hexdigest() if sealer is None else sealer.etag_mac(body)
