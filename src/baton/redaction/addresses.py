"""E-mail addresses, and passwords in URLs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from baton.redaction import values
from baton.redaction.finding import RANK_ADDRESS, RANK_NAMED, Candidate
from baton.redaction.scanning import Detector, compile_anchor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.redaction.subject import Subject

_LOCAL: Final = r"[A-Za-z0-9._%+'\x80-\xff-]"
_LABELS: Final = (
    r"(?:[A-Za-z0-9\x80-\xff](?:[A-Za-z0-9\x80-\xff-]{0,62})\.)+"
    r"(?:[A-Za-z]{2,24}|xn--[a-z0-9-]+|[\x80-\xff]{4,})"
)
_EMAIL: Final = compile_anchor(rf"{_LOCAL}+@{_LABELS}")
_SPELLED: Final = compile_anchor(
    r"[A-Za-z0-9._%+-]{1,64}(?: [DdOoTt]{3} [A-Za-z0-9-]{1,32})?"
    r" ?(?:[\[({<] ?(?i:at) ?[\])}>]| AT ) ?"
    r"[A-Za-z0-9-]{1,63}(?: ?(?:[\[({<] ?(?i:dot) ?[\])}>]| DOT ) ?[A-Za-z0-9-]{2,63}){1,4}\b"
)
_MAX_LOCAL_BYTES: Final = 128
_LOCAL_BYTES: Final = bytes(byte for byte in range(256) if re.match(_LOCAL, chr(byte)))
_FILE_ENDINGS: Final = (
    b"service", b"target", b"socket", b"timer", b"mount", b"slice", b"scope", b"png", b"jpg",
    b"webp", b"svg", b"js", b"css", b"plt", b"so",
)  # fmt: skip
_URL: Final = compile_anchor(
    r""":(?:\x03?/){2}[^\s/:"'<>\x03]{0,128}:[^\s/"'<>\x03]{1,200}@[A-Za-z0-9\[*$_-]|:(?:\x03?/){2}[\w.~%-]{20,255}@[A-Za-z0-9]"""
)


def _judge_email(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    at = view.rfind(b"@", start, end)
    left = view[max(0, at - _MAX_LOCAL_BYTES) : at]
    local = left[len(left.rstrip(_LOCAL_BYTES)) :].lstrip(b".'%+-")
    begin = at - len(local)
    if begin >= at or not _is_address(view, begin, at, end):
        return ()
    return (Candidate(begin, end, "email", "address", RANK_ADDRESS),)


def _is_address(view: bytes, begin: int, at: int, end: int) -> bool:
    """Not a git remote, a unit of systemd, a package at its version, a host to copy to."""
    if view[end : end + 1] in {b":", b"/"} and view[end + 1 : end + 2] not in {
        b" ",
        b"\n",
        b"",
        b":",
    }:
        return view[end : end + 1] == b":" and view[max(0, begin - 3) : begin] == b"://"
    if view[begin - 1 : begin] in {b"/", b"@"} and view[begin - 3 : begin] != b"://" and begin > 0:
        return False
    return not view[at:end].lower().endswith(_FILE_ENDINGS)


def _judge_spelled(_subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    return (Candidate(start, end, "email", "spelled_address", RANK_ADDRESS),)


def _judge_url(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    until = view.rfind(b"@", start, end)
    after_slashes = view.find(b"/", view.find(b"/", start) + 1) + 1
    colon = view.find(b":", after_slashes, until)
    begin = colon + 1 if colon >= 0 else after_slashes
    text = view[begin:until]
    if b".ingest." in view[until : until + 40] and colon < 0:
        return ()  # what Sentry calls a DSN is public
    if not text or values.is_no_value(text) or (colon < 0 and not values.looks_like_token(text)):
        return ()
    return (Candidate(begin, until, "password", "url", RANK_NAMED),)


DETECTORS: Final = (
    Detector(r":(?:\x03?/){2}", _URL, _judge_url, units=2),
    Detector("@", _EMAIL, _judge_email, units=2),
    Detector(r"[\[({<] ?at ?[\])}>]| at .{1,63} dot ", _SPELLED, _judge_spelled),
)
