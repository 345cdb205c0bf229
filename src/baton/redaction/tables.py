"""Columns that a name gives away: the lines below a header, the rows of an SQL `INSERT`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from baton.redaction import values
from baton.redaction.finding import RANK_CERTAIN, RANK_NAMED, WITHHELD, Candidate
from baton.redaction.scanning import Detector, compile_anchor
from baton.redaction.words import PASSWORDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from baton.redaction.subject import Subject

_HEADER: Final = compile_anchor(
    rf"(?:{PASSWORDS}|pass|pw|secret|token|key)[\"'`]?(?:[ \t]{{0,4}}[,;|]|\t|[ \t]{{0,4}}\r?\n)",
    ignore_case=True,
)
_HEADER_CUE: Final = rf"(?:{PASSWORDS}|pass|pw|secret|token|key)[\"'`]?[ \t]{{0,4}}[,;|\t\r\n]"
_HEADER_LINE: Final = re.compile(
    rb"""[ \t|]*+(?:["'`]?\w[\w .-]{0,31}+["'`]?[ ]*+[,;|\t][ ]*+)+"""
    rb"""(?:["'`]?\w[\w .-]{0,31}+["'`]?)?[ \t|]*+\r?"""
)
_INSERT: Final = compile_anchor(r"\)\s{0,8}VALUES\s{0,8}\(", ignore_case=True)
_COLUMNS: Final = re.compile(rb"\(([^()]{1,400})\Z")
_ROW: Final = re.compile(
    rb"""\s{0,40}\(((?:[^()'"]|'(?:[^'\\\n]|\\.|'')*+'|"[^"\n]*+")*+)\)\s{0,8}(,?)"""
)
_ITEM: Final = re.compile(rb"""((?:[^,'"]|'(?:[^'\\\n]|\\.|'')*+'|"[^"\n]*+")*+)(?:,|\Z)""")
_QUOTED_CELLS: Final = {
    mark: re.compile(rb'((?:"(?:[^"\n]|"")*+"|[^"\n%s])*+)(?:%s|\Z)' % (mark, re.escape(mark)))
    for mark in (b",", b";", b"|", b"\t")
}
_MAX_LINE_BYTES: Final = 2_048
_MAX_ROWS: Final = 500
# Lines that are no rows, one after the other, end a table.
_MAX_STRAY_LINES: Final = 3
_AROUND_CELL: Final = b" \t\r\"'`"


class _Cell(NamedTuple):
    start: int
    end: int


class _Column(NamedTuple):
    number: int
    is_password: bool


def _judge_header(subject: Subject, start: int, _end: int) -> Sequence[Candidate]:
    view = subject.view
    first = view.rfind(b"\n", max(0, start - _MAX_LINE_BYTES), start) + 1
    if not first and start > _MAX_LINE_BYTES:
        return ()
    end = view.find(b"\n", start, start + _MAX_LINE_BYTES)
    # The last name of a line speaks for all, so that a header is read once.
    if end < 0 or not _HEADER_LINE.fullmatch(view, first, end):
        return ()
    header = view[first:end]
    mark = next(mark for mark in (b"|", b"\t", b";", b",") if mark in header)
    columns = _secret_columns(header.split(mark))
    if not columns:
        return ()
    return list(_below(subject, columns, mark, header.count(mark) + 1, end + 1))


def _secret_columns(names: Sequence[bytes]) -> list[_Column]:
    found = []
    for number, name in enumerate(names):
        told = name.strip(_AROUND_CELL)
        if values.names_a_secret(told):
            found.append(_Column(number, not told.lower().endswith((b"key", b"token"))))
    return found


def _below(
    subject: Subject, columns: Sequence[_Column], mark: bytes, width: int, at: int
) -> Iterator[Candidate]:
    """The columns' values in the lines from `at` on; what is too long is withheld to its end."""
    view, strays = subject.view, 0
    for row in range(_MAX_ROWS):
        end = view.find(b"\n", at, at + _MAX_LINE_BYTES)
        end = min(len(view), at + _MAX_LINE_BYTES) if end < 0 else end
        cells = _cells(view, at, end, mark)
        if len(cells) == width:
            strays = 0
            texts = [view[cells[each.number].start : cells[each.number].end] for each in columns]
            if any(values.names_a_secret(text) for text in texts):
                return  # the next table's header
            for column, text in zip(columns, texts, strict=True):
                if _is_secret(text, column):
                    yield _candidate(cells[column.number])
        else:
            strays += 1
        at = end + 1
        if at >= len(view) or strays == _MAX_STRAY_LINES or (row == 0 and strays):
            return
        subject.owed_units += 4 + 2 * len(columns)
    ended = view.find(b"\n\n", at)
    yield Candidate(at, len(view) if ended < 0 else ended, WITHHELD, "table", RANK_CERTAIN)


def _cells(view: bytes, start: int, end: int, mark: bytes) -> list[_Cell]:
    line = view[start:end]
    if b'"' in line:
        spans = [found.span(1) for found in _QUOTED_CELLS[mark].finditer(line)]
        spans = spans[:-1] if len(spans) > 1 and spans[-1][0] == spans[-2][1] else spans
    else:
        spans, at = [], 0
        for part in line.split(mark):
            spans.append((at, at + len(part)))
            at += len(part) + 1
    return [_trimmed(view, start + first, start + last) for first, last in spans]


def _trimmed(view: bytes, start: int, end: int) -> _Cell:
    text = view[start:end]
    begin = start + len(text) - len(text.lstrip(_AROUND_CELL))
    return _Cell(begin, max(begin, start + len(text.rstrip(_AROUND_CELL))))


def _judge_insert(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    named = _COLUMNS.search(view[max(0, start - 420) : start])
    columns = _secret_columns(named[1].split(b",")) if named else ()
    return list(_rows(subject, columns, end - 1)) if columns else ()


def _rows(subject: Subject, columns: Sequence[_Column], at: int) -> Iterator[Candidate]:
    view = subject.view
    for _ in range(_MAX_ROWS):
        row = _ROW.match(view, at, at + _MAX_LINE_BYTES)
        if row is None:
            return
        items = [found.span(1) for found in _ITEM.finditer(view, *row.span(1))]
        for column in columns:
            if column.number < len(items):
                cell = _trimmed(view, *items[column.number])
                if cell.start > items[column.number][0] and _is_secret(
                    view[cell.start : cell.end], column
                ):
                    yield _candidate(cell)
        at = row.end()
        if not row[2]:
            return
        subject.owed_units += 5 + 2 * len(columns)
    ended = view.find(b";", at)
    yield Candidate(at, len(view) if ended < 0 else ended, WITHHELD, "table", RANK_CERTAIN)


def _is_secret(text: bytes, column: _Column) -> bool:
    text = text[:128]
    if values.is_no_value(text) or values.is_reference(text) or b" " in text:
        return False
    if not column.is_password:
        return values.looks_like_token(text, at_least=16)
    return len(text) >= 4 and values.strength(text) >= 2 and not text.isdigit()


def _candidate(cell: _Cell) -> Candidate:
    return Candidate(cell.start, cell.end, "password", "table", RANK_NAMED)


DETECTORS: Final = (
    Detector(_HEADER_CUE, _HEADER, _judge_header, units=10),
    Detector(r"\)\s{0,8}VALUES", _INSERT, _judge_insert, units=16),
)
