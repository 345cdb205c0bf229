"""Passwords on command lines, and in files that programs read as such."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from baton.redaction import values
from baton.redaction.finding import RANK_NAMED, Candidate
from baton.redaction.scanning import Detector, compile_anchor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.redaction.subject import Subject

# An option, and what the line has in front of it; the value stands behind it, and any word may be
# one. An anchor is the option alone: programs are looked for in a bounded part of the line.
_OPTIONS: Final = (
    (r"\bsshpass\s{1,4}-p\s?", ""),
    (r"\s(?:-p|--password)[ =]", r"\b(?:docker|podman|helm registry|skopeo|az|twine|oc|buildah)\s"),
    (r"\s-p", r"\bmysql(?:dump|admin|import)?\s|\b7z[ar]?\s"),
    (r"\s-a\s{1,4}", r"\bredis-cli\s"),
    (r"\bAUTH\s{1,4}", ""),
    (r"\s-pass(?:in|out)?\s{1,4}pass:", ""),
    (r"\s-w\s{1,4}", r"\bldap\w{1,12}\s"),
    (r"\s-P\s{1,4}", r"\bmosquitto_\w{1,8}\s|\bunzip\s|\bzip\s"),
    (r"\s--?[a-z-]{0,20}(?:password|passwd|passphrase|secret|token|api-key)\s{1,4}", ""),
    (r"\s(?:password|secret)\s[0-9]\s{1,4}", r"^[\w\s-]{0,120}\Z"),
    (r"\spassword\s{1,4}", r"(?:^|\blogin\s{1,4}\S{1,80})\s{0,40}\Z"),
    (r"^\s{0,8}password\s{1,4}", ""),
    (r"\b(?:requirepass|masterauth)\s{1,4}", r"^\s{0,40}\Z"),
    (r"\s>", ""),
    (r"\bcommunity\s{1,4}", r"\bsnmp[\w-]{0,10}\s[\w\s-]{0,40}\Z"),
    (r"\bkey\s{1,4}(?:[0-9]\s{1,4})?", r"\b(?:radius|tacacs)[\w-]{0,20}\s[^\n]{0,100}\Z"),
    (r"\s-N\s{1,4}", r"\bssh-keygen\s"),
    (
        r"<<<\s?",
        r"\b(?:cryptsetup|passwd|chpasswd|sudo -S|login)\b|--password-stdin|--passphrase-fd",
    ),
    (r"\bkey-string\s{1,4}(?:[0-9]\s{1,4})?", ""),
    (r"secret_access_key\s{1,4}|_authToken\s{1,4}", ""),
    (r"\b(?:setx|set -\w{1,3})\s{1,4}\w*(?:KEY|TOKEN|SECRET|PASS\w{0,5})\s{1,4}", ""),
)
_OPTION: Final = compile_anchor("|".join(option for option, _ in _OPTIONS))
_OPTION_AND_LEFT: Final = tuple(
    (re.compile(option.encode()), re.compile(left.encode(), re.MULTILINE) if left else None)
    for option, left in _OPTIONS
)
_LEFT_BYTES: Final = 160
_END_OF_COMMAND: Final = (b"\n", b"\f", b"|", b";", b"&")
# Commands that have the value as their second or third word.
_WORDS_BEFORE: Final = compile_anchor(
    r"\bhtpasswd\s|\bmc alias set\s|\bsmbclient\s|\bnet use\s|\bWIFI:[STHP]:|\bopenssl passwd\s"
)
_BEFORE_VALUE: Final = re.compile(
    rb"htpasswd\s{1,4}-\w{0,8}?b\w{0,8}\s{1,4}\S{1,80}\s{1,4}\S{1,40}\s{1,4}"
    rb"|smbclient\s[^\n|;&]{0,80}?-U\s{1,4}['\"]?[\w\\.-]{1,40}%"
    rb"|net use\s[^\n|;&]{0,80}?/user:\S{1,60}\s{1,4}"
    rb"|openssl passwd\s{1,4}(?:-\w{1,12}\s{1,4}){0,3}"
    rb"|WIFI:(?:[STH]:[^;\n]{0,64};){0,3}P:"
    rb"|mc alias set\s{1,4}\S{1,40}\s{1,4}\S{1,120}\s{1,4}\S{1,60}\s{1,4}"
)
_OPTION_CUE: Final = (
    r"\s-(?:p|a|w)|\bAUTH\s|\s-P|requirepass|masterauth"
    r"|\s>|secret_access_key|_authToken|\bsetx\s|\bset\s-|-(?:password|passwd|passphrase|secret"
    r"|token|api-key)\s|\spassword\s|^password\s|\bsecret\s[0-9]|community\s|key-string|\b(?:radius|tacacs)|ssh-keygen|<<<"
)
_PAIR: Final = compile_anchor(r"""\s-(?:u|a|-user|-proxy-user)[ =]?['"]?[\w@.+-]""")
_PAIR_FORM: Final = re.compile(rb"""\s-(u|a|-user|-proxy-user)([ =]?)['"]?[\w@.+-]{1,64}+:""")
_PAIR_LEFT: Final = re.compile(rb"\b(?:curl|wget|http|https|xh)\s")
_SLASHED: Final = compile_anchor(r"\bsqlplus\s|:thin:|:5432:[\w*]")
_SLASHED_FORM: Final = re.compile(
    rb"(?:sqlplus\s{1,4}(?:-\w{1,8}\s{1,4}){0,3}|:thin:)[\w.$]{1,40}/([^\s@/\"']{3,64}+)@"
    rb"|:5432:[\w*$-]{1,64}+:[\w*$.-]{1,64}+:([^\s:]{3,128}+)(?=\s|\Z)"
)
_PIPED: Final = compile_anchor(r"""\becho\s{1,4}(?:-n\s{1,4})?["']""")
_PIPED_FORM: Final = re.compile(
    rb"""([^"'\n]{3,64}+)["']\s?\|\s?(?:sudo\s{1,4}-S|docker login|passwd|chpasswd)\b"""
)


def _line_before(view: bytes, at: int) -> bytes:
    """What the command's line has in front of `at`, as far as anything there is looked for."""
    first = max(0, at - _LEFT_BYTES)
    return view[max([first, *(view.rfind(mark, first, at) + 1 for mark in _END_OF_COMMAND)]) : at]


def _is_option(view: bytes, start: int, end: int) -> bool:
    """Whether the option is one that has a password, by what its line begins with."""
    before = None
    for option, left in _OPTION_AND_LEFT:
        if option.fullmatch(view, start, end):
            if left is None:
                return True
            at = start + view[start : start + 1].isspace()
            before = _line_before(view, at) if before is None else before
            if left.search(before):
                return True
    return False


def _judge_words(subject: Subject, start: int, _end: int) -> Sequence[Candidate]:
    found = _BEFORE_VALUE.match(subject.view, start)
    return _judge_value(subject, found.end()) if found else ()


def _judge_option(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    if view[end - 1 : end] == b">" and not _is_acl_line(view, start):
        return ()
    return _judge_value(subject, end) if _is_option(view, start, end) else ()


def _judge_value(subject: Subject, at: int) -> Sequence[Candidate]:
    view = subject.view
    value = values.read_value(view, at)
    if value is None:
        return ()
    text = value.text(view)
    if len(text) < 4 or values.is_no_value(text) or values.is_reference(text):
        return ()
    if text.startswith((b"-", b"|", b"/", b"<", b">")) or (
        not value.quote and not values.is_mixed(text)
    ):
        return ()
    return (Candidate(value.start, value.end, "password", "option", RANK_NAMED),)


def _is_acl_line(view: bytes, start: int) -> bool:
    """`user app on >password`, as in Redis' ACL files."""
    line = _line_before(view, start)
    return b"user " in line.lower() and b" on" in line + b" "


def _judge_pair(subject: Subject, start: int, _end: int) -> Sequence[Candidate]:
    view = subject.view
    pair = _PAIR_FORM.match(view, start)
    if pair is None:
        return ()
    alone = pair[1] == b"u" and pair[2] != b"="
    if not alone and not _PAIR_LEFT.search(_line_before(view, start + 1)):
        return ()
    value = values.read_value(view, pair.end())
    if value is None:
        return ()
    text = value.text(view)
    if text.isdigit() or values.is_no_value(text) or values.is_reference(text):
        return ()
    return (Candidate(value.start, value.end, "password", "option", RANK_NAMED),)


def _judge_slashed(subject: Subject, start: int, _end: int) -> Sequence[Candidate]:
    """`sqlplus name/password@host`, and lines of `.pgpass`."""
    slashed = _SLASHED_FORM.match(subject.view, start)
    if slashed is None:
        return ()
    begin, end = slashed.span(slashed.lastindex or 0)
    if values.is_no_value(subject.view[begin:end]):
        return ()
    return (Candidate(begin, end, "password", "option", RANK_NAMED),)


def _judge_piped(subject: Subject, _start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    piped = _PIPED_FORM.match(view, end)
    if piped is None or values.is_no_value(piped[1]):
        return ()
    return (Candidate(piped.start(1), piped.end(1), "password", "option", RANK_NAMED),)


DETECTORS: Final = (
    Detector(_OPTION_CUE, _OPTION, _judge_option, units=14),
    Detector(
        r"htpasswd|\bmc\s|smbclient|net use|WIFI:|openssl passwd",
        _WORDS_BEFORE,
        _judge_words,
        units=8,
    ),
    Detector(r"\s-(?:[ua]|-user|-proxy)", _PAIR, _judge_pair, units=8),
    Detector(r"sqlplus|:thin:|:5432:", _SLASHED, _judge_slashed, units=4),
    Detector(r"\becho\s", _PIPED, _judge_piped, units=4),
)
