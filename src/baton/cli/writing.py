"""What stands around a write: the version it is on top of, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer

from baton.cli.exits import MERGE_REQUIRED
from baton.cli.output import show_fields, show_json
from baton.errors import ContextNotFoundError, WriteRejectedError

if TYPE_CHECKING:
    from baton.store.contexts import ContextStore
    from baton.store.records import Commit

_OUTCOMES: Final = {
    "accepted": "accepted",
    "merged": "merged: another writer came between, and both changes are in it",
    "accepted_with_divergence": "accepted with divergence: it replaces {replaced}, which another "
    "writer put between and which stays in the history",
    "merge_required": "merge required: {count} changed by another writer too; the head stays, and "
    "what you wrote is kept",
}


def find_head(store: ContextStore, session_id: str) -> str | None:
    """The session's head now, or None where it begins with this write."""
    try:
        return store.resolve_version(session_id)
    except ContextNotFoundError:
        return None


def require_written(commit: Commit, session_id: str, base: str | None) -> Commit:
    """`commit`, unless another writer came first and it was rejected.

    Raises:
        WriteRejectedError: names the head.
    """
    if commit.action != "rejected":
        return commit
    raise WriteRejectedError(
        f"session {session_id}: the head is {commit.version}, not {base}; nothing was written. "
        f"Read it (baton context get {session_id}), bring both together, and write on top of it "
        f"(--base {commit.version})"
    )


def end_with_commit(commit: Commit, session_id: str, *, as_json: bool) -> None:
    """Print what became of a write; the command ends here, by exit code 3 for a conflict.

    Raises:
        Exit: Typer's own, for `merge_required`.
    """
    if as_json:
        show_json(commit_json(commit, session_id))
    else:
        show_fields(_described(commit, session_id))
    if commit.action == "merge_required":
        raise typer.Exit(MERGE_REQUIRED)


def commit_json(commit: Commit, session_id: str) -> dict[str, Any]:
    """The object that each writing command prints with --json: its keys are an interface."""
    return {
        "session": session_id,
        "version": commit.version,
        "action": commit.action,
        "etag": commit.etag,
        "content_hash": commit.content_hash,
        "committed_at": commit.committed_at,
        "replaced": commit.replaced,
        "conflict_id": commit.conflict_id,
        "conflicts": [conflict.as_dict() for conflict in commit.conflicts],
    }


def count_places(count: int) -> str:
    """`1 place`, `2 places`."""
    return f"{count} place" if count == 1 else f"{count} places"


def _described(commit: Commit, session_id: str) -> dict[str, str]:
    outcome = _OUTCOMES[commit.action].format(
        replaced=commit.replaced, count=count_places(len(commit.conflicts))
    )
    if commit.action != "merge_required":
        return {
            "session": session_id,
            "version": commit.version,
            "outcome": outcome,
            "hash": commit.content_hash,
        }
    named = f"{session_id} {commit.conflict_id}"
    return {
        "session": session_id,
        "head": commit.version,
        "outcome": outcome,
        "conflict": str(commit.conflict_id),
        "to see it": f"baton context conflicts {named}",
        "to end it": f"baton context resolve {named} --take ours|theirs|FILE",
    }
