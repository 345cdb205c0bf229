"""Numbers of persons: US social security numbers, and payment cards by Luhn's check."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from baton.redaction.finding import RANK_NUMBER, Candidate
from baton.redaction.scanning import Detector, compile_anchor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.redaction.subject import Subject

_SOCIAL: Final = r"(?i:\bssns?\b|\bsocial\b|\bsoc\. ?sec\b|\btaxpayer id)"
_SSN: Final = compile_anchor(rf"\b\d{{3}}-\d{{2}}-\d{{4}}\b|{_SOCIAL}")
_CALLED_SO: Final = re.compile(rb"[^\d\n]{0,40}+(\d{3}[ .-]?\d{2}[ .-]?\d{4})\b")
_BLANK: Final = r"(?:[ -]|\xc2\xa0)?"
_CARD: Final = compile_anchor(
    rf"\b[2-6]\d{{3}}{_BLANK}\d{{4}}{_BLANK}\d{{4}}{_BLANK}\d{{4}}(?:{_BLANK}\d{{3}})?\b"
    rf"|\b3[47]\d{{2}}{_BLANK}\d{{6}}{_BLANK}\d{{5}}\b"
    rf"|\b3[0689]\d{{2}}{_BLANK}\d{{6}}{_BLANK}\d{{4}}\b"
)
_ISSUERS: Final = re.compile(
    rb"4|5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[47]|30[0-5]|3[689]|35(?:2[89]|[3-8])|6011|64[4-9]|65|62|60|81"
)
_SOCIAL_WORD: Final = re.compile(_SOCIAL.encode())
# What a number is, if one of these stands in front of it.
_OTHER_NUMBER: Final = re.compile(
    rb"(?i)\b(?:order|invoice|ticket|part|item|sku|ref|case|model|serial|tracking|parcel|shipment|"
    rb"locker|version|ver|build|rev|phone|tel|fax|call|bin|no|nr|coverage|range|id|customer|isbn|"
    rb"issn|score|ratio|seq|imei|number)\b[^\d\n]{0,14}$"
)
_LEFT_BYTES: Final = 40
_NO_DIGITS: Final = bytes(byte for byte in range(256) if not 48 <= byte <= 57)
# Each digit -> the digit that Luhn's check takes for it where it counts twice.
_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")
_NO_NEIGHBOURS: Final = frozenset(b"-_.+/$#:=x")


def _judge_ssn(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    if not 48 <= view[start] <= 57:
        called = _CALLED_SO.match(view, end)
        if called is None:
            return ()
        start, end = called.span(1)
    elif not (_is_called_so(view, start) or _is_ssn(view, start, end)):
        return ()
    return (Candidate(start, end, "ssn", "ssn", RANK_NUMBER),)


def _is_called_so(view: bytes, start: int) -> bool:
    return _SOCIAL_WORD.search(view, max(0, start - _LEFT_BYTES), start) is not None


def _is_ssn(view: bytes, start: int, end: int) -> bool:
    """Numbers that were never given out are none, nor is what is called otherwise."""
    area, group, serial = view[start : start + 3], view[start + 4 : start + 6], view[end - 4 : end]
    if area in {b"000", b"666"} or area[:1] == b"9" or group == b"00" or serial == b"0000":
        return False
    if _touches(view, start, end):
        return False
    return not _OTHER_NUMBER.search(view, max(0, start - _LEFT_BYTES), start)


def _judge_card(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    digits = view[start:end].translate(None, _NO_DIGITS)
    if not _ISSUERS.match(digits) or not _luhn(digits) or len(set(digits)) == 1:
        return ()
    if _touches(view, start, end):
        return ()
    return (Candidate(start, end, "credit_card", "luhn", RANK_NUMBER),)


def _touches(view: bytes, start: int, end: int) -> bool:
    """Whether it goes on, as a version, a serial number or a decimal does."""
    after = view[end : end + 2]
    goes_on = after[:1] in {b"-", b"_", b"."} and after[1:2].isalnum()
    before = view[start - 1] if start else 32
    led = (
        before in _NO_NEIGHBOURS
        and before not in b"=:#"
        and view[max(0, start - 2) : start - 1].isalnum()
    )
    return goes_on or led


def _luhn(digits: bytes) -> bool:
    doubled = digits[-2::-2].translate(_DOUBLED)
    return (sum(digits[-1::-2]) + sum(doubled) - 48 * len(digits)) % 10 == 0


DETECTORS: Final = (
    Detector(r"\d{2}-\d{4}|\bssn|\bsoc|taxpayer", _SSN, _judge_ssn, units=12),
    Detector(r"\b\d{4}[ \xc2-]?[\xa0]?\d{4}", _CARD, _judge_card, units=8),
)
