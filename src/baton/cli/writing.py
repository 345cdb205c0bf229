"""Writes a context on top of what a session holds, and tells of a writer that came first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.errors import ContextNotFoundError, WriteRejectedError

if TYPE_CHECKING:
    from baton.store.contexts import ContextStore
    from baton.store.records import Commit


def put_on_head(
    store: ContextStore, session_id: str, text: str, *, agent_id: str, base: str | None = None
) -> Commit:
    """Write on `base`, by default the session's head now; without a session, its first version.

    Raises:
        WriteRejectedError: the head is another by now; names it.
        what `ContextStore.put` raises.
    """
    base = base or _find_head(store, session_id)
    commit = store.put(session_id, text, agent_id=agent_id, base_version=base)
    if commit.action == "rejected":
        raise WriteRejectedError(
            f"session {session_id}: the head is {commit.version}, not {base}; nothing was "
            f"written. Read it (baton context get {session_id}), bring both together, and write "
            f"on top of it (--base {commit.version})"
        )
    return commit


def _find_head(store: ContextStore, session_id: str) -> str | None:
    try:
        return store.resolve_version(session_id)
    except ContextNotFoundError:
        return None
