"""Passwords and keys in what people write to each other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from baton.redaction import values
from baton.redaction.finding import RANK_NAMED, Candidate
from baton.redaction.scanning import Detector, compile_anchor
from baton.redaction.words import PASSWORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from baton.redaction.subject import Subject

_SAID: Final = rf"(?:{PASSWORDS}|pass|pw|secret|token|auth|(?:api[ -]?)?key)"
_PASS: Final = rf"(?:{PASSWORDS}|pass)"
# In these, the bytes are no letters to RE2, so no word begins before them.
_SAID_WIDE: Final = "(?:П|п)ароль|密码|密碼|パスワード|비밀번호"
_TALK_CUE: Final = rf"(?:\b{_SAID}|{_SAID_WIDE})(?:[ \t]|:[ \t]|は|是|為|为)"
_TALK: Final = compile_anchor(
    rf"(?:\b{_SAID}|{_SAID_WIDE})(?:[ \t]|:[ \t]|は|是|為|为)", ignore_case=True
)
# Name and value side by side.
_BESIDE: Final = re.compile(
    (
        rf"{_SAID}:?[ \t]{{1,2}}(?=[\"'`]|“|«|「)"
        rf"|{_PASS}[ \t]{{1,2}}(?=[^\s:=])"
    ).encode(),
    re.IGNORECASE,
)
# Name, words, a link, and the value.
_LINKED: Final = re.compile(
    (
        rf"{_SAID}(?P<words>(?:[ \t]{{1,2}}[^\s.,;:=!?\"'`]{{1,24}}+){{0,7}}?)"
        r"(?:[ \t]{1,2}(?:is|was|are|ist|lautet|est|es|é|è|=)(?=[ \t:])"
        r"(?:[ \t]{1,2}(?:now|jetzt|still))?:?"
        r"|(?P<colon>[ \t]?:)|[ \t]to:?(?=[ \t]{1,2}[\"'`“])|は|是|為|为)[ \t]{0,2}"
    ).encode(),
    re.IGNORECASE,
)
# Name, what it is for, and the value without a link; it has to look like one the more.
_FOR: Final = re.compile(
    (
        rf"{_PASS}(?:(?:[ \t]{{1,2}}[^\s.,;:=!?\"'`]{{1,24}}+){{0,6}}?"
        r"[ \t]{1,2}to(?=[ \t]{1,2}[^\s\d]{0,40}\d)"
        r"|[ \t]{1,2}(?:for|of|to|from|от|для|für|de|del|du|pour|para|per|zum|zur)"
        r"(?:[ \t]{1,2}[^\s.,;:=!?\"'`]{1,24}+){1,2}?)[ \t]{1,2}"
    ).encode(),
    re.IGNORECASE,
)
_LOGIN: Final = compile_anchor(
    r"\buser(?:name)? ?/ ?pass\w*|\bcredentials?\b|\bcreds\b|\blogins?\b|\bwi-?fi\b|\bwlan\b",
    ignore_case=True,
)
_LOGIN_FORM: Final = re.compile(rb"[^\n:]{0,40}+:[ \t]{1,2}\S{1,64}[ \t]?/[ \t]?(\S{4,80}+)")
_SAID_AFTER: Final = compile_anchor(
    rf"\S (?:is|as) (?:the|my|our|your) (?:new |old )?{_SAID}\b", ignore_case=True
)
_TOKEN_NAMES: Final = (b"token", b"secret", b"key", b"api", b"auth")
_LEAST_FAR_BYTES: Final = 6
_MAX_SAID_BYTES: Final = 64
_MAX_FORM_BYTES: Final = 160


def _judge_talk(subject: Subject, start: int, _end: int) -> Sequence[Candidate]:
    view = subject.view
    beside = _BESIDE.match(view, start, start + _MAX_FORM_BYTES)
    if beside and (found := _said_value(view, start, beside.end(), _is_said)):
        return found
    linked = _LINKED.match(view, start, start + _MAX_FORM_BYTES)
    if linked is None:
        meant = _FOR.match(view, start, start + _MAX_FORM_BYTES)
        return _said_value(view, start, meant.end(), _is_said_far) if meant else ()
    far = bool(linked["words"]) and linked["colon"] is not None
    return _said_value(view, start, linked.end(), _is_said_far if far else _is_said)


def _said_value(
    view: bytes, start: int, at: int, judge: Callable[[bytes, bytes, bool], bool]
) -> Sequence[Candidate]:
    value = values.read_value(view, at)
    if value is None:
        return ()
    text = value.text(view)
    if (
        len(text) < 5
        or values.is_no_value(text)
        or values.is_reference(text)
        or values.is_talk(text)
    ):
        return ()
    if b" " in text and not text.replace(b" ", b"").isalnum():
        return ()
    if not judge(text, view[start:at].lower(), bool(value.quote)):
        return ()
    return (Candidate(value.start, value.end, "password", "said", RANK_NAMED),)


def _is_said(text: bytes, said: bytes, quoted: bool) -> bool:
    if text.count(b" ") >= 2 and quoted and said.startswith(b"passphrase"):
        return True
    if said.startswith(_TOKEN_NAMES):
        return values.looks_like_token(text, at_least=16)
    strong = values.is_mixed(text) and values.has_digit(text)
    return strong and not text.startswith((b"(", b"#", b"@", b"=", b":", b"$"))


def _is_said_far(text: bytes, said: bytes, quoted: bool) -> bool:
    """After a colon that other words part from the name, more than letters and digits."""
    if said.startswith(_TOKEN_NAMES):
        return _is_said(text, said, quoted)
    if (
        len(text) < _LEAST_FAR_BYTES
        or values.strength(text) < 3
        or text.upper() == text
        or text.count(b"-") > 1
    ):
        return False
    return _is_said(text, said, quoted) and not values.names_a_secret(text.lstrip(b"0123456789"))


def _judge_login(subject: Subject, _start: int, end: int) -> Sequence[Candidate]:
    """`credentials for x: name / password`."""
    view = subject.view
    login = _LOGIN_FORM.match(view, end)
    if login is None:
        return ()
    text = login[1].rstrip(b".,;:)")
    if values.strength(text) < 2 or not values.has_digit(text) or text.isdigit():
        return ()
    if values.is_no_value(text) or values.is_reference(text):
        return ()
    begin = login.start(1)
    return (Candidate(begin, begin + len(text), "password", "login", RANK_NAMED),)


def _judge_said_after(subject: Subject, start: int, _end: int) -> Sequence[Candidate]:
    view = subject.view
    words = view[max(0, start + 1 - _MAX_SAID_BYTES) : start + 1].split()
    text = words[-1].strip(b"\"'`,;:") if words else b""
    strong = len(text) >= 5 and values.is_mixed(text) and values.has_digit(text)
    if not strong or values.is_no_value(text) or values.is_reference(text):
        return ()
    begin = view.rfind(text, 0, start + 1)
    return (Candidate(begin, begin + len(text), "password", "said", RANK_NAMED),)


DETECTORS: Final = (
    Detector(_TALK_CUE, _TALK, _judge_talk, units=12),
    Detector(r" (?:is|as) (?:the|my|our|your) ", _SAID_AFTER, _judge_said_after, units=8),
    Detector(
        r"user(?:name)? ?/|credential|\bcreds|\blogin|wi-?fi|wlan", _LOGIN, _judge_login, units=8
    ),
)
