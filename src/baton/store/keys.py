"""The keys of a session. All of them carry `{session id}`, so they share one hash slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from baton.errors import InvalidIdError
from baton.ids import check_id

_PREFIX: Final = "context:claude_max:{"
VERSION_PATTERN: Final = "context:claude_max:{*}:version"
ACCESS_PATTERN: Final = "context:claude_max:{*}:access"


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Key names of one session; scripts derive the same siblings from `base`."""

    base: str

    @classmethod
    def of(cls, session_id: object) -> SessionKeys:
        """The keys of `session_id`.

        Raises:
            InvalidIdError: the id could leave its place in a key.
        """
        return cls(f"{_PREFIX}{check_id(session_id, 'session_id')}}}")

    @property
    def manifests(self) -> str:
        """Hash: version -> `etag` newline manifest JSON."""
        return f"{self.base}:manifests"

    @property
    def metadata(self) -> str:
        """Hash: the protocol's metadata of the head."""
        return f"{self.base}:metadata"

    @property
    def history(self) -> str:
        """Sorted set: `version:content_hash`, score = commit time in seconds."""
        return f"{self.base}:history"

    @property
    def authors(self) -> str:
        """Hash: agent -> newest version it wrote."""
        return f"{self.base}:authors"

    @property
    def operations(self) -> str:
        """Hash: operation id -> version, for writes that were given a name."""
        return f"{self.base}:operations"

    @property
    def access(self) -> str:
        """List: a marker, then notes of reads."""
        return f"{self.base}:access"

    @property
    def audit(self) -> str:
        """List: audit entries as JSON, appended only."""
        return f"{self.base}:audit"

    def chunk(self, chunk_id: int) -> str:
        """String: the stored bytes of one immutable chunk."""
        return f"{self.base}:chunks:{chunk_id}"

    def staging_prefix(self, operation_id: str) -> str:
        """With an index behind it, a string: a chunk on its way in; expires by itself."""
        return f"{self.base}:staging:{operation_id}:"


def session_id_of(key: bytes) -> str | None:
    """The session id within a key that a SCAN found, or None if it is not one of ours."""
    text = key.decode("utf-8", "replace")
    if not text.startswith(_PREFIX):
        return None
    try:
        return check_id(text[len(_PREFIX) :].partition("}")[0], "session_id")
    except InvalidIdError:
        return None
