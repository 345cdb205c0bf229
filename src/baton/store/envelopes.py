"""Versions written as envelopes, with all that their session holds beside them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from baton.clock import utc_from_ms
from baton.envelope.free_metadata import metadata_fields
from baton.envelope.model import make_header
from baton.envelope.writing import write_envelope
from baton.errors import ContextCorruptError, UnsupportedFormatError, VersionNotFoundError
from baton.redis_client import redis_errors
from baton.store.marks import decode_checkpoints
from baton.store.refusals import VersionGoneError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.binary_redis import BinaryRedis
    from baton.envelope.model import WireCodec
    from baton.store.heads import OpenedVersion
    from baton.store.reading import ContextReader
    from baton.store.records import Checkpoint

_FLAGS: Final = ("immutable", "sensitive")


class EnvelopeExport:
    """Writes versions as envelopes."""

    def __init__(self, client: BinaryRedis, reader: ContextReader) -> None:
        self._redis = client
        self._reader = reader

    def stream(self, opened: OpenedVersion, compression: WireCodec) -> Iterator[bytes]:
        """The parts of the envelope's JSON; holds a few megabytes at once.

        Raises:
            VersionGoneError: the session moved before the first part.
            ContextNotFoundError, VersionNotFoundError: from the iterator: the session was deleted,
                or the version collected, since.
        """
        header = make_header(**self._fields(opened))
        return write_envelope(header, self._pieces(opened), compression=compression)

    def _pieces(self, opened: OpenedVersion) -> Iterator[bytes]:
        with redis_errors(self._redis):
            try:
                yield from self._reader.pieces(opened)
            except (VersionGoneError, ContextCorruptError, UnsupportedFormatError):
                self._require_kept(opened)
                raise

    def _require_kept(self, opened: OpenedVersion) -> None:
        """What looks damaged may be another session's of the name, or nobody's."""
        keys, version = opened.keys, opened.manifest.version
        self._reader.require_head(keys)
        if not self._reader.is_kept(opened):
            raise VersionNotFoundError(
                f"session {keys.session_id} has no version {version} any more; it went while it "
                "was exported"
            )

    def _fields(self, opened: OpenedVersion) -> dict[str, Any]:
        keys, manifest = opened.keys, opened.manifest
        _, (container, checkpoints) = self._reader.at_once(
            keys,
            lambda pipeline: pipeline.hgetall(keys.base),
            lambda pipeline: pipeline.lrange(keys.checkpoints, 0, -1),
        )
        ours = {"context_version": manifest.version, "content_type": manifest.content_type}
        return {
            **metadata_fields(manifest.metadata, ours),
            "session_id": manifest.session_id,
            "agent_id": manifest.author,
            "created_at": utc_from_ms(int(container.get(b"created_at", b"0"))),
            "updated_at": self._reader.committed_at(keys, manifest, opened.head),
            "content_hash": self._plain_hash(opened),
            "content_size_bytes": manifest.size_bytes,
            "content_size_tokens": manifest.size_tokens,
            "checkpoints": [
                _checkpoint(each)
                for each in decode_checkpoints(checkpoints, keys)
                if each.version == manifest.version
            ],
            "flags": {flag: container.get(flag.encode()) == b"1" for flag in _FLAGS},
        }

    def _plain_hash(self, opened: OpenedVersion) -> str:
        if opened.sealer is None:
            return opened.manifest.content_hash
        hasher = hashlib.sha256()
        for piece in self._reader.pieces(opened):
            hasher.update(piece)
        return f"sha256:{hasher.hexdigest()}"


def _checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "checkpoint_id": checkpoint.checkpoint_id,
        "token_position": checkpoint.token_position,
        "byte_position": checkpoint.byte_position,
        "label": checkpoint.label,
        "timestamp": checkpoint.created_at,
    }
