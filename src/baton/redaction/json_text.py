"""Fits what was found into a JSON text: values only, no half of an escape, valid afterwards."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from baton.redaction.finding import WITHHELD, Candidate
from baton.redaction.subject import ESCAPED_BACKSLASH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from baton.redaction.subject import Subject

_NUMBER: Final = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_VALUES: Final = re.compile(rb'"([^"]*+)"(?:[ \t\r\n]*+(:))?|(-?\d[\d.eE+-]*+)')
# A shorter string or number is left: the shortest password is 4, a social security number 9.
_LEAST_BYTES: Final = {1: 4, 3: 9}
_NUMBER_BYTES: Final = b"0123456789+-.eE"
_BLANKS: Final = b" \t\r\n"
_NEAR_BYTES: Final = 256
_MAX_ESCAPE_BYTES: Final = 6
_MAX_NUMBER_BYTES: Final = 4_300


def is_json(text: str) -> bool:
    """Whether it is a JSON document that is an object, a list or a string, or lines of those."""
    start = text.lstrip()[:1]
    if start not in {"{", "[", '"'}:
        return False
    return _parses(text) or _parses_by_lines(text)


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parses_by_lines(text: str) -> bool:
    """All lines at once, as one list: a call for each would take a microsecond a line."""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < 2 or not _parses(lines[0]):
        return False
    try:
        return len(json.loads(f"[{','.join(lines)}]")) == len(lines)
    except (ValueError, RecursionError):
        return False


class JsonFitter:
    """Cuts candidates, given in ascending order, to the values of a JSON text."""

    def __init__(self, subject: Subject) -> None:
        self._data = subject.data
        self._view = subject.view
        # In it, a quote begins or ends a string, and a backslash begins an escape.
        self._plain = subject.data.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        self._escapes = subject.data.replace(b"\\\\", b"__")
        self._start = 0  # of the part that is being cut: a string's inside, or what is between two
        self._end = self._next_quote(0)
        self._in_string = False

    def fit(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, bool]]:
        """The parts of the candidates that are values; with each, whether it is a whole number."""
        done = 0  # two that meet within an escape, or a number, must not both take it
        for candidate in candidates:
            for part, is_number in self._fit(candidate):
                start = max(part.start, done)
                if start < part.end and not (is_number and start > part.start):
                    done = part.end
                    yield part if start == part.start else part._replace(start=start), is_number

    def _fit(self, candidate: Candidate) -> Iterator[tuple[Candidate, bool]]:
        self._seek(candidate.start)
        if candidate.kind == WITHHELD:
            yield from self._withheld(candidate)
            return
        while True:
            start, end = max(candidate.start, self._start), min(candidate.end, self._end)
            if start < end:
                yield from self._part(candidate, start, end)
            if candidate.end <= self._end:
                return
            self._advance()

    def _withheld(self, candidate: Candidate) -> Iterator[tuple[Candidate, bool]]:
        """Every value in the range that is long enough to be a secret, in one pass of `re`."""
        first = self._number_start(candidate.start)
        if self._in_string:
            first = self._end + 1
            if not self._is_key():
                yield self._clipped(candidate, self._start, self._end), False
        for found in _VALUES.finditer(self._plain, first):
            if found.start() >= candidate.end:
                return
            group = 1 if found[3] is None else 3
            start, end = found.span(group)
            if found[2] is None and end - start >= _LEAST_BYTES[group]:
                if end > candidate.end and group == 1:
                    yield self._clipped(candidate, start, end), False
                else:
                    yield Candidate(start, end, WITHHELD, candidate.rule, 0), group == 3

    def _clipped(self, candidate: Candidate, start: int, end: int) -> Candidate:
        """A string's part in the candidate, without half an escape."""
        begin, until = self._whole_escapes(
            max(start, candidate.start), min(end, candidate.end), start, end
        )
        return candidate._replace(start=begin, end=until)

    def _part(self, candidate: Candidate, start: int, end: int) -> Iterator[tuple[Candidate, bool]]:
        if not self._in_string:
            for number in _NUMBER.finditer(self._data, self._number_start(start), self._end):
                if number.start() >= end:
                    return
                if number.end() > start:
                    yield candidate._replace(start=number.start(), end=number.end()), True
        elif not self._is_key():
            begin, until = self._whole_escapes(start, end, self._start, self._end)
            yield candidate._replace(start=begin, end=until), False

    def _number_start(self, at: int) -> int:
        first = max(self._start, at - _MAX_NUMBER_BYTES)
        before = self._data[first:at]
        return first + len(before.rstrip(_NUMBER_BYTES))

    def _whole_escapes(self, start: int, end: int, first: int, last: int) -> tuple[int, int]:
        """The range, grown within the string from `first` to `last` until it splits no escape."""
        while start > first and self._splits_escape(start, first):
            start -= 1
        while end < last and self._splits_escape(end, first):
            end += 1
        return start, end

    def _splits_escape(self, at: int, first: int) -> bool:
        """Whether an escape begins before `at`, not before `first`, and ends after it."""
        if self._view[at : at + 1] == self._view[at - 1 : at] == ESCAPED_BACKSLASH:
            return self._escaped_backslashes_before(at, first) % 2 == 1
        back = self._escapes.rfind(b"\\", max(first, at - _MAX_ESCAPE_BYTES + 1), at)
        if back < 0:
            return False
        size = _MAX_ESCAPE_BYTES if self._escapes[back + 1 : back + 2] == b"u" else 2
        return at < back + size

    def _escaped_backslashes_before(self, at: int, first: int) -> int:
        near = self._view[max(first, at - _NEAR_BYTES) : at]
        if not near.strip(ESCAPED_BACKSLASH):
            near = self._view[first:at]
        return len(near) - len(near.rstrip(ESCAPED_BACKSLASH))

    def _is_key(self) -> bool:
        at = self._end + 1
        while self._data[at : at + 1] and self._data[at] in _BLANKS:
            at += 1
        return self._data[at : at + 1] == b":"

    def _advance(self) -> None:
        self._start = self._end + 1
        self._end = self._next_quote(self._start)
        self._in_string = not self._in_string

    def _seek(self, at: int) -> None:
        """Go to the part that holds `at`; quotes are counted, not stepped through."""
        if self._end >= at:
            return
        if self._plain.count(b'"', self._end, at) % 2:
            self._in_string = not self._in_string
        self._start = self._plain.rfind(b'"', self._end, at) + 1
        self._end = self._next_quote(at)

    def _next_quote(self, at: int) -> int:
        found = self._plain.find(b'"', at)
        return len(self._plain) if found < 0 else found
