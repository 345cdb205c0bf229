"""What one line of the audit trail says: who did what, when, from where."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Literal

from baton.clock import utc_from_ms

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Operation = Literal[
    "created",
    "read",
    "updated",
    "appended",
    "merged",
    "conflicted",
    "resolved",
    "rolled_back",
    "forked",
    "tagged",
    "untagged",
    "pinned",
    "unpinned",
    "checkpointed",
    "flagged",
    "exported",
    "imported",
    "archived",
    "restored",
    "purged",
    "aged",
    "held",
    "released",
    "deleted",
    "collected",
    "rewrapped",
    "key_used",
    "denied",
]
# What readers may claim in notes; `drain_access.lua` accepts no other.
NotedOperation = Literal["read", "exported", "key_used", "denied"]

UNREADABLE: Final = "unreadable"
_HOST_CHARACTERS: Final = 64
_CLIENT_CHARACTERS: Final = 96


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a call came from, as its process says of itself: a hint, not a proof.

    Both are printable ASCII, with anything else escaped, and bounded in length.
    """

    host: str
    client: str

    @classmethod
    def here(cls, client: str | None = None) -> Caller:
        """This host, and `client` or else `baton/<version> <program>`."""
        name = default_client_name() if client is None else client
        return cls(
            host=bounded(socket.gethostname(), _HOST_CHARACTERS),
            client=bounded(name, _CLIENT_CHARACTERS),
        )

    def as_dict(self) -> dict[str, str]:
        """`{"host", "client"}`, as scripts and notes take it."""
        return {"host": self.host, "client": self.client}


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of the trail.

    `operation` is an `Operation`, or `unreadable` where the stored bytes are no entry: then `seq`
    is 0, `at` is None, and `details` has the first of those bytes.
    """

    seq: int
    at: datetime | None
    session_id: str
    agent: str
    operation: str
    version: str
    details: Mapping[str, Any] = field(default_factory=dict)
    host: str = ""
    client: str = ""


def default_client_name() -> str:
    """`baton/<version> <program>`."""
    program = PurePath(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    return f"baton/{metadata.version('baton')} {program}"


def bounded(text: str, limit: int) -> str:
    """`text` on one line of printable ASCII, the rest escaped, cut to `limit` characters."""
    return text.encode("unicode_escape").decode("ascii")[:limit]


def decode_entry(raw: bytes) -> AuditEntry:
    """The entry that `raw` holds, or an `unreadable` one. Never raises: evidence is shown."""
    try:
        return _entry(json.loads(raw))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        shown = raw[:200].decode("utf-8", "backslashreplace")
        return AuditEntry(0, None, "", "", UNREADABLE, "", {"bytes": shown})


def _entry(fields: Mapping[str, Any]) -> AuditEntry:
    caller = fields.get("caller") or {}
    return AuditEntry(
        seq=int(fields["seq"]),
        at=utc_from_ms(fields["at"]),
        session_id=str(fields["session"]),
        agent=str(fields["agent"]),
        operation=str(fields["operation"]),
        version=str(fields["version"]),
        details=dict(fields["details"]),
        host=str(caller.get("host", "")),
        client=str(caller.get("client", "")),
    )
