"""The keys of a session. All of them carry `{session id}`, so they share one hash slot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from baton.errors import InvalidIdError
from baton.ids import check_id

_PREFIX: Final = "context:claude_max:{"
CONTAINER_PATTERN: Final = "context:claude_max:{*}"
# Versions, chunks and what is staged; checkpoints too.
COLLECTED_PATTERN: Final = "context:claude_max:{*}:[cvs][het]*"
VERSION_PATTERN: Final = "context:claude_max:{*}:version"
ACCESS_PATTERN: Final = "context:claude_max:{*}:access"
AUDIT_PATTERN: Final = "context:claude_max:{*}:audit"
AUDIT_SEALS_PATTERN: Final = "context:claude_max:{*}:audit_seals"
DATA_KEY_PATTERN: Final = "context:claude_max:{*}:key"
CLAIM_PATTERN: Final = "context:claude_max:{*}:staging:*:key"


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
        return _keys_of(check_id(session_id, "session_id"))

    @property
    def session_id(self) -> str:
        """The session they belong to."""
        return self.base[len(_PREFIX) : -1]

    @property
    def manifests(self) -> str:
        """Hash: version -> manifest as stored."""
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
    def past(self) -> str:
        """Hash: version -> its record as JSON, of versions that an archive did not keep."""
        return f"{self.base}:past"

    @property
    def deleted(self) -> str:
        """String: id of the deletion that was the session's last; for a day."""
        return f"{self.base}:deleted"

    @property
    def authors(self) -> str:
        """Hash: agent -> newest version it wrote."""
        return f"{self.base}:authors"

    @property
    def operations(self) -> str:
        """Hash: operation id -> version, or `conflict`, for writes that were given a name."""
        return f"{self.base}:operations"

    @property
    def checkpoints(self) -> str:
        """List: checkpoints as JSON, the oldest first."""
        return f"{self.base}:checkpoints"

    @property
    def tags(self) -> str:
        """Hash: tag -> version."""
        return f"{self.base}:tags"

    @property
    def pins(self) -> str:
        """Hash: name of what needs a version -> JSON `{version, expires_at}`."""
        return f"{self.base}:pins"

    @property
    def conflicts(self) -> str:
        """Hash: conflict id -> what is known of a pending revision, as JSON."""
        return f"{self.base}:conflicts"

    @property
    def pending(self) -> str:
        """Hash: conflict id -> the pending revision's manifest as stored."""
        return f"{self.base}:pending"

    @property
    def data_key(self) -> str:
        """String: a sealed session's wrapped data key, as JSON."""
        return f"{self.base}:key"

    @property
    def access(self) -> str:
        """List: a marker, then notes of reads."""
        return f"{self.base}:access"

    @property
    def audit(self) -> str:
        """List: audit entries as JSON, appended only."""
        return f"{self.base}:audit"

    @property
    def audit_state(self) -> str:
        """Hash: `next`, the number of the last audit entry, and `trimmed`, of the last removed."""
        return f"{self.base}:audit_state"

    @property
    def audit_seals(self) -> str:
        """List: the seals of the audit, one a segment, each chained to the one before."""
        return f"{self.base}:audit_seals"

    def chunk(self, chunk_id: int) -> str:
        """String: the stored bytes of one immutable chunk."""
        return f"{self.base}:chunks:{chunk_id}"

    def staging_prefix(self, operation_id: str) -> str:
        """With an index behind it, a string: a chunk on its way in; expires by itself."""
        return f"{self.base}:staging:{operation_id}:"

    def claim(self, data_key_id: str) -> str:
        """String: a data key of that id is being made; its commit needs it, a rotation takes it."""
        return f"{self.staging_prefix(data_key_id)}key"


@lru_cache(maxsize=10_000)
def _keys_of(session_id: str) -> SessionKeys:
    return SessionKeys(f"{_PREFIX}{session_id}}}")


def session_id_of(key: bytes) -> str | None:
    """The session id within a key that a SCAN found, or None if it is not one of ours."""
    text = key.decode("utf-8", "replace")
    if not text.startswith(_PREFIX):
        return None
    try:
        return check_id(text[len(_PREFIX) :].partition("}")[0], "session_id")
    except InvalidIdError:
        return None
