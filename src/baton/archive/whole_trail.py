"""An audit trail whole: what Redis has of it, and before that, what was carried to the file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain as chained
from typing import TYPE_CHECKING, Final

from baton.errors import PermanentError
from baton.redis_client import require_binary
from baton.store.audit import AuditTrail
from baton.store.audit_export import export_chain
from baton.store.audit_reading import TrailReader, require_trail
from baton.store.audit_seals import chain_of, decode_seal, entry_digest
from baton.store.audit_verification import (
    Problem,
    Trail,
    verified_together,
    verify_trail,
    with_problem,
)
from baton.store.audit_view import ShownEntries, check_limit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import redis

    from baton.archive.audit_file import AuditFile, CarriedChain, CarriedSegment
    from baton.store.audit_anchors import AuditAnchor, Head
    from baton.store.audit_reading import TrailSize
    from baton.store.audit_seals import Seal
    from baton.store.audit_verification import AuditVerification

# Stands for an entry that neither Redis nor the file has. No entry is empty.
_MISSING: Final = b""


@dataclass(frozen=True, slots=True)
class _Chain:
    """One chain of a session, from wherever it is.

    Attributes:
        name: empty for what has no seal yet.
        carried: number of the last segment that the file has.
        last_seq: number of its last entry.
        is_live: whether Redis has it.
    """

    name: str
    carried: int
    last_seq: int
    is_live: bool
    trail: Trail

    @property
    def entry_count(self) -> int:
        """How many entries there are, or should be."""
        return self.last_seq - self.trail.trimmed


class WholeTrail:
    """Shows, verifies and exports trails from Redis and the archive's file as one: an `AuditView`.

    Where there is no file, because nothing was carried here or another machine has it, it is as
    `AuditTrail`. Every method raises InvalidIdError for what is no session id,
    StoreUnavailableError where Redis does not answer, and ColdStoreUnavailableError or
    ColdStoreCorruptError where the file does not.

    Args:
        redis_client: a binary client. It is not closed here.
        file: what was carried; closed with this.
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
        self._alone = AuditTrail(redis_client, anchor)
        self._file = file
        self._anchor = anchor
        self._kept_ms = round(keep_seconds * 1000)

    def show(self, session_id: str, limit: int | None = None) -> ShownEntries:
        """Contract: `AuditView.show`.

        Where a trail expired and another began under the same name, both, one after the other.
        """
        check_limit(limit)
        if not self._file.exists():
            return self._alone.show(session_id, limit)
        size = self._reader.measure(session_id)
        chains = self._file.chains(session_id)
        if not chains:
            require_trail(size)
        live = chain_of([size.last_seal])
        carried = {each.chain: each.segments for each in chains}
        missing = self._trimmed(size, live, carried.get(live, 0)) + sum(
            self._first_left(session_id, each) - 1 for each in chains if each.chain != live
        )
        # Where Redis has lost the list, nothing that was carried is in it.
        through_seq = size.trimmed if size.entries else None
        raw_entries = chained(
            self._reader.latest(size, limit),
            self._carried(session_id, live, through_seq) if live in carried else (),
            *(self._carried(session_id, each) for each in reversed(carried) if each != live),
        )
        return ShownEntries(session_id, raw_entries, limit, missing)

    def verify(self, session_id: str) -> AuditVerification:
        """Contract: `AuditView.verify`; the file is compared with Redis, too.

        Chains that only the file has are verified each by itself, and counted in.
        """
        if not self._file.exists():
            return self._alone.verify(session_id)
        # The heads first, then the file: what comes in between must not look like something gone.
        heads = None if self._anchor is None else self._anchor.find_heads(session_id)
        size, chains = self._chains(session_id, is_known=bool(heads))
        others = {each.name for each in chains[:-1]}
        found = []
        for each in chains:
            own = None if heads is None else _heads_of(heads, each, chains, others)
            verified = verify_trail(each.trail, own)
            found.append(self._judged(size, each, verified))
        return verified_together(found)

    def export(self, session_id: str) -> Iterator[bytes]:
        """Contract: `AuditView.export`; chain by chain, the newest last."""
        if not self._file.exists():
            return self._alone.export(session_id)
        _, chains = self._chains(session_id, is_known=False)
        return chained.from_iterable(
            export_chain(each.trail, each.entry_count, len(chains) - number)
            for number, each in enumerate(chains, 1)
        )

    def close(self) -> None:
        """Close the file; a later use opens it again. Idempotent."""
        self._file.close()

    # --- chains --------------------------------------------------------------------------------

    def _chains(self, session_id: str, *, is_known: bool) -> tuple[TrailSize, list[_Chain]]:
        """All of a session, the newest last; at least one."""
        carried = self._file.chains(session_id)
        size = self._reader.measure(session_id)
        if not is_known and not carried:
            require_trail(size)
        seals = list(self._reader.seals(size))
        live = chain_of(seals)
        chains = [self._gone(size, each) for each in carried if each.chain != live]
        if seals or size.entries or size.next_seq or not chains:
            segments = {each.chain: each.segments for each in carried}
            chains.append(self._live(size, live, seals, segments.get(live, 0)))
        return size, chains

    def _live(self, size: TrailSize, chain: str, seals: list[bytes], carried: int) -> _Chain:
        """The chain that Redis has, with what was carried of it."""
        trimmed = self._trimmed(size, chain, carried)
        seals = [*self._carried_seals(size, chain), *seals]
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
            first_segment=size.seals + 1 - len(seals),
        )
        return _Chain(chain, carried, size.last_seq, is_live=True, trail=trail)

    def _carried_seals(self, size: TrailSize, chain: str) -> list[bytes]:
        """Those that Redis has no more, as far back from there as the file has them all."""
        if not size.seals_gone:
            return []
        segments = self._file.segments(size.session_id, chain, 1, size.seals_gone)
        found = {each.segment: each.seal for each in segments}
        seals: list[bytes] = []
        while size.seals_gone - len(seals) in found:
            seals.append(found[size.seals_gone - len(seals)])
        return seals[::-1]

    def _gone(self, size: TrailSize, chain: CarriedChain) -> _Chain:
        """A chain that Redis has no more."""
        session_id, last_seq = size.session_id, chain.last_seq
        seals = {each.segment: each.seal for each in self._file.segments(session_id, chain.chain)}
        trimmed = self._first_left(session_id, chain) - 1
        trail = Trail(
            session_id=session_id,
            next_seq=last_seq,
            trimmed=trimmed,
            at_ms=size.at_ms,
            seals=[seals.get(number, _MISSING) for number in range(1, chain.segments + 1)],
            entries=self._carried_between(session_id, chain.chain, trimmed, last_seq),
            kept_ms=self._kept_ms,
        )
        return _Chain(chain.chain, chain.segments, last_seq, is_live=False, trail=trail)

    def _trimmed(self, size: TrailSize, chain: str, carried: int) -> int:
        """What neither has of the chain's front; where the file has nothing, what Redis says."""
        first = self._first_kept(size.session_id, chain, carried)
        return size.trimmed if first is None else min(size.trimmed, first.first_seq - 1)

    def _first_left(self, session_id: str, chain: CarriedChain) -> int:
        """Number of the first entry that the file has of a chain; of none, the one after all."""
        first = self._first_kept(session_id, chain.chain, chain.segments)
        return chain.last_seq + 1 if first is None else first.first_seq

    # --- verdicts ------------------------------------------------------------------------------

    def _judged(
        self, size: TrailSize, chain: _Chain, verified: AuditVerification
    ) -> AuditVerification:
        """With what the file says; of a chain that Redis has no more, named in every problem."""
        if chain.is_live:
            return with_problem(verified, *self._compare(size, chain))
        problems = [
            each._replace(text=f"of chain {chain.name}, which Redis has no more: {each.text}")
            for each in verified.problems
        ]
        return replace(verified, problems=tuple(problems))

    def _compare(self, size: TrailSize, chain: _Chain) -> Iterator[Problem]:
        """Where the file says otherwise than the seals in Redis."""
        trail, last = chain.trail, size.seals
        if chain.carried > last:
            yield Problem("seal", last + 1, "is gone; the archive's file has it")
        first, through = trail.first_segment, min(chain.carried, last)
        for each in self._file.segments(size.session_id, chain.name, first, through):
            if each.seal != trail.seals[each.segment - first]:
                yield Problem("archive", each.segment, "has another seal in the archive's file")
            # What Redis has no more was read from the file, and is verified already.
            elif each.first_seq > size.trimmed and each.packed is not None:
                changed = _first_changed(each)
                if changed is not None:
                    text = f"has another entry {changed} in the archive's file"
                    yield Problem("archive", each.segment, text)

    # --- the file alone ------------------------------------------------------------------------

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


def _heads_of(
    heads: Sequence[Head], chain: _Chain, chains: Sequence[_Chain], others: set[str]
) -> list[Head]:
    """A chain's own; the newest's are all that no other has."""
    if chain is chains[-1]:
        return [head for head in heads if head.chain not in others]
    return [head for head in heads if head.chain == chain.name]


def _decode(raw: bytes) -> Seal | None:
    try:
        return decode_seal(raw)
    except ValueError:
        return None
