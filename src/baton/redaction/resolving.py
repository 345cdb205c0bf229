"""Makes candidates that overlap into findings that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.redaction.finding import RANK_ADDRESS, WITHHELD, Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable


def without_overlaps(candidates: Iterable[Candidate]) -> list[Candidate]:
    """In ascending order; what overlaps becomes one, of the kind with the lowest rank.

    An address that overlaps something else is dropped: the `password@host` of a URL reads as one.
    """
    ordered = sorted(set(candidates))
    strong = _joined(each for each in ordered if each.rank < RANK_ADDRESS)
    weak = _joined(each for each in ordered if each.rank >= RANK_ADDRESS)
    return sorted([*strong, *_apart_from(weak, strong)])


def _joined(ordered: Iterable[Candidate]) -> list[Candidate]:
    found: list[Candidate] = []
    for each in ordered:
        touches = found and found[-1].kind == each.kind == WITHHELD and each.start == found[-1].end
        if touches or (found and each.start < found[-1].end):
            last = found[-1]
            name = min(last, each, key=lambda candidate: candidate.rank)
            found[-1] = name._replace(start=last.start, end=max(last.end, each.end))
        else:
            found.append(each)
    return found


def _apart_from(weak: list[Candidate], strong: list[Candidate]) -> Iterable[Candidate]:
    at = 0
    for each in weak:
        while at < len(strong) and strong[at].end <= each.start:
            at += 1
        if at == len(strong) or strong[at].start >= each.end:
            yield each
