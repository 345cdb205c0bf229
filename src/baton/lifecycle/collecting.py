"""Collects what no session needs: old versions, leftovers of writes and deletions, lost chunks."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from baton.errors import BatonError, NotFoundError, StoreUnavailableError
from baton.lifecycle.deletions import UnfinishedDeletions
from baton.lifecycle.server_keys import NO_EXPIRY, STAGING, ServerKeys, by_session
from baton.lifecycle.states import DAY_MS, HOUR_MS
from baton.redis_client import redis_errors, require_binary
from baton.store.keys import COLLECTED_PATTERN, SessionKeys, session_id_of
from baton.store.retention import YOUNG_SECONDS

if TYPE_CHECKING:
    import redis

    from baton.lifecycle.server_keys import ServerKey
    from baton.lifecycle.sweep_board import SweepRun
    from baton.store.contexts import ContextStore
    from baton.store.mending import KeyMending

logger = logging.getLogger(__name__)

COLLECTOR: Final = "baton_collector"
_HEAD: Final = b"}:version"
# Sorted set: sessions whose keys belong to nobody -> when that was first seen, in ms.
ORPHANS: Final = "sweep:orphans"
# Longer than any write, restore or deletion takes from its first key to its last.
ORPHAN_FOR_MS: Final = HOUR_MS
MOST_ORPHANS: Final = 10_000
AT_ONCE: Final = 1_000
# A session of which nothing could be collected is not planned again for so long.
FRUITLESS_SECONDS: Final = 6 * 3600.0
MOST_FRUITLESS: Final = 10_000


class Collecting:
    """One pass over all sessions, by SCAN. Any number may run at once, beside writers too.

    It takes, of each session: versions, and writes that waited to be merged, which nothing needs
    (`ContextStore.collect`; not of the last ten minutes); a deletion that nobody finishes; staged
    pieces that would stay for ever; and chunks without a session, if they were that for an hour. A
    write in progress needs none of these: what it stages has a minute, and what it refers to is
    checked by the script that commits it. A session under hold keeps its versions.

    Args:
        redis_client: a binary client.
        store: the contexts.
        mending: of keys.
    """

    def __init__(self, redis_client: redis.Redis, store: ContextStore, mending: KeyMending) -> None:
        self._redis = require_binary(redis_client)
        self._store = store
        self._mending = mending
        self._keys = ServerKeys(self._redis)
        self._deletions = UnfinishedDeletions(redis_client, mending)
        self._fruitless: dict[str, float] = {}

    def collect(self, run: SweepRun | None = None) -> int:
        """Collect; how many versions, waiting writes, deletions and keys went.

        Takes memory in proportion to a batch. Stopped half-way, it has lost nothing: what it has
        not come to is collected by the next run, and what it has is not found again.

        Raises:
            StoreUnavailableError: Redis did not answer; what was collected stays so.
        """
        collected, seen = 0, 0
        orphaned: set[str] = set()
        for names in self._keys.slices(COLLECTED_PATTERN):
            heads = [name for name in names if name.endswith(_HEAD)]
            sessions = [found for found in map(session_id_of, heads) if found is not None]
            others = [name for name in names if not name.endswith(_HEAD)]
            collected += self._collect_keys(others, orphaned)
            for session_id in self._with_something(sessions):
                collected += self._collect_session(session_id)
                if run is not None and run.lost:
                    return collected
            seen += len(sessions)
            if run is not None:
                run.progress(seen)
                if run.lost:
                    return collected
        self._forget_all_but(orphaned)
        return collected

    # --- sessions ------------------------------------------------------------------------------

    def _with_something(self, session_ids: list[str]) -> list[str]:
        """Those that may have something to collect."""
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in session_ids:
            keys = SessionKeys.of(session_id)
            pipeline.hmget(keys.base, ["state", "archived", "hold"])
            pipeline.hlen(keys.manifests)
            pipeline.hlen(keys.conflicts)
            pipeline.hlen(keys.pins)
        with redis_errors(self._redis):
            answers = pipeline.execute(raise_on_error=False)
        return [
            session_id
            for index, session_id in enumerate(session_ids)
            if self._may_have(session_id, *answers[4 * index : 4 * index + 4])
        ]

    def _may_have(
        self, session_id: str, container: object, versions: object, conflicts: object, pins: object
    ) -> bool:
        # What is not ours is left: whoever reads the session meets it, and says so.
        if not isinstance(container, list) or not isinstance(versions, int):
            return False
        state, archived, hold = container
        if state == b"deleting":
            return True
        if state != b"live" or archived == b"1" or hold is not None:
            return False
        is_fruitless = self._fruitless.get(session_id, 0.0) > time.monotonic()
        return bool(conflicts or pins) or (
            self._store.is_collection_due(versions) and not is_fruitless
        )

    def _collect_session(self, session_id: str) -> int:
        try:
            if self._deletions.finish(session_id):
                logger.warning("session %s: finished a deletion that rested", session_id)
                return 1
            done = self._store.collect(session_id, agent_id=COLLECTOR, young_seconds=YOUNG_SECONDS)
        except StoreUnavailableError:
            raise
        except NotFoundError:
            return 0
        except BatonError as error:
            logger.warning("session %s: not collected: %s", session_id, error)
            self._note_fruitless(session_id)
            return 0
        collected = len(done.versions) + len(done.conflicts) + done.chunk_count
        if not collected:
            self._note_fruitless(session_id)
        return collected

    def _note_fruitless(self, session_id: str) -> None:
        if len(self._fruitless) >= MOST_FRUITLESS:
            self._fruitless.clear()
        self._fruitless[session_id] = time.monotonic() + FRUITLESS_SECONDS

    # --- keys ----------------------------------------------------------------------------------

    def _collect_keys(self, names: list[bytes], orphaned: set[str]) -> int:
        """Of these keys; sessions of those that belong to nobody are added to `orphaned`."""
        keys = self._keys.look_at(names)
        collected = 0
        staged = [key for key in keys if key.suffix.startswith(STAGING) and key.pttl == NO_EXPIRY]
        for session_id, lasting in by_session(staged).items():
            suffixes = [key.suffix for key in lasting]
            collected += self._mending.expire_session(SessionKeys.of(session_id), suffixes)
        orphans = [key for key in keys if key.is_orphan and not key.suffix.startswith(STAGING)]
        for session_id, suspects in by_session(orphans).items():
            if session_id in orphaned or len(orphaned) < MOST_ORPHANS:
                orphaned.add(session_id)
                collected += self._collect_orphans(session_id, suspects)
        return collected

    def _collect_orphans(self, session_id: str, suspects: list[ServerKey]) -> int:
        orphans = self._keys.still_orphans(session_id, suspects)
        if not orphans or not self._is_ripe(session_id):
            return 0
        suffixes = [key.suffix for key in orphans]
        dropped = self._mending.drop_orphans(SessionKeys.of(session_id), suffixes) or 0
        logger.warning("session %s has no container: %d keys were dropped", session_id, dropped)
        return dropped

    def _is_ripe(self, session_id: str) -> bool:
        """Whether it was found without a session so long ago; it is noted from now on."""
        with redis_errors(self._redis):
            seconds, microseconds = self._redis.time()
            now_ms = seconds * 1000 + microseconds // 1000
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.zadd(ORPHANS, {session_id: now_ms}, nx=True)
            pipeline.zscore(ORPHANS, session_id)
            pipeline.pexpire(ORPHANS, 7 * DAY_MS)
            _, since_ms, _ = pipeline.execute()
        return now_ms - float(since_ms) >= ORPHAN_FOR_MS

    def _forget_all_but(self, orphaned: set[str]) -> None:
        """What was seen at this pass no more is to begin anew, should it be seen again."""
        with redis_errors(self._redis):
            noted = [each for at in range(0, 2 * MOST_ORPHANS, AT_ONCE) for each in self._noted(at)]
            gone = [each for each in noted if each.decode() not in orphaned]
            pipeline = self._redis.pipeline(transaction=False)
            for start in range(0, len(gone), AT_ONCE):
                pipeline.zrem(ORPHANS, *gone[start : start + AT_ONCE])
            pipeline.execute()

    def _noted(self, first: int) -> list[bytes]:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zrange(ORPHANS, first, first + AT_ONCE - 1)
        (found,) = pipeline.execute()
        return list(found)
