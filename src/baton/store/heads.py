"""A session's head as its container tells it, and a version opened by way of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from baton.store.refusals import archived_error, corrupt
from baton.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.content.sealing import Sealer
    from baton.store.keys import SessionKeys
    from baton.store.manifest import Manifest, StampedManifest

HEAD_FIELDS: Final = (
    "state", "archived", "head", "head_etag", "head_hash", "head_at", "data_key", "next_chunk",
    "epoch",
)  # fmt: skip
# Every read looks at the head's version, and mostly finds the one it found before.
_check_version: Final = lru_cache(maxsize=10_000)(parse_version)


@dataclass(frozen=True, slots=True)
class Head:
    """A session's head as its container tells it. `data_key_id` is empty where it is not sealed."""

    version: str
    etag: str
    content_hash: str
    committed_at_us: int
    data_key_id: str
    next_chunk: int
    epoch: str


@dataclass(frozen=True, slots=True)
class OpenedVersion:
    """One version, its manifest verified, its content not read yet."""

    keys: SessionKeys
    head: Head
    stamped: StampedManifest
    sealer: Sealer | None

    @property
    def manifest(self) -> Manifest:
        """What makes it up."""
        return self.stamped.manifest


def decode_head(session_id: str, found: Sequence[bytes | None]) -> Head | None:
    """The head by the `HEAD_FIELDS` of a container, or None if there is no such session.

    Raises:
        ContextArchivedError: its content is in the archive.
        ContextCorruptError: its container is not what was stored.
    """
    state, archived = found[:2]
    if state is None or state == b"deleting":
        return None
    if archived == b"1":
        raise archived_error(session_id)
    damaged = corrupt(session_id, "?", "its container is not what was stored")
    if state != b"live" or None in found[2:6]:
        raise damaged
    try:
        version, etag, hash_, at_us, data_key, next_chunk, epoch = (
            "" if value is None else value.decode() for value in found[2:]
        )
        _check_version(version)
        return Head(version, etag, hash_, int(at_us), data_key, int(next_chunk), epoch or "0")
    except ValueError as error:
        raise damaged from error
