"""Recomputes an audit trail against its seals, and its seals against the anchor. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from baton.clock import iso_utc, utc_from_ms
from baton.store.audit_seals import decode_seal, entry_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from baton.store.audit_anchors import Head
    from baton.store.audit_seals import Seal

KEPT_MS: Final = 128 * 24 * 3600 * 1000  # AUDIT_MS in audit.lua
MAX_PROBLEMS: Final = 50


class Problem(NamedTuple):
    """Something that is not as it was recorded.

    `number` is a sequence number where `kind` is `entry`, else that of a segment. `archive`: the
    copy in the archive's file.
    """

    kind: Literal["entry", "seal", "anchor", "archive"]
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Trail:
    """A trail as it was found, nothing of it believed.

    Attributes:
        next_seq: what the counter says the last entry's number is; -1: it is no number.
        trimmed: how many entries are said to have been taken off its front.
        at_ms: when it was read, in milliseconds by Redis' clock.
        seals: all of them, raw, from that of segment `first_segment` on.
        entries: all behind the trimmed ones, raw.
        kept_ms: None: the archive's file is not looked at, so what was carried to it may be
            missing. Else it is part of the trail, and such entries may be missing only if they
            were sealed so long ago.
    """

    session_id: str
    next_seq: int
    trimmed: int
    at_ms: int
    seals: Sequence[bytes]
    entries: Iterable[bytes]
    kept_ms: int | None = None
    first_segment: int = 1


@dataclass(frozen=True, slots=True)
class AuditVerification:
    """What a verification found.

    Attributes:
        entries: those that are there; `sealed_entries` and `unsealed_entries` of them.
        trimmed_entries: taken off the front, as the anchor knows.
        segments: how many there are, with those whose seals were carried.
        anchored_segments: the last of them that the anchor confirms, and with it all before; 0
            without an anchor that can be read back.
        head: hash of the last seal, to compare by hand; empty without seals.
        problems: at most 50, entries first; the first of a kind is where it begins.
    """

    session_id: str
    entries: int
    sealed_entries: int
    unsealed_entries: int
    trimmed_entries: int
    segments: int
    anchored_segments: int
    head: str
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether everything is as it was recorded."""
        return not self.problems


def verify_trail(trail: Trail, heads: Sequence[Head] | None) -> AuditVerification:
    """Verify `trail`; `heads` is what the anchor keeps of the session, None: it cannot be read."""
    seals, seal_problems = _check_seals(trail)
    entries = _EntryCheck(trail, seals)
    entries.run()
    anchored, anchor_problems = (0, []) if heads is None else _check_heads(trail, seals, heads)
    trim_problems = _check_trim(trail, seals, heads or ())
    seal_problems = [*_check_front(trail, seals, heads or ()), *seal_problems]
    problems = [*trim_problems, *entries.problems, *seal_problems, *anchor_problems]
    return AuditVerification(
        session_id=trail.session_id,
        entries=entries.position - trail.trimmed,
        sealed_entries=entries.sealed,
        unsealed_entries=entries.position - trail.trimmed - entries.sealed,
        trimmed_entries=trail.trimmed,
        segments=trail.first_segment - 1 + len(trail.seals),
        anchored_segments=anchored,
        head=next((seal.hash for seal in reversed(seals) if seal is not None), ""),
        problems=tuple(problems[:MAX_PROBLEMS]),
    )


def verified_together(found: Sequence[AuditVerification]) -> AuditVerification:
    """One verdict of several chains (at least one), the last of which is the newest."""
    problems = [problem for each in found for problem in each.problems]
    return replace(
        found[-1],
        entries=sum(each.entries for each in found),
        sealed_entries=sum(each.sealed_entries for each in found),
        trimmed_entries=sum(each.trimmed_entries for each in found),
        segments=sum(each.segments for each in found),
        anchored_segments=sum(each.anchored_segments for each in found),
        problems=tuple(problems[:MAX_PROBLEMS]),
    )


def with_problem(found: AuditVerification, *problems: Problem) -> AuditVerification:
    """The same with these problems behind its own."""
    return replace(found, problems=(*found.problems, *problems)[:MAX_PROBLEMS])


def _check_seals(trail: Trail) -> tuple[list[Seal | None], list[Problem]]:
    """The seals, None for one that is none, and what is wrong with each by itself or its link."""
    seals: list[Seal | None] = []
    problems = []
    for segment, raw in enumerate(trail.seals, trail.first_segment):
        before = seals[-1] if seals else None
        try:
            seal = decode_seal(raw)
        except ValueError as error:
            problems.append(Problem("seal", segment, f"is damaged ({_first_line(error)})"))
            seals.append(None)
            continue
        if segment == 1 or before is not None:
            fault = _link_fault(trail.session_id, seal, before)
            if fault:
                problems.append(Problem("seal", segment, fault))
        elif (seal.session, seal.segment) != (trail.session_id, segment) and not seals:
            problems.append(Problem("seal", segment, "is another segment's"))
        seals.append(seal)
    return seals, problems


def _check_front(
    trail: Trail, seals: Sequence[Seal | None], heads: Sequence[Head]
) -> list[Problem]:
    """Seals may be missing in front only up to one that an anchor was told of as they went."""
    if trail.first_segment == 1:
        return []
    front = seals[0].hash if seals and seals[0] is not None else ""
    if any(head.kind != "sealed" and head.hash == front for head in heads):
        return []
    text = "is the first left; no anchor knows that those before it were carried"
    return [Problem("seal", trail.first_segment, text)]


def _link_fault(session_id: str, seal: Seal, before: Seal | None) -> str:
    expected = (
        (session_id, 1, 1, "", seal.chain)
        if before is None
        else (session_id, before.segment + 1, before.last_seq + 1, before.hash, before.chain)
    )
    got = (seal.session, seal.segment, seal.first_seq, seal.previous, seal.chain)
    names = ("session", "number", "first entry", "previous hash", "chain")
    wrong = [name for name, a, b in zip(names, expected, got, strict=True) if a != b]
    return f"does not continue the one before it ({', '.join(wrong)})" if wrong else ""


class _EntryCheck:
    """Walks the entries once, segment by segment, then the unsealed tail."""

    def __init__(self, trail: Trail, seals: Sequence[Seal | None]) -> None:
        self._trail = trail
        self._seals = seals
        self._entries: Iterator[bytes] = iter(trail.entries)
        self._shift = 0
        self.position = trail.trimmed
        self.sealed = 0
        self.problems: list[Problem] = []

    def run(self) -> None:
        """Check all; afterwards `position` is the number of the last entry."""
        for seal in self._seals:
            if seal is not None and seal.first_seq > self.position:
                self._check_segment(seal)
        while tail := self._take(1000):
            self._note(self._number_fault(tail))
        self._check_counter()

    def _check_segment(self, seal: Seal) -> None:
        # Where a seal before it was damaged, its entries can only be counted.
        self._skip(seal.first_seq - 1 - self.position)
        segment = self._take(seal.count)
        self.sealed = self.position - self._trail.trimmed
        number_fault = self._number_fault(segment)
        changed = seal.first_changed([entry_digest(raw) for raw in segment])
        if changed is None:
            self._note(number_fault)
        elif changed > self.position:
            text = f"is gone, as are all up to {seal.last_seq} of segment {seal.segment}"
            self._note(Problem("entry", changed, text))
        else:
            self._note(Problem("entry", changed, f"is not what segment {seal.segment} sealed"))

    def _number_fault(self, raw_entries: Sequence[bytes]) -> Problem | None:
        """The first of the entries just taken that does not have the next number."""
        fault = None
        start = self.position - len(raw_entries)
        for place, raw in enumerate(raw_entries, start + 1):
            seq = _number_of(raw, self._trail.session_id)
            if seq == place + self._shift:
                continue
            if fault is None:
                found = "no entry of this session" if seq is None else f"number {seq}"
                fault = Problem("entry", place + self._shift, f"was expected, {found} is there")
            if seq is not None:  # what follows it is counted from there
                self._shift = seq - place
        return fault

    def _check_counter(self) -> None:
        last, counted = self.position + self._shift, self._trail.next_seq
        if counted != last and not self.problems:
            text = f"is gone, or the counter is not right: it says {counted}, the last is {last}"
            self._note(Problem("entry", last + 1, text))

    def _skip(self, count: int) -> None:
        self.position += sum(1 for _ in islice(self._entries, count))

    def _take(self, count: int) -> list[bytes]:
        taken = list(islice(self._entries, count))
        self.position += len(taken)
        return taken

    def _note(self, problem: Problem | None) -> None:
        if problem is not None:
            self.problems.append(problem)


def _check_heads(
    trail: Trail, seals: Sequence[Seal | None], heads: Sequence[Head]
) -> tuple[int, list[Problem]]:
    """The last segment that the anchor confirms, and where it says otherwise."""
    chain = next((seal.chain for seal in seals if seal is not None), "")
    anchored, problems = 0, {}
    for head in heads:
        place = head.segment - trail.first_segment
        if place < 0 and head.chain == chain:
            continue  # the first that is left vouches for those before it
        seal = seals[place] if 0 <= place < len(seals) else None
        at = iso_utc(utc_from_ms(head.at))
        if seal is not None and (seal.chain, seal.hash) == (head.chain, head.hash):
            anchored = max(anchored, head.segment)
        elif head.chain == chain:
            text = "is gone" if seal is None else "is another"
            problems[head.segment] = f"{text}; the anchor has had it since {at}"
        elif trail.at_ms - head.at < KEPT_MS:
            text = f"of chain {head.chain} is gone; the anchor has had it since {at}"
            problems[head.segment] = text
    return anchored, [Problem("anchor", segment, problems[segment]) for segment in sorted(problems)]


def _check_trim(trail: Trail, seals: Sequence[Seal | None], heads: Sequence[Head]) -> list[Problem]:
    """Entries may be missing in front only where the anchor knows that they were trimmed."""
    hashes = {seal.hash for seal in seals if seal is not None}
    kinds = {"trimmed", "carried"} if trail.kept_ms is None else {"trimmed"}
    known = [head.last_seq for head in heads if head.kind in kinds and head.hash in hashes]
    last = max([*known, *_past_their_time(trail, seals)], default=0)
    if trail.trimmed > last:
        text = f"is gone, as are all up to {trail.trimmed}; no anchor knows that they were trimmed"
        return [Problem("entry", last + 1, text)]
    ends = {seal.last_seq for seal in seals if seal is not None}
    if trail.trimmed and trail.trimmed not in ends:
        text = "is said to be the first left, but only whole segments are trimmed"
        return [Problem("entry", trail.trimmed + 1, text)]
    return []


def _past_their_time(trail: Trail, seals: Sequence[Seal | None]) -> list[int]:
    """Numbers of the last entries of segments that the archive's file need not have any more."""
    if trail.kept_ms is None:
        return []
    oldest_ms = trail.at_ms - trail.kept_ms
    return [seal.last_seq for seal in seals if seal is not None and seal.at <= oldest_ms]


def _number_of(raw: bytes, session_id: str) -> int | None:
    """The number that an entry of this session bears; None: it is no such entry."""
    try:
        entry = json.loads(raw) if b"\n" not in raw else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or entry.get("session") != session_id:
        return None
    seq = entry.get("seq")
    return seq if type(seq) is int else None


def _first_line(error: ValueError) -> str:
    return str(error).partition("\n")[0]
