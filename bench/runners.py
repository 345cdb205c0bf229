"""What Baton's nodes run in the bench: plain functions, as a user's own would be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from baton.agents.runner import Assignment


def noop(_: Assignment) -> str:
    """Nothing; does not touch the context."""
    return ""


def length(assignment: Assignment) -> str:
    """The length of the shared context."""
    return str(len(assignment.context))
