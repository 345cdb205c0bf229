"""Looks for anchors by RE2, stretch by stretch, within an allowance of work.

One pass of RE2 over all cues tells which detectors have anything to do in a stretch; most have not.
A pass takes two milliseconds a MB; each anchor that is found takes Python microseconds. So a text
full of anchors is what costs time, and how many are looked at is bounded: where a stretch has more
than is allowed, it is withheld as a whole. The time stays linear, and what was not looked at is
not shown.

RE2 is linear, yet fifty times slower once its automaton does not fit its memory. So that anchors
keep it small, they count nothing that may begin anew while it is counted: what stands far from an
anchor is the judge's to read, with patterns that are bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import re2

from baton.redaction.finding import RANK_CERTAIN, WITHHELD, Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from baton.redaction.subject import Subject

    Judge = Callable[[Subject, int, int], Sequence[Candidate]]
    Looks = list[tuple[Judge, list[tuple[int, int]]]]

STRETCH_BYTES: Final = 8 * 1024
# An anchor that begins in a stretch may end beyond it by so much.
OVERLAP_BYTES: Final = 1024
# A unit of work is some microsecond. A text has so many, and one more for so many bytes.
BURST_UNITS: Final = 8_192
# At 48, 10 MB of this repository's own text, which speaks of keys and passwords, lost an eighth.
BYTES_PER_UNIT: Final = 40
# What an anchor costs in a stretch that is withheld. It takes less: so that of a text that is dense
# throughout, most is withheld by its first anchors.
ANCHOR_UNITS: Final = 6
# The automaton's cache; a smaller one makes RE2 fall back to an engine that is 50 times slower.
_MEMORY_BYTES: Final = 16 * 1024 * 1024
_BREAKS: Final = (b"\n", b" ", b",", b"&", b";")


class Detector(NamedTuple):
    """An RE2 pattern that says where to look, and a function that says what is there.

    `judge` is given the subject and the bytes of the anchor, and returns what it finds sensitive.
    It may look around the anchor, by a bounded number of bytes. `cue` is a simple pattern, case
    aside, that is in each text that the anchor matches; the empty one is in any. `units` is the
    work of one look. `on_view` is false for a pattern that is to see the text as it is written.
    """

    cue: str
    anchor: re2._Regexp
    judge: Judge
    units: int = 4
    on_view: bool = True


class Detectors:
    """Detectors with their cues compiled; safe for threads."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.all: Final = tuple(detectors)
        self._always = tuple(n for n, each in enumerate(detectors) if not each.cue)
        self._cued = tuple(n for n, each in enumerate(detectors) if each.cue)
        self._cues = re2.Set.SearchSet(_options(ignore_case=True))
        for number in self._cued:
            self._cues.Add(self.all[number].cue.encode())
        self._cues.Compile()

    def in_stretch(self, stretch: bytes) -> list[Detector]:
        """Those that may find something in it."""
        cued = self._cues.Match(stretch) if self._cued else None
        numbers = sorted([*self._always, *(self._cued[n] for n in cued or ())])
        return [self.all[number] for number in numbers]


class Allowance:
    """The units of work that a text has left, as far as it has been read."""

    def __init__(self) -> None:
        self.spent = 0

    def left(self, read_bytes: int) -> int:
        """What may be spent now that so much of the text is read."""
        return BURST_UNITS + read_bytes // BYTES_PER_UNIT - self.spent


def compile_anchor(pattern: str, *, ignore_case: bool = False) -> re2._Regexp:
    """An RE2 over bytes: classes know ASCII, and a letter of two bytes counts as two."""
    return re2.compile(pattern.encode(), _options(ignore_case=ignore_case))


def _options(*, ignore_case: bool) -> re2.Options:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.case_sensitive = not ignore_case
    options.max_mem = _MEMORY_BYTES
    options.never_capture = True
    options.log_errors = False
    return options


def scan(
    subject: Subject, sets: Sequence[Detectors], allowance: Allowance | None = None
) -> Iterator[Candidate]:
    """What the detectors find, by stretches; within one, by detectors."""
    allowance = allowance or Allowance()
    for start, end in _stretches(subject.view):
        stretch = subject.view[start : end + OVERLAP_BYTES]
        detectors = [each for detectors in sets for each in detectors.in_stretch(stretch)]
        looks = _looks(subject, detectors, start, end, allowance)
        if looks is None:
            yield Candidate(start, end, WITHHELD, "dense", RANK_CERTAIN)
        else:
            yield from _judged(subject, looks)
            allowance.spent += subject.owed_units
            subject.owed_units = 0


def _looks(
    subject: Subject,
    detectors: Sequence[Detector],
    start: int,
    end: int,
    allowance: Allowance,
) -> Looks | None:
    """The anchors to look at, paid for; None where they are more than allowed: only found.

    A stretch that is withheld costs little, so that what is dense leaves the rest its allowance.
    """
    allowed = allowance.left(end)
    units = anchors = 0
    looks: Looks = []
    for detector in detectors:
        spans: list[tuple[int, int]] = []
        for span in _anchors(subject, detector, start, end):
            units += detector.units
            anchors += 1
            if units > allowed:
                allowance.spent += anchors * ANCHOR_UNITS
                return None
            spans.append(span)
        looks.append((detector.judge, spans))
    allowance.spent += units
    return looks


def _judged(subject: Subject, looks: Looks) -> Iterator[Candidate]:
    """What the judges find; an anchor within what its own judge has found is no other one.

    Nor is one in what any judge has withheld, which may reach far.
    """
    for judge, spans in looks:
        done = 0
        for start, end in spans:
            if start < done or start in subject.withheld:
                continue
            if found := judge(subject, start, end):
                done = found[-1].end
                if found[-1].kind == WITHHELD:
                    subject.withheld = range(found[-1].start, done)
                yield from found


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
