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
_EMAIL: Final = compile_anchor(
    rf"{_LOCAL}@[A-Za-z0-9\x80-\xff][A-Za-z0-9\x80-\xff-]*\.[A-Za-z0-9\x80-\xff]"
)
_DOMAIN: Final = re.compile(_LABELS.encode("latin-1"))
_MAX_DOMAIN_BYTES: Final = 320
_AT: Final = r"(?:[\[({<] ?(?i:at) ?[\])}>]| AT )"
_DOT: Final = r"(?:[\[({<] ?(?i:dot) ?[\])}>]| DOT )"
_SPELLED: Final = compile_anchor(rf"[A-Za-z0-9._%+-] ?{_AT} ?[A-Za-z0-9]")
_SPELLED_LEFT: Final = re.compile(
    rf"[A-Za-z0-9._%+-]{{1,64}}+(?: ?(?:{_DOT}|dot) ?[A-Za-z0-9-]{{1,32}}+){{0,2}}\Z".encode()
)
_SPELLED_RIGHT: Final = re.compile(
    rf"[A-Za-z0-9-]{{1,63}}+(?: ?{_DOT} ?[A-Za-z0-9-]{{2,63}}+){{1,4}}\b".encode()
)
_MAX_LOCAL_BYTES: Final = 128
# `bounces+bob=example.com@…`: elsewhere an equals sign ends what is before the address.
_RETURN_PATH: Final = re.compile(rb"\b[\w.-]{1,64}+\+[\w.%+-]{0,64}=[\w.-]{1,64}\Z")
_LOCAL_BYTES: Final = bytes(byte for byte in range(256) if re.match(_LOCAL, chr(byte)))
_FILE_ENDINGS: Final = (
    b"service", b"target", b"socket", b"timer", b"mount", b"slice", b"scope", b"png", b"jpg",
    b"webp", b"svg", b"js", b"css", b"plt", b"so",
)  # fmt: skip
_URL: Final = compile_anchor(
    r""":(?:\x03?/){2}[^\s/"'<>\x03@]+@[A-Za-z0-9\[*$_-]|:(?:\x03?/){2}:?@"""
)
_USER_INFO: Final = re.compile(
    rb""":(?:\x03?/){2}(?:[^\s/:"'<>\x03]{0,128}+:[^\s/"'<>\x03]{1,200}|[\w.~%-]{20,255})@"""
    rb"""[A-Za-z0-9\[*$_-]"""
)


def _judge_email(subject: Subject, start: int, _end: int) -> Sequence[Candidate]:
    view = subject.view
    at = start + 1
    domain = _DOMAIN.match(view, at + 1, at + _MAX_DOMAIN_BYTES)
    if domain is None:
        return ()
    end = domain.end()
    left = view[max(0, at - _MAX_LOCAL_BYTES) : at]
    returned = _RETURN_PATH.search(left)
    local = returned[0] if returned else left[len(left.rstrip(_LOCAL_BYTES)) :].lstrip(b".'%+-")
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


def _judge_spelled(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    first = max(0, start - _MAX_LOCAL_BYTES)
    left = _ends_with(_SPELLED_LEFT, view[first : start + 1])
    right = _SPELLED_RIGHT.match(view, end - 1, end + _MAX_DOMAIN_BYTES)
    if left is None or right is None:
        return ()
    return (Candidate(first + left, right.end(), "email", "spelled_address", RANK_ADDRESS),)


def _ends_with(pattern: re.Pattern[bytes], text: bytes) -> int | None:
    """Where what `pattern` finds at the end of `text` begins; it begins a word."""
    starts = [0, *(found.end() for found in re.finditer(rb"[^A-Za-z0-9._%+-]", text))]
    return next((at for at in starts[-8:] if pattern.match(text, at)), None)


def _judge_url(subject: Subject, start: int, _end: int) -> Sequence[Candidate]:
    view = subject.view
    info = _USER_INFO.match(view, start)
    if info is None:
        return ()
    until = view.rfind(b"@", start, info.end())
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
    Detector(r":(?:\x03?/){2}", _URL, _judge_url, units=14),
    Detector("@", _EMAIL, _judge_email, units=9),
    Detector(r"[\[({<] ?(?:at|dot) ?[\])}>]| dot ", _SPELLED, _judge_spelled, units=20),
)
