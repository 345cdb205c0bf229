"""Between sessions and envelopes: what of a session goes into one, and what comes out of it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from baton.clock import utc_from_ms
from baton.content.fernet import open_fernet
from baton.envelope.model import make_header
from baton.envelope.writing import write_envelope
from baton.errors import SealedError
from baton.redis_client import redis_errors
from baton.store.records import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.binary_redis import BinaryRedis
    from baton.envelope.model import EnvelopeHeader, WireCodec
    from baton.envelope.reading import EnvelopeContent
    from baton.store.marks import Marks
    from baton.store.reading import ContextReader, OpenedVersion

# These stand in a version's metadata, and in fields of their own in an envelope.
_ROLE: Final = "agent_role"
_DEPENDENCIES: Final = "dependencies"
_FLAGS: Final = ("immutable", "sensitive")


class EnvelopeExport:
    """Writes versions as envelopes."""

    def __init__(self, client: BinaryRedis, reader: ContextReader, marks: Marks) -> None:
        self._redis = client
        self._reader = reader
        self._marks = marks

    def stream(self, opened: OpenedVersion, compression: WireCodec) -> Iterator[bytes]:
        """The parts of the envelope's JSON; holds a few megabytes at once."""
        header = make_header(**self._fields(opened))
        return write_envelope(header, self._pieces(opened), compression=compression)

    def _pieces(self, opened: OpenedVersion) -> Iterator[bytes]:
        with redis_errors(self._redis):
            yield from self._reader.pieces(opened)

    def _fields(self, opened: OpenedVersion) -> dict[str, Any]:
        keys, manifest = opened.keys, opened.manifest
        container = self._redis.hgetall(keys.base)
        metadata = {
            name: value
            for name, value in manifest.metadata.items()
            if name not in (_ROLE, _DEPENDENCIES)
        }
        metadata["baton"] = {
            "context_version": manifest.version,
            "content_type": manifest.content_type,
        }
        return {
            "session_id": manifest.session_id,
            "agent_id": manifest.author,
            _ROLE: manifest.metadata.get(_ROLE),
            "created_at": utc_from_ms(int(container.get(b"created_at", b"0"))),
            "updated_at": self._reader.committed_at(keys, manifest, opened.head),
            "content_hash": self._plain_hash(opened),
            "content_size_bytes": manifest.size_bytes,
            "content_size_tokens": manifest.size_tokens,
            "metadata": metadata,
            "checkpoints": [
                _checkpoint(each)
                for each in self._marks.checkpoints(keys)
                if each.version == manifest.version
            ],
            _DEPENDENCIES: manifest.metadata.get(_DEPENDENCIES, []),
            "flags": {flag: container.get(flag.encode()) == b"1" for flag in _FLAGS},
        }

    def _plain_hash(self, opened: OpenedVersion) -> str:
        if opened.sealer is None:
            return opened.manifest.content_hash
        hasher = hashlib.sha256()
        for piece in self._reader.pieces(opened):
            hasher.update(piece)
        return f"sha256:{hasher.hexdigest()}"


def imported_text(content: EnvelopeContent, fernet_key: str | None) -> str:
    """The envelope's text; opened, where it is a Fernet token.

    Raises:
        SealedError: it is a token, and no key was given.
        SealBrokenError, InvalidInputError: the token or the key is none, or they do not fit.
    """
    if not content.header.flags.encrypted:
        return content.text
    if fernet_key is None:
        raise SealedError(
            f"the envelope of session {content.header.session_id} is encrypted; give its Fernet key"
        )
    return open_fernet(content.text, fernet_key)


def imported_metadata(header: EnvelopeHeader) -> dict[str, Any]:
    """What a version made of the envelope remembers of its header."""
    metadata: dict[str, Any] = header.metadata.model_dump(
        mode="json", exclude_unset=True, exclude={"baton"}
    )
    if header.agent_role is not None:
        metadata[_ROLE] = header.agent_role
    if header.dependencies:
        metadata[_DEPENDENCIES] = [each.model_dump(mode="json") for each in header.dependencies]
    return metadata


def imported_checkpoints(header: EnvelopeHeader, version: str, agent_id: str) -> list[Checkpoint]:
    """The envelope's checkpoints as the session's; their time is that of the import."""
    return [
        Checkpoint(
            checkpoint_id=each.checkpoint_id,
            label=each.label,
            version=version,
            byte_position=each.byte_position,
            token_position=each.token_position,
            agent_id=agent_id,
            created_at=each.timestamp,
        )
        for each in header.checkpoints
    ]


def _checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "checkpoint_id": checkpoint.checkpoint_id,
        "token_position": checkpoint.token_position,
        "byte_position": checkpoint.byte_position,
        "label": checkpoint.label,
        "timestamp": checkpoint.created_at,
    }
