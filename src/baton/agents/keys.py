"""The Redis keys of what all processes share about a model, or about a handoff's calls of models.

A model's keys carry `{model}`, so they share one hash slot. A handoff's breaker has the handoff's
tag: it lies where the handoff's own scripts can look at it.
"""

from __future__ import annotations

from baton.ids import check_id


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


def handoff_breaker_key(handoff_id: object) -> str:
    """String: why the handoff sends no more calls.

    Raises:
        InvalidIdError: the id could leave its place in a key.
    """
    return f"handoff:{{{check_id(handoff_id, 'handoff_id')}}}:breaker"
