"""An audit trail whole: what Redis has of it, and before that, what was carried to the file."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain as chained
from itertools import islice
from typing import TYPE_CHECKING, Final

from baton.errors import InvalidInputError, PermanentError
from baton.redis_client import require_binary
from baton.store.audit_entries import decode_entry
from baton.store.audit_reading import TrailReader, require_trail
from baton.store.audit_seals import decode_seal, entry_digest
from baton.store.audit_verification import MAX_PROBLEMS, Problem, Trail, verify_trail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import redis

    from baton.archive.audit_file import AuditFile, CarriedSegment
    from baton.store.audit_anchors import AuditAnchor, Head
    from baton.store.audit_entries import AuditEntry
    from baton.store.audit_reading import TrailSize
    from baton.store.audit_seals import Seal
    from baton.store.audit_verification import AuditVerification

# Stands for an entry that neither Redis nor the file has. No entry is empty.
_MISSING: Final = b""


class WholeTrail:
    """Shows and verifies trails from Redis and the archive's file as one.

    Every method raises InvalidIdError for what is no session id, StoreUnavailableError where Redis
    does not answer, and ColdStoreUnavailableError or ColdStoreCorruptError where the file does not.

    Args:
        redis_client: a binary client. It is not closed here.
        file: what was carried. It is not closed here.
        anchor: as of `AuditTrail`.
        keep_seconds: how long the file keeps entries: older ones are not missed.
    """

    def __init__(
        self,
        redis_client: redis.Redis,
        file: AuditFile,
        anchor: AuditAnchor | None,
        *,
        keep_seconds: float,
    ) -> None:
        self._reader = TrailReader(require_binary(redis_client))
        self._file = file
        self._anchor = anchor
        self._kept_ms = round(keep_seconds * 1000)

    def show(self, session_id: str, limit: int | None = None) -> Iterator[AuditEntry]:
        """The session's entries, newest first, at most `limit` (1 or more); in bounded batches.

        Where a trail expired and another began under the same name, both, one after the other.

        Raises:
            ContextNotFoundError: neither Redis nor the file has a trail.
            SessionBusyError: the trail was trimmed meanwhile.
        """
        if limit is not None and limit < 1:
            raise InvalidInputError("limit", "1 or more, or None", limit)
        size = self._reader.measure(session_id)
        chains = [each.chain for each in self._file.chains(session_id)]
        if not chains:
            require_trail(size)
        live = _chain_of([size.last_seal])
        # Where Redis has lost the list, nothing that was carried is in it.
        through_seq = size.trimmed if size.entries else None
        raw_entries = chained(
            self._reader.latest(size, limit),
            self._carried(session_id, live, through_seq) if live in chains else (),
            *(self._carried(session_id, each) for each in reversed(chains) if each != live),
        )
        return map(decode_entry, islice(raw_entries, limit))

    def verify(self, session_id: str) -> AuditVerification:
        """Recompute the whole trail, against its seals and the anchor, and the file against Redis.

        Chains that only the file has are verified each by itself, and counted in.

        Raises:
            ContextNotFoundError: neither Redis, nor the file, nor the anchor knows of a trail.
            AnchorUnavailableError: the anchor could not be read.
            SessionBusyError: the trail was trimmed meanwhile.
            UnexpectedAnswerError: a key of the trail has another type.
        """
        # The heads first, then the file: what comes in between must not look like something gone.
        heads = None if self._anchor is None else self._anchor.find_heads(session_id)
        carried = {each.chain: each.segments for each in self._file.chains(session_id)}
        size = self._reader.measure(session_id)
        if not heads and not carried:
            require_trail(size)
        live_seals = list(self._reader.seals(size))
        live = _chain_of(live_seals)
        others = [each for each in carried if each != live]
        found = [
            self._verify_carried(size, each, carried[each], _of_chain(heads, each))
            for each in others
        ]
        if live_seals or size.entries or size.next_seq or not found:
            own = None if heads is None else [each for each in heads if each.chain not in others]
            found.append(self._verify_live(size, live, live_seals, carried.get(live, 0), own))
        return _together(found)

    # --- Redis and file ------------------------------------------------------------------------

    def _verify_live(
        self,
        size: TrailSize,
        chain: str,
        seals: list[bytes],
        carried: int,
        heads: Sequence[Head] | None,
    ) -> AuditVerification:
        """The chain that Redis has, with what was carried of it."""
        first = self._first_kept(size.session_id, chain, carried)
        # What the file has and Redis does not; without it, what Redis says was taken out.
        trimmed = size.trimmed if first is None else min(size.trimmed, first.first_seq - 1)
        trail = Trail(
            session_id=size.session_id,
            next_seq=size.next_seq,
            trimmed=trimmed,
            at_ms=size.at_ms,
            seals=seals,
            entries=chained(
                self._carried_between(size.session_id, chain, trimmed, size.trimmed),
                self._reader.entries(size),
            ),
            kept_ms=self._kept_ms,
        )
        verified = verify_trail(trail, heads)
        problems = list(self._compare(size, chain, seals, carried))
        return replace(verified, problems=(*verified.problems, *problems)[:MAX_PROBLEMS])

    def _compare(
        self, size: TrailSize, chain: str, seals: list[bytes], carried: int
    ) -> Iterator[Problem]:
        """Where the file says otherwise than the seals in Redis."""
        if carried > len(seals):
            yield Problem("seal", len(seals) + 1, "is gone; the archive's file has it")
        for each in self._file.segments(size.session_id, chain, 1, min(carried, len(seals))):
            if each.seal != seals[each.segment - 1]:
                yield Problem("archive", each.segment, "has another seal in the archive's file")
            # What Redis has no more was read from the file, and is verified already.
            elif each.first_seq > size.trimmed and each.packed is not None:
                changed = _first_changed(each)
                if changed is not None:
                    text = f"has another entry {changed} in the archive's file"
                    yield Problem("archive", each.segment, text)

    # --- the file alone ------------------------------------------------------------------------

    def _verify_carried(
        self, size: TrailSize, chain: str, carried: int, heads: Sequence[Head] | None
    ) -> AuditVerification:
        """A chain that Redis has no more."""
        session_id = size.session_id
        found = {
            each.segment: (each.seal, each.last_seq)
            for each in self._file.segments(session_id, chain)
        }
        last_seq = max((last_seq for _, last_seq in found.values()), default=0)
        first = self._first_kept(session_id, chain, carried)
        trimmed = last_seq if first is None else first.first_seq - 1
        trail = Trail(
            session_id=session_id,
            next_seq=last_seq,
            trimmed=trimmed,
            at_ms=size.at_ms,
            seals=[found.get(number, (_MISSING, 0))[0] for number in range(1, carried + 1)],
            entries=self._carried_between(session_id, chain, trimmed, last_seq),
            kept_ms=self._kept_ms,
        )
        verified = verify_trail(trail, heads)
        problems = [
            each._replace(text=f"of chain {chain}, which Redis has no more: {each.text}")
            for each in verified.problems
        ]
        return replace(verified, problems=tuple(problems))

    def _first_kept(self, session_id: str, chain: str, carried: int) -> CarriedSegment | None:
        """The first segment whose entries the file has, or has in a form that cannot be read."""
        if carried:
            for each in self._file.segments(session_id, chain):
                if each.packed is not None and _entries(each) != []:
                    return each
        return None

    def _carried_between(
        self, session_id: str, chain: str, after_seq: int, through_seq: int
    ) -> Iterator[bytes]:
        """The entries in this range, raw and in order; something that is none for each missing."""
        position = after_seq
        if position < through_seq:
            for each in self._file.segments(session_id, chain):
                if each.first_seq <= position or each.last_seq > through_seq:
                    continue
                yield from [_MISSING] * (each.first_seq - 1 - position)
                entries = (_entries(each) or [])[: each.count]
                yield from entries
                yield from [_MISSING] * (each.count - len(entries))
                position = each.last_seq
        yield from [_MISSING] * (through_seq - position)

    def _carried(
        self, session_id: str, chain: str, through_seq: int | None = None
    ) -> Iterator[bytes]:
        """Entries of the file, raw, the newest first; what cannot be read is passed over."""
        for each in self._file.newest_first(session_id, chain, through_seq):
            yield from reversed(_entries(each) or [])


def _entries(segment: CarriedSegment) -> list[bytes] | None:
    """Its entries; None: they cannot be read."""
    try:
        return segment.entries()
    except PermanentError:
        return None


def _first_changed(segment: CarriedSegment) -> int | None:
    """Number of the first entry that is not what was sealed."""
    entries = _entries(segment)
    if entries == []:  # it was taken out of Redis before it was carried
        return None
    seal = _decode(segment.seal)
    if entries is None or seal is None:
        return segment.first_seq
    return seal.first_changed([entry_digest(raw) for raw in entries])


def _chain_of(seals: Iterable[bytes]) -> str:
    """The chain of the first of these that is a seal; empty if none is."""
    found = (_decode(raw) for raw in seals)
    return next((seal.chain for seal in found if seal is not None), "")


def _of_chain(heads: Sequence[Head] | None, chain: str) -> list[Head] | None:
    return None if heads is None else [head for head in heads if head.chain == chain]


def _decode(raw: bytes) -> Seal | None:
    try:
        return decode_seal(raw)
    except ValueError:
        return None


def _together(found: list[AuditVerification]) -> AuditVerification:
    """One verdict of several chains, the last of which is the newest."""
    newest = found[-1]
    problems = [problem for each in found for problem in each.problems]
    return replace(
        newest,
        entries=sum(each.entries for each in found),
        sealed_entries=sum(each.sealed_entries for each in found),
        trimmed_entries=sum(each.trimmed_entries for each in found),
        segments=sum(each.segments for each in found),
        anchored_segments=sum(each.anchored_segments for each in found),
        problems=tuple(problems[:MAX_PROBLEMS]),
    )
