"""Carries sealed audit segments from Redis to the archive's file, and trims what is safe there."""

from __future__ import annotations

import itertools
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from baton.archive.audit_file import CarriedSegment, Place
from baton.archive.jump_watch import JumpWatch
from baton.errors import (
    AuditBrokenError,
    ColdStoreCorruptError,
    ContextCorruptError,
    InvalidInputError,
    PermanentError,
    SessionBusyError,
    UnexpectedAnswerError,
)
from baton.failpoints import reach
from baton.redis_client import redis_errors, require_binary
from baton.settings import DAY_SECONDS
from baton.store.audit import TRIM_AFTER_SECONDS
from baton.store.audit_reading import TrailReader
from baton.store.audit_seals import decode_seal, entry_digest
from baton.store.keys import AUDIT_SEALS_PATTERN, SessionKeys
from baton.store.scanning import scan_sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from baton.archive.audit_file import AuditFile, Standing
    from baton.store.audit import AuditTrail
    from baton.store.audit_seals import Seal

logger = logging.getLogger(__name__)

AT_ONCE: Final = 500
AT_ONCE_BYTES: Final = 8 * 1024 * 1024
TRAILS_AT_ONCE: Final = 1_000
# A trail is verified whole before it is trimmed: once a day, not at each run.
TRIM_SLACK_SECONDS: Final = float(DAY_SECONDS)
REFUSED_FOR_SECONDS: Final = float(DAY_SECONDS)
MOST_REFUSALS: Final = 20
FORGOTTEN_AT_ONCE: Final = 500
# Entries of a year ago must not go because a clock ran ahead for an hour.
JUMP_MS: Final = 3 * DAY_SECONDS * 1000
PAUSE_MS: Final = DAY_SECONDS * 1000
# Beyond it, numbers have no place in the file; no seal of ours has such.
_MOST: Final = 10**15


@dataclass(frozen=True, slots=True)
class _Trail:
    """A trail in Redis, as its last seal tells."""

    session_id: str
    chain: str
    segments: int
    trimmed: int


class AuditCarry:
    """Copies what is sealed, reads it back, and trims in Redis what is old and safe.

    Only whole sealed segments are carried, in order, and stay as they were first carried. What the
    trail of a session says is not judged: evidence is carried as it is found. Nothing is trimmed
    unless the trail verifies, an anchor knows it, and the file's copy is what was sealed.

    Idempotent; a run that is cut short is continued by the next. Two at once do no harm.

    Args:
        redis_client: a binary client. It is not closed here.
        file: where segments are carried to. It is not closed here.
        trail: trims.
        keep_seconds: how long the file keeps entries, from their sealing on.
        trim_after_seconds: how long Redis keeps them at least.
        now_ms: Redis' clock; None: it is asked.
    """

    def __init__(
        self,
        redis_client: redis.Redis,
        file: AuditFile,
        trail: AuditTrail,
        *,
        keep_seconds: float,
        trim_after_seconds: float = TRIM_AFTER_SECONDS,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._redis = require_binary(redis_client)
        self._reader = TrailReader(self._redis)
        self._file = file
        self._trail = trail
        self._keep_ms = round(keep_seconds * 1000)
        self._trim_after_seconds = trim_after_seconds
        self._now_ms = now_ms or self._ask_time
        self._watch = JumpWatch(file, "forget", jump_ms=JUMP_MS, pause_ms=PAUSE_MS)
        self._refused_until: dict[str, float] = {}

    def run(self, *, progress: Callable[[int], None], stop: Callable[[], bool]) -> int:
        """Carry all that is sealed, drop what is past its time, trim; segments that were carried.

        A trail that cannot be carried or trimmed is left as it is, and named in the log.

        Args:
            progress: told how many segments were carried so far.
            stop: asked now and then whether to end early.

        Raises:
            ColdStoreUnavailableError, ColdStoreCorruptError: the file; nothing was trimmed that
                is not in it.
            AnchorUnavailableError: carried, but not trimmed.
            StoreUnavailableError: Redis did not answer.
        """
        carried = 0
        due: list[tuple[_Trail, int]] = []
        with redis_errors(self._redis):
            for session_ids in scan_sessions(self._redis, AUDIT_SEALS_PATTERN):
                found = self._standings(list(self._trails(session_ids)))
                due = [*due, *self._due(found)][:TRAILS_AT_ONCE]
                for batch in _batches(self._missing(found)):
                    self._keep(batch)
                    carried += len(batch)
                    progress(carried)
                    if stop():
                        break
                if stop():
                    return carried
            if self._file.exists():
                self._forget(stop)
                self._trim_all(due, stop)
        return carried

    def _trails(self, session_ids: list[str]) -> Iterator[_Trail]:
        """Those whose last seal can be read; of others, sealing says what is wrong."""
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in session_ids:
            keys = SessionKeys.of(session_id)
            pipeline.lindex(keys.audit_seals, -1)
            pipeline.hget(keys.audit_state, "trimmed")
        answers = pipeline.execute(raise_on_error=False)
        for session_id, raw, trimmed in zip(session_ids, answers[::2], answers[1::2], strict=True):
            seal = _decode(raw)
            if seal is not None and seal.session == session_id:
                yield _Trail(session_id, seal.chain, seal.segment, _count(trimmed))

    def _standings(self, trails: list[_Trail]) -> list[tuple[_Trail, Standing]]:
        if not trails:
            return []
        self._file.make_folder()
        places = [Place(each.session_id, each.chain, each.trimmed + 1) for each in trails]
        return list(zip(trails, self._file.standings(places), strict=True))

    # --- carrying ------------------------------------------------------------------------------

    def _keep(self, batch: list[CarriedSegment]) -> None:
        reach("audit.read")
        self._file.put(batch)
        reach("audit.kept")
        self._check(batch)

    def _missing(self, found: list[tuple[_Trail, Standing]]) -> Iterator[CarriedSegment]:
        """What the file has not of these trails."""
        for trail, standing in found:
            if trail.segments <= standing.segments:
                continue
            try:
                yield from self._segments(trail, standing.segments + 1)
            except (SessionBusyError, UnexpectedAnswerError) as error:
                logger.warning(
                    "the audit of session %s is not carried now: %s", trail.session_id, error
                )

    def _segments(self, trail: _Trail, first: int) -> Iterator[CarriedSegment]:
        """The trail's segments from number `first` on, as they stand in Redis."""
        size = self._reader.measure(trail.session_id)
        first = max(first, size.seals_gone + 1)
        for number, raw in enumerate(self._reader.seals(size, first), first):
            seal = _decode(raw)
            if seal is None or (seal.session, seal.chain, seal.segment) != (
                trail.session_id, trail.chain, number,
            ):  # fmt: skip
                logger.warning(
                    "seal %d of the audit of session %s is damaged, and not carried",
                    number,
                    trail.session_id,
                )
                continue
            was_trimmed = seal.first_seq <= size.trimmed
            entries = (
                [] if was_trimmed else self._reader.some_entries(size, seal.first_seq, seal.count)
            )
            yield CarriedSegment.of(seal, entries)

    def _check(self, batch: list[CarriedSegment]) -> None:
        """Read back what was put.

        Raises:
            ColdStoreCorruptError: it is not there.
        """
        self._file.close()  # else SQLite would show what it remembers
        for (session_id, chain), group in itertools.groupby(
            batch, lambda each: (each.session, each.chain)
        ):
            wanted = {each.segment: each for each in group}
            found = self._file.segments(session_id, chain, min(wanted), max(wanted))
            kept = {each.segment: each for each in found}
            for segment, each in wanted.items():
                if segment not in kept:
                    raise ColdStoreCorruptError(
                        f"segment {segment} of the audit of session {session_id} was written to "
                        "the archive's file and is not there; what is in Redis is whole"
                    )
                if kept[segment] != each:
                    logger.error(
                        "the archive's file has another segment %d of the audit of session %s "
                        "than Redis; both stay as they are",
                        segment,
                        session_id,
                    )

    # --- trimming ------------------------------------------------------------------------------

    def _due(self, found: list[tuple[_Trail, Standing]]) -> Iterator[tuple[_Trail, int]]:
        """Trails whose first segment in Redis is old enough to be looked at, and its number."""
        after_seconds = self._trim_after_seconds + TRIM_SLACK_SECONDS
        oldest_ms = self._now_ms() - round(after_seconds * 1000)
        now = time.monotonic()
        for trail, standing in found:
            is_old = standing.sealed_at_ms is not None and standing.sealed_at_ms <= oldest_ms
            is_refused = self._refused_until.get(trail.session_id, now) > now
            if standing.segment is not None and is_old and not is_refused:
                yield trail, standing.segment

    def _trim_all(self, due: list[tuple[_Trail, int]], stop: Callable[[], bool]) -> None:
        refusals = 0
        for trail, first in due:
            if stop() or refusals >= MOST_REFUSALS:
                return
            refusals += not self._trimmed(trail, first)

    def _trimmed(self, trail: _Trail, first: int) -> bool:
        """Trim what may go; False if it was refused, which stays so for a day."""
        try:
            through = self._safe_through(trail, first)
            reach("audit.verified")
            self._trail.trim(
                trail.session_id,
                through_segment=through,
                older_than_seconds=self._trim_after_seconds,
                kind="carried",
            )
        except SessionBusyError:
            return True
        except (AuditBrokenError, ContextCorruptError, InvalidInputError) as error:
            self._refuse(trail.session_id, error)
            return False
        reach("audit.trimmed")
        return True

    def _safe_through(self, trail: _Trail, first: int) -> int:
        """The last old segment up to which the file has what was sealed.

        Raises:
            ContextCorruptError: not even the first is as it was sealed.
        """
        oldest_ms = self._now_ms() - round(self._trim_after_seconds * 1000)
        size = self._reader.measure(trail.session_id)
        through = first - 1
        live = self._reader.seals(size, first)
        for raw, each in zip(live, self._file.segments(trail.session_id, trail.chain, first)):  # noqa: B905  # the file may have more by now, or fewer
            if each.sealed_at_ms > oldest_ms or each.segment != through + 1:
                break
            if each.seal != raw or not is_sealed_so(each):
                break
            through = each.segment
        if through < first:
            raise ContextCorruptError(
                f"the archive's file has another segment {first} than Redis; `baton audit verify "
                f"{trail.session_id}` says more"
            )
        return through

    def _refuse(self, session_id: str, error: PermanentError) -> None:
        now = time.monotonic()
        if len(self._refused_until) >= TRAILS_AT_ONCE:
            self._refused_until = {
                name: until for name, until in self._refused_until.items() if until > now
            }
        self._refused_until[session_id] = now + REFUSED_FOR_SECONDS
        logger.warning(
            "the audit of session %s is carried, and stays in Redis too: %s", session_id, error
        )

    # --- the end of their time -----------------------------------------------------------------

    def _forget(self, stop: Callable[[], bool]) -> None:
        now_ms = self._now_ms()
        if self._watch.paused_until_ms(now_ms):
            return
        before_ms = now_ms - self._keep_ms
        while self._file.forget(before_ms, FORGOTTEN_AT_ONCE) == FORGOTTEN_AT_ONCE:
            if stop():
                return

    def _ask_time(self) -> int:
        answer: Any = self._redis.time()
        return int(answer[0]) * 1000 + int(answer[1]) // 1000


def is_sealed_so(segment: CarriedSegment) -> bool:
    """Whether the entries are those that its seal, whose hash holds, tells of."""
    seal = _decode(segment.seal)
    try:
        digests = [entry_digest(raw) for raw in segment.entries()]
    except PermanentError:
        return False
    return seal is not None and seal.first_changed(digests) is None


def _decode(raw: Any) -> Seal | None:
    try:
        seal = decode_seal(raw)
    except (ValueError, TypeError):
        return None
    return seal if max(seal.last_seq, seal.at) < _MOST else None


def _count(raw: Any) -> int:
    return int(raw) if isinstance(raw, bytes) and raw.isdigit() and int(raw) < _MOST else 0


def _batches(segments: Iterator[CarriedSegment]) -> Iterator[list[CarriedSegment]]:
    """Of at most 500, or of a few megabytes."""
    batch: list[CarriedSegment] = []
    size_bytes = 0
    for each in segments:
        batch.append(each)
        size_bytes += len(each.packed or b"")
        if len(batch) >= AT_ONCE or size_bytes >= AT_ONCE_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch
