"""What deletions and the archive should have taken out of Redis, and did not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from baton.errors import BatonError, StoreUnavailableError
from baton.lifecycle.findings import Finding
from baton.redis_client import redis_errors, require_binary
from baton.store.keys import CONTAINER_PATTERN, SessionKeys
from baton.store.mending import CONTENT_SUFFIXES
from baton.store.scanning import scan_sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from baton.lifecycle.checks.archive import Ask
    from baton.lifecycle.deletions import UnfinishedDeletions
    from baton.store.mending import KeyMending

CHUNKS_AT_ONCE: Final = 500
MOST_NAMED: Final = 3
_FIELDS: Final = ("state", "archived", "clearing", "shelf", "copy", "next_chunk")


@dataclass(frozen=True, slots=True)
class _Tombstone:
    """An archived session, as its container tells; `chunks`: how many ids it has given away."""

    session_id: str
    shelf: str
    copy: str
    chunks: int


class RemainsCheck:
    """Looks at every container: deletions that rest, and content beside tombstones.

    Args:
        redis_client: a binary client.
        mending: of keys.
        deletions: finds and finishes those that rest.
        ask: asks the archive, before anything is dropped that it should have.
        anywhere: whether there is one to ask.
    """

    kinds: Final = {
        "unfinished_deletion": "Deletions that were begun, and that nobody goes on with.",
        "content_beside_tombstone": "Archived sessions of which content is in Redis as well.",
    }

    def __init__(
        self,
        redis_client: redis.Redis,
        mending: KeyMending,
        deletions: UnfinishedDeletions,
        ask: Ask,
        anywhere: Callable[[], bool],
    ) -> None:
        self._redis = require_binary(redis_client)
        self._mending = mending
        self._deletions = deletions
        self._ask = ask
        self._anywhere = anywhere

    def find(self) -> Iterator[Finding]:
        """See `Check.find`."""
        with redis_errors(self._redis):
            for session_ids in scan_sessions(self._redis, CONTAINER_PATTERN):
                for session_id in self._deletions.among(session_ids):
                    yield Finding(
                        "unfinished_deletion", session_id,
                        "is being deleted, and nothing has come of that for a minute",
                        "finishes the deletion", partial(self._deletions.finish, session_id),
                    )  # fmt: skip
                yield from self._beside(session_ids)

    def _beside(self, session_ids: list[str]) -> Iterator[Finding]:
        for tombstone in self._tombstones(session_ids):
            suffixes = self._content_of(tombstone)
            if suffixes:
                yield self._finding(tombstone, suffixes)

    def _tombstones(self, session_ids: list[str]) -> list[_Tombstone]:
        """Of those that are whole: what is still being cleared is `settle`'s to finish."""
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in session_ids:
            pipeline.hmget(SessionKeys.of(session_id).base, _FIELDS)
        found = []
        for session_id, fields in zip(session_ids, pipeline.execute(), strict=True):
            state, archived, clearing, shelf, copy, chunks = fields
            if (state, archived, clearing) == (b"live", b"1", None):
                names = (shelf or b"").decode(), (copy or b"").decode()
                found.append(_Tombstone(session_id, *names, int(chunks or 0)))
        return found

    def _content_of(self, tombstone: _Tombstone) -> list[str]:
        """What stands beside it; nothing if it is none any more."""
        keys = SessionKeys.of(tombstone.session_id)
        ids = range(tombstone.chunks)
        slices = [ids[at : at + CHUNKS_AT_ONCE] for at in range(0, len(ids), CHUNKS_AT_ONCE)]
        pipeline = self._redis.pipeline(transaction=False)
        for suffix in CONTENT_SUFFIXES:
            pipeline.exists(keys.base + suffix)
        for each in slices:
            pipeline.exists(*map(keys.chunk, each))
        answers = pipeline.execute()
        found = [suffix for suffix, there in zip(CONTENT_SUFFIXES, answers, strict=False) if there]
        for each, there in zip(slices, answers[len(CONTENT_SUFFIXES) :], strict=True):
            if there:
                found += [f":chunks:{chunk_id}" for chunk_id in each]
        # Asked last: what was restored, or archived again, meanwhile is no remains.
        return found if found and tombstone in self._tombstones([tombstone.session_id]) else []

    def _finding(self, tombstone: _Tombstone, suffixes: list[str]) -> Finding:
        named = [each.removeprefix(":") for each in suffixes if ":chunks:" not in each]
        shown = [*named[:MOST_NAMED], *(["more"] if len(named) > MOST_NAMED else [])]
        shown += ["chunks"] if len(named) < len(suffixes) else []
        problem = f"is archived, and beside its tombstone are {', '.join(shown)}"
        found = partial(Finding, "content_beside_tombstone", tombstone.session_id, problem)
        reason = self._why_left(tombstone)
        if reason:
            return found(f"they are left: {reason}")
        return found(
            "drops them: the archive has its copy", partial(self._drop, tombstone, suffixes)
        )

    def _why_left(self, tombstone: _Tombstone) -> str:
        """Why its content must stay; empty if the archive has it."""
        if not self._anywhere():
            return "the archive is not here to be asked whether it has the session"
        asked = [[tombstone.session_id, tombstone.shelf, tombstone.copy]]
        try:
            lost = self._ask("without_copy", tombstones=asked)
        except StoreUnavailableError:
            raise
        except BatonError as error:
            return f"the archive could not be asked whether it has the session ({error})"
        return "the archive does not have its copy, so they may be all that is left" if lost else ""

    def _drop(self, tombstone: _Tombstone, suffixes: list[str]) -> bool:
        keys = SessionKeys.of(tombstone.session_id)
        dropped = self._mending.drop_remains(keys, tombstone.shelf, tombstone.copy, suffixes)
        return bool(dropped)
