"""Looks for anchors by RE2, stretch by stretch, within an allowance of looks.

A pass of RE2 takes a millisecond a MB; each anchor it finds takes Python microseconds. So a text
full of anchors is what costs time, and the number of those that are looked at is bounded: where
they stand too close for too long, the stretch is withheld as a whole. It stays linear, and what is
not looked at is not shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import re2

from baton.redaction.finding import RANK_CERTAIN, WITHHELD, Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from baton.redaction.subject import Subject

    Judge = Callable[[Subject, int, int], Sequence[Candidate]]

STRETCH_BYTES: Final = 16 * 1024
# An anchor that begins in a stretch may end beyond it by so much.
OVERLAP_BYTES: Final = 2 * 1024
# Anchors that any text may hold, and those that each byte of it adds.
BURST_ANCHORS: Final = 4_096
BYTES_PER_ANCHOR: Final = 64
# The automaton's cache; a smaller one makes RE2 fall back to an engine that is 50 times slower.
_MEMORY_BYTES: Final = 16 * 1024 * 1024
_BREAKS: Final = (b"\n", b" ", b",", b"&", b";")


class Detector(NamedTuple):
    """An RE2 pattern that says where to look, and a function that says what is there.

    `judge` is given the subject and the bytes of the anchor, and returns what it finds sensitive.
    It may look around the anchor, by a bounded number of bytes. `on_view` is false for a pattern
    that is to see the text as it is written.
    """

    anchor: re2._Regexp
    judge: Judge
    on_view: bool = True


def compile_anchor(pattern: str, *, ignore_case: bool = False) -> re2._Regexp:
    """An RE2 over bytes: classes know ASCII, and a letter of two bytes counts as two."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.case_sensitive = not ignore_case
    options.max_mem = _MEMORY_BYTES
    options.never_capture = True
    options.log_errors = False
    return re2.compile(pattern.encode(), options)


def scan(subject: Subject, detectors: Sequence[Detector]) -> Iterator[Candidate]:
    """What the detectors find, by stretches; within one, by detectors."""
    looked_at = 0
    for start, end in _stretches(subject.view):
        allowed = BURST_ANCHORS + end // BYTES_PER_ANCHOR - looked_at
        found, looks = _scan_stretch(subject, detectors, start, end, allowed)
        looked_at += looks
        if looks > allowed:
            yield Candidate(start, end, WITHHELD, "dense", RANK_CERTAIN)
        else:
            yield from found


def _scan_stretch(
    subject: Subject, detectors: Sequence[Detector], start: int, end: int, allowed: int
) -> tuple[list[Candidate], int]:
    """What was found in a stretch, and how many anchors were looked at: above `allowed` is none."""
    found: list[Candidate] = []
    looks = 0
    for detector in detectors:
        for anchor_start, anchor_end in _anchors(subject, detector, start, end):
            looks += 1
            if looks > allowed:
                return [], looks
            found += detector.judge(subject, anchor_start, anchor_end)
    return found, looks


def _anchors(
    subject: Subject, detector: Detector, start: int, end: int
) -> Iterable[tuple[int, int]]:
    text = subject.view if detector.on_view else subject.data
    beyond = min(len(text), end + OVERLAP_BYTES)
    for match in detector.anchor.finditer(text, start, beyond):
        span = match.span()
        if span[0] >= end:
            return
        yield span


def _stretches(view: bytes) -> Iterator[tuple[int, int]]:
    """The text in parts that end, if possible, between lines or words."""
    start = 0
    while start < len(view):
        end = _stretch_end(view, start)
        yield start, end
        start = end


def _stretch_end(view: bytes, start: int) -> int:
    end = start + STRETCH_BYTES
    if end >= len(view):
        return len(view)
    for mark in _BREAKS:
        found = view.rfind(mark, start + STRETCH_BYTES // 2, end)
        if found >= 0:
            return found + 1
    return end
