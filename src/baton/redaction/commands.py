"""Passwords on command lines, in files of programs, and in what people write to each other."""

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
    r"\bhtpasswd\s|\bmc alias set\s|\bsmbclient\s|\bnet use\s|\bWIFI:[STHP]:"
)
_BEFORE_VALUE: Final = re.compile(
    rb"htpasswd\s{1,4}-\w{0,8}?b\w{0,8}\s{1,4}\S{1,80}\s{1,4}\S{1,40}\s{1,4}"
    rb"|smbclient\s[^\n|;&]{0,80}?-U\s{1,4}['\"]?[\w\\.-]{1,40}%"
    rb"|net use\s[^\n|;&]{0,80}?/user:\S{1,60}\s{1,4}"
    rb"|WIFI:(?:[STH]:[^;\n]{0,64};){0,3}P:"
    rb"|mc alias set\s{1,4}\S{1,40}\s{1,4}\S{1,120}\s{1,4}\S{1,60}\s{1,4}"
)
_OPTION_CUE: Final = (
    r"\s-(?:p|a|w)|\bAUTH\s|\s-P|requirepass|masterauth"
    r"|\s>|secret_access_key|_authToken|\bsetx\s|\bset\s-|-(?:password|passwd|passphrase|secret"
    r"|token|api-key)\s|\spassword\s|^password\s|\bsecret\s[0-9]|community\s|key-string"
)
_CALL_CUE: Final = (
    r"\bauth\s?=|Credential|BasicAuth|PasswordAuth|\.login\(|pass\w{0,16}[\"']\)|twilio"
    r"|connect\(|#define|pass\w{0,16}\]?[\"']\)|SecureString|IDENTIFIED|PASSWORD\s?\(?\s?'|AccountKey\(|hmac\.new|jwt\."
)
_TALK_CUE: Final = rf"(?:\b{_SAID}|{_SAID_WIDE})(?:[ \t]|:[ \t]|は|是|為|为)"
_PAIR: Final = compile_anchor(r"""\s-(?:u|a|-user|-proxy-user)[ =]?['"]?[\w@.+-]""")
_PAIR_FORM: Final = re.compile(rb"""\s-(u|a|-user|-proxy-user)([ =]?)['"]?[\w@.+-]{1,64}+:""")
_PAIR_LEFT: Final = re.compile(rb"\b(?:curl|wget|http|https|xh)\s")
# A literal in code, in the place of a password: after another one, or alone.
_SECONDS: Final = compile_anchor(
    r"""\bauth\s?=\s?\(\s?["']"""
    r"""|\b(?:NetworkCredential|UsernamePasswordCredentials|HTTPBasicAuth|BasicAuth"""
    r"""|PasswordAuthentication|SetBasicAuth)\(\s?["']"""
    r"""|\.login\(\s?["']"""
    r"""|connect\(\s?["']"""
    r"""|(?i:\bTwilio[\w:.]{0,30}\(\s?["']AC)"""
)
_FIRST: Final = re.compile(rb"""[^"'\n]{1,64}+["'],\s?""")
_TWO_FIRST: Final = re.compile(rb"""[^"'\n]{0,120}+["'],\s?["'][^"'\n]{0,64}+["'],\s?""")
_CALLS: Final = compile_anchor(
    r"""(?i:pass(?:word|wd)?\w{0,8}\]?["']\)?\)\.(?:send_keys|fill|type|setvalue)\()"""
    r"""|\bConvertTo-SecureString\s+(?:-String\s+)?"""
    r"""|(?i:\bIDENTIFIED\s+(?:WITH\s+\w+\s+)?BY\s+(?:PASSWORD\s+)?)"""
    r"""|(?i:\bPASSWORD\s?\(?\s?)(?:')"""
    r"""|\bAccountKey\("""
    r"""|\bhmac\.new\(\s?"""
    r"""|\bjwt\.(?:sign|verify|encode|decode)\(\s?\w+,\s?"""
    r"""|#define[ \t]{1,4}\w*(?:PASS|PWD|SECRET|TOKEN|KEY|PSK)\w*[ \t]{1,16}"""
)
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
        rf"{_PASS}[ \t]{{1,2}}(?:to(?=[ \t]{{1,2}}[^\s\d]{{0,40}}\d)"
        r"|(?:for|of|to|from|от|для|für|de|del|du|pour|para|per|zum|zur)"
        r"(?:[ \t]{1,2}[^\s.,;:=!?\"'`]{1,24}+){1,2}?)[ \t]{1,2}"
    ).encode(),
    re.IGNORECASE,
)
_LOGIN: Final = compile_anchor(
    r"\buser(?:name)? ?/ ?pass\w*|\bcredentials?\b|\bcreds\b|\blogins?\b|\bwi-?fi\b|\bwlan\b",
    ignore_case=True,
)
_LOGIN_FORM: Final = re.compile(rb"[^\n:]{0,40}+:[ \t]{1,2}\S{1,64}[ \t]?/[ \t]?(\S{4,80}+)")
_SLASHED: Final = compile_anchor(r"\bsqlplus\s|:thin:|:5432:[\w*]")
_SLASHED_FORM: Final = re.compile(
    rb"(?:sqlplus\s{1,4}(?:-\w{1,8}\s{1,4}){0,3}|:thin:)[\w.$]{1,40}/([^\s@/\"']{3,64}+)@"
    rb"|:5432:[\w*$-]{1,64}+:[\w*$.-]{1,64}+:([^\s:]{3,128}+)(?=\s|\Z)"
)
_SAID_AFTER: Final = compile_anchor(
    rf"\S (?:is|as) (?:the|my|our|your) (?:new |old )?{_SAID}\b", ignore_case=True
)
_TOKEN_NAMES: Final = (b"token", b"secret", b"key", b"api", b"auth")
_LEAST_LITERAL_BYTES: Final = 6
_MAX_SAID_BYTES: Final = 64
_MAX_FORM_BYTES: Final = 160
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


def _judge_second(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    is_connection = view.startswith(b"connect", start)
    first = (_TWO_FIRST if is_connection else _FIRST).match(view, end)
    return _judge_call(subject, first.end() - 1, first.end()) if first else ()


def _judge_call(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    begin = end - 1 if view[end - 1 : end] == b"'" and view[start : start + 1] in b"pP" else end
    value = values.read_value(view, begin)
    if value is None or not value.quote:
        return ()
    text = value.text(view)
    if values.is_no_value(text) or values.is_talk(text) or not values.is_mixed(text):
        return ()
    if len(text) < _LEAST_LITERAL_BYTES:
        return ()
    return (Candidate(value.start, value.end, "password", "call", RANK_NAMED),)


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
    if values.strength(text) < 3 or text.upper() == text or text.count(b"-") > 1:
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


def _judge_slashed(subject: Subject, start: int, _end: int) -> Sequence[Candidate]:
    """`sqlplus name/password@host`, and lines of `.pgpass`."""
    slashed = _SLASHED_FORM.match(subject.view, start)
    if slashed is None:
        return ()
    begin, end = slashed.span(slashed.lastindex or 0)
    if values.is_no_value(subject.view[begin:end]):
        return ()
    return (Candidate(begin, end, "password", "option", RANK_NAMED),)


def _judge_said_after(subject: Subject, start: int, _end: int) -> Sequence[Candidate]:
    view = subject.view
    words = view[max(0, start + 1 - _MAX_SAID_BYTES) : start + 1].split()
    text = words[-1].strip(b"\"'`,;:") if words else b""
    strong = len(text) >= 5 and values.is_mixed(text) and values.has_digit(text)
    if not strong or values.is_no_value(text) or values.is_reference(text):
        return ()
    begin = view.rfind(text, 0, start + 1)
    return (Candidate(begin, begin + len(text), "password", "said", RANK_NAMED),)


def _judge_piped(subject: Subject, _start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    piped = _PIPED_FORM.match(view, end)
    if piped is None or values.is_no_value(piped[1]):
        return ()
    return (Candidate(piped.start(1), piped.end(1), "password", "option", RANK_NAMED),)


DETECTORS: Final = (
    Detector(_OPTION_CUE, _OPTION, _judge_option, units=14),
    Detector(r"htpasswd|\bmc\s|smbclient|net use|WIFI:", _WORDS_BEFORE, _judge_words, units=8),
    Detector(r"\s-(?:[ua]|-user|-proxy)", _PAIR, _judge_pair, units=8),
    Detector(_CALL_CUE, _SECONDS, _judge_second, units=8),
    Detector(_CALL_CUE, _CALLS, _judge_call, units=8),
    Detector(_TALK_CUE, _TALK, _judge_talk, units=12),
    Detector(r" (?:is|as) (?:the|my|our|your) ", _SAID_AFTER, _judge_said_after, units=8),
    Detector(
        r"user(?:name)? ?/|credential|\bcreds|\blogin|wi-?fi|wlan", _LOGIN, _judge_login, units=8
    ),
    Detector(r"sqlplus|:thin:|:5432:", _SLASHED, _judge_slashed, units=4),
    Detector(r"\becho\s", _PIPED, _judge_piped, units=4),
)
