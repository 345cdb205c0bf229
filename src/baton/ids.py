"""Identifiers: how they are made and which are let near a Redis key."""

from __future__ import annotations

import re
import secrets

from baton.errors import InvalidIdError

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_NODE_ID = re.compile(r"(?:0|[1-9][0-9]{0,5})(?:\.(?:0|[1-9][0-9]{0,5})){0,15}", re.ASCII)


def check_id(value: object, field: str) -> str:
    """Return `value` if it is a well-formed id.

    Raises:
        InvalidIdError: it is not a string of 1 to 128 letters, digits, `_`, `.` or `-` that
            begins with a letter or digit. Such an id can neither leave its place in a Redis
            key, nor match another's by a pattern, nor forge a log line or a path.
    """
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise InvalidIdError(
        field, "1 to 128 letters, digits, '_', '.' or '-', the first a letter or digit", value
    )


def check_node_id(value: object, field: str = "node_id") -> str:
    """Return `value` if it is a node's slot path such as `3` or `3.0.12`.

    Raises:
        InvalidIdError: it is anything else.
    """
    if isinstance(value, str) and _NODE_ID.fullmatch(value):
        return value
    raise InvalidIdError(field, "a slot path such as '3' or '3.0.12'", value)


def new_agent_id(role: str) -> str:
    """`{role}_{8 hex}`, e.g. `sonnet_coordinator_8a3f19c2`; unique enough for one swarm."""
    return f"{check_id(role, 'role')}_{secrets.token_hex(4)}"


def new_session_id() -> str:
    """`session_{16 hex}`."""
    return f"session_{secrets.token_hex(8)}"


def new_handoff_id() -> str:
    """`handoff_{16 hex}`."""
    return f"handoff_{secrets.token_hex(8)}"


def new_operation_id() -> str:
    """A 128-bit id that lets a repeated write be recognised as the same one."""
    return secrets.token_hex(16)
