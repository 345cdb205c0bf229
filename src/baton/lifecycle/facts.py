"""Reads what decides the states of sessions, many in a round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from baton.errors import ContextCorruptError
from baton.lifecycle.states import Durations, SessionFacts
from baton.redis_client import redis_errors, redis_now_ms, require_binary
from baton.store.keys import SessionKeys

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import redis

_FIELDS: Final = (
    "state", "archived", "archived_at", "purge_at", "hold", "head", "active_ms", "archive_ms",
    "keep_ms",
)  # fmt: skip
AT_ONCE: Final = 500


class SessionFactsReader:
    """Reads facts of sessions.

    Args:
        redis_client: a binary client.
        durations: of sessions that have none of their own.
    """

    def __init__(self, redis_client: redis.Redis, durations: Durations) -> None:
        self._redis = require_binary(redis_client)
        self.durations = durations

    def read(self, session_ids: Iterable[str]) -> list[SessionFacts]:
        """Facts of each, in order.

        Raises:
            StoreUnavailableError: Redis did not answer.
            ContextCorruptError: a container is not what was stored; names the session.
        """
        wanted = list(session_ids)
        found: list[SessionFacts] = []
        for start in range(0, len(wanted), AT_ONCE):
            found += self._read(wanted[start : start + AT_ONCE])
        return found

    def now_ms(self) -> int:
        """Redis' clock."""
        with redis_errors(self._redis):
            return redis_now_ms(self._redis)

    def _read(self, session_ids: Sequence[str]) -> list[SessionFacts]:
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in session_ids:
            keys = SessionKeys.of(session_id)
            pipeline.hmget(keys.base, _FIELDS)
            pipeline.hget(keys.metadata, "last_accessed_at")
            pipeline.llen(keys.access)
            pipeline.pttl(keys.base)
        with redis_errors(self._redis):
            answers = pipeline.execute()
        return [
            self._facts(session_id, *answers[4 * index : 4 * index + 4])
            for index, session_id in enumerate(session_ids)
        ]

    def _facts(
        self, session_id: str, fields: list[bytes | None], accessed: Any, notes: int, pttl: int
    ) -> SessionFacts:
        texts = {
            name: value.decode()
            for name, value in zip(_FIELDS, fields, strict=True)
            if value is not None
        }
        if texts.get("state") != "live":
            return SessionFacts(session_id, exists=False)
        try:
            is_archived = texts.get("archived") == "1"
            return SessionFacts(
                session_id,
                exists=True,
                accessed_at_ms=int(accessed or 0),
                has_notes=notes > 1,
                archived_at_ms=int(texts["archived_at"]) if is_archived else None,
                purge_at_ms=int(texts["purge_at"]) if is_archived else None,
                hold=texts.get("hold", ""),
                durations=self._durations(texts),
                version=texts.get("head", ""),
                expires_in_ms=None if pttl < 0 else pttl,
            )
        except (KeyError, ValueError) as error:
            raise ContextCorruptError(
                f"session {session_id}: its container is not what was stored ({error!r})"
            ) from error

    def _durations(self, texts: dict[str, str]) -> Durations:
        default = self.durations
        return Durations(
            int(texts.get("active_ms", default.active_ms)),
            int(texts.get("archive_ms", default.archive_ms)),
            int(texts.get("keep_ms", default.keep_ms)),
        )
