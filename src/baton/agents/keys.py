"""The Redis keys of what all processes share about a model, or about a handoff's calls of models.

A model's keys carry `{model}`, so they share one hash slot. A handoff's breaker has the handoff's
tag: it lies where the handoff's own scripts can look at it.
"""

from __future__ import annotations

import re
from typing import Final

from baton.errors import InvalidIdError
from baton.ids import check_id

_DIGEST: Final = re.compile(r"(?:[a-z0-9_]{1,16}:)?[0-9a-f]{16,128}", re.ASCII)


def rate_key(model: object) -> str:
    """Hash: the model's buckets; `:line`, `:fronts`, `:turns` and `:granted` lie beside it.

    Raises:
        InvalidIdError: the id could leave its place in a key.
    """
    return f"models:{{{check_id(model, 'model')}}}:rate"


def breaker_key(model: object) -> str:
    """Hash: whether calls of the model may go; `:outcomes` lies beside it.

    Raises:
        InvalidIdError: the id could leave its place in a key.
    """
    return f"models:{{{check_id(model, 'model')}}}:breaker"


def warm_key(model: object, ttl: str, prefix_hash: object) -> str:
    """Hash: what is known of the cache entry of a prefix, and who writes it now.

    Raises:
        InvalidIdError: the id could leave its place in a key, or the hash is no hex digest, with
            or without its algorithm and a colon before it.
    """
    if not (isinstance(prefix_hash, str) and _DIGEST.fullmatch(prefix_hash)):
        raise InvalidIdError("prefix_hash", "16 to 128 hex digits", prefix_hash)
    return f"models:{{{check_id(model, 'model')}}}:warm:{ttl}:{prefix_hash}"


def handoff_breaker_key(handoff_id: object) -> str:
    """String: why the handoff sends no more calls.

    Raises:
        InvalidIdError: the id could leave its place in a key.
    """
    return f"handoff:{{{check_id(handoff_id, 'handoff_id')}}}:breaker"
