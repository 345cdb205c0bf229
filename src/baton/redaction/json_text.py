"""Fits what was found into a JSON text: values only, no half of an escape, valid afterwards."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from baton.redaction.subject import ESCAPED_BACKSLASH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from baton.redaction.finding import Candidate
    from baton.redaction.subject import Subject

_NUMBER: Final = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_NUMBER_BYTES: Final = b"0123456789+-.eE"
_BLANKS: Final = b" \t\r\n"
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
        for candidate in candidates:
            yield from self._fit(candidate)

    def _fit(self, candidate: Candidate) -> Iterator[tuple[Candidate, bool]]:
        while self._end < candidate.start:
            self._advance()
        while True:
            start, end = max(candidate.start, self._start), min(candidate.end, self._end)
            if start < end:
                yield from self._part(candidate, start, end)
            if candidate.end <= self._end:
                return
            self._advance()

    def _part(
        self, candidate: Candidate, start: int, end: int
    ) -> Iterator[tuple[Candidate, bool]]:
        if not self._in_string:
            for number in _NUMBER.finditer(self._data, self._number_start(start), self._end):
                if number.start() >= end:
                    return
                if number.end() > start:
                    yield candidate._replace(start=number.start(), end=number.end()), True
        elif not self._is_key():
            begin, until = self._whole_escapes(start, end)
            yield candidate._replace(start=begin, end=until), False

    def _number_start(self, at: int) -> int:
        first = max(self._start, at - _MAX_NUMBER_BYTES)
        before = self._data[first:at]
        return first + len(before.rstrip(_NUMBER_BYTES))

    def _whole_escapes(self, start: int, end: int) -> tuple[int, int]:
        while start > self._start and self._splits_escape(start):
            start -= 1
        while end < self._end and self._splits_escape(end):
            end += 1
        return start, end

    def _splits_escape(self, at: int) -> bool:
        """Whether an escape begins before `at` and ends after it."""
        if self._view[at : at + 1] == self._view[at - 1 : at] == ESCAPED_BACKSLASH:
            before = self._view[self._start : at]
            return (len(before) - len(before.rstrip(ESCAPED_BACKSLASH))) % 2 == 1
        back = self._escapes.rfind(b"\\", max(self._start, at - _MAX_ESCAPE_BYTES + 1), at)
        if back < 0:
            return False
        size = _MAX_ESCAPE_BYTES if self._escapes[back + 1 : back + 2] == b"u" else 2
        return at < back + size

    def _is_key(self) -> bool:
        at = self._end + 1
        while self._data[at : at + 1] and self._data[at] in _BLANKS:
            at += 1
        return self._data[at : at + 1] == b":"

    def _advance(self) -> None:
        self._start = self._end + 1
        self._end = self._next_quote(self._start)
        self._in_string = not self._in_string

    def _next_quote(self, at: int) -> int:
        found = self._plain.find(b'"', at)
        return len(self._plain) if found < 0 else found
