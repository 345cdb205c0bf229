"""Passwords on command lines, in files of programs, and in what people write to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.redaction import values
from baton.redaction.finding import RANK_NAMED, Candidate
from baton.redaction.scanning import Detector, compile_anchor
from baton.redaction.words import PASSWORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.redaction.subject import Subject

_SAID: Final = rf"(?:{PASSWORDS}|pass|pw|secret|token|auth|(?:api[ -]?)?key)"
# Each ends where the value begins. The value is an option's, so any word may be one.
_OPTIONS: Final = compile_anchor(
    r"\bsshpass\s+-p\s*"
    r"|\b(?:docker|podman|helm registry|skopeo|az|twine|oc|buildah)\s[^\n"
    r"|;&]{1,100}\s(?:-p|--password)[ =]"
    r"|\bmysql(?:dump|admin|import)?\s[^\n|;&]{0,80}-p"
    r"|\bredis-cli\s[^\n|;&]{0,80}-a\s+|\bAUTH\s+"
    r"|\bhtpasswd\s+-\w*b\w*\s+\S{1,80}\s+\S{1,40}\s+"
    r"|\s-pass(?:in|out)?\s+pass:"
    r"|\bldap\w+\s[^\n|;&]{0,80}\s-w\s+"
    r"|\bsmbclient\s[^\n|;&]{0,80}-U\s+['\"]?[\w\\.-]{1,40}%"
    r"|\bmosquitto_\w+\s[^\n|;&]{0,80}-P\s+"
    r"|\bmc alias set\s+\S{1,40}\s+\S{1,120}\s+\S{1,60}\s+"
    r"|\s--?[a-z-]{0,20}(?:password|passwd|passphrase|secret|token|api-key)\s+"
    r"|\blogin\s+\S{1,80}\s+password\s+|^\s*(?:login\s+\S{1,80}\s+)?password\s+"
    r"|(?m:^)\s*(?:requirepass|masterauth|password)\s+|\s>(?:\b|$)"
    r"|secret_access_key\s+|_authToken\s+|\b(?:setx|set -\w{1,3})\s+\w*(?:KEY|TOKEN"
    r"|SECRET|PASS\w{0,5})\s+"
)
_OPTION_CUE: Final = (
    r"\s-(?:p|a|w\s)|\bAUTH\s|htpasswd|smbclient|mosquitto|\bmc\s|\blogin\s|requirepass|masterauth"
    r"|\s>|secret_access_key|_authToken|\bsetx\s|\bset\s-|--?[a-z-]{0,20}(?:pass|secret"
    r"|token|api-key)"
    r"|\spassword\s|^password\s"
)
_CALL_CUE: Final = (
    r"\bauth\s?=|Credential|BasicAuth|PasswordAuth|\.login\(|pass\w{0,16}[\"']\)|twilio"
    r"|SecureString|IDENTIFIED|PASSWORD\s?\(?\s?'|AccountKey\(|hmac\.new"
)
_TALK_CUE: Final = rf"\b(?:{_SAID})(?: |:? {{1,2}}|\t)"
_PAIRS: Final = compile_anchor(
    r"""\b(?:curl|wget|http|https|xh)\s[^\n|;]{0,120}?-(?:u|a|-user"""
    r"""|-proxy-user)[ =]?['"]?[\w@.+-]{1,64}:"""
    r"""|\s-u\s?['"]?[\w@.+-]{1,64}:"""
)
# A literal in code, in the place of a password.
_CALLS: Final = compile_anchor(
    r"""\bauth\s?=\s?\(\s?["'][^"'\n]{1,64}["'],\s?"""
    r"""|\b(?:NetworkCredential|UsernamePasswordCredentials|HTTPBasicAuth|BasicAuth"""
    r"""|PasswordAuthentication|SetBasicAuth)\(\s?["'][^"'\n]{1,64}["'],\s?"""
    r"""|\.login\(\s?["'][^"'\n]{1,64}["'],\s?"""
    r"""|(?i:pass(?:word|wd)?\w{0,8}["']\)?\)\.(?:send_keys|fill|type|setvalue)\()"""
    r"""|(?i:\bTwilio[\w:.]{0,30}\(\s?["']AC[0-9a-f]{32}["'],\s?)"""
    r"""|\bConvertTo-SecureString\s+(?:-String\s+)?"""
    r"""|(?i:\bIDENTIFIED\s+(?:WITH\s+\w{1,40}\s+)?BY\s+(?:PASSWORD\s+)?)"""
    r"""|(?i:\bPASSWORD\s?\(?\s?)(?:')"""
    r"""|\bAccountKey\("""
    r"""|\bhmac\.new\(\s?"""
)
_TALK: Final = compile_anchor(
    rf"\b{_SAID}(?: (?:for|from|of|to)(?: \w{{1,20}}){{1,3}})? (?:is|was|are|ist|lautet"
    rf"|est|es|é|è)(?: now| jetzt)?:?[ \t]{{1,2}}"
    rf"|\b{_SAID}:?[ \t]{{1,2}}(?:[\"'`]|“|«)"
    rf"|\b(?:{PASSWORDS}|pass)[ \t]{{1,2}}",
    ignore_case=True,
)
_SAID_AFTER: Final = compile_anchor(
    rf"\S{{6,64}} is (?:the|my|our|your) (?:new |old )?{_SAID}\b", ignore_case=True
)
_PIPED: Final = compile_anchor(
    r"""\becho\s+(?:-n\s+)?["'][^"'\n]{3,64}["']\s?\|\s?(?:sudo\s+-S|docker login|passwd"""
    r"""|chpasswd)\b"""
)


def _judge_option(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    value = values.read_value(view, end)
    if value is None:
        return ()
    text = value.text(view)
    acl = view[start:end].endswith(b">")
    if len(text) < 4 or values.is_no_value(text) or values.is_reference(text):
        return ()
    if text.startswith((b"-", b"|", b"/", b"<", b">")) or (
        not value.quote and not values.is_mixed(text)
    ):
        return ()
    if acl and not _is_acl_line(view, start):
        return ()
    return (Candidate(value.start, value.end, "password", "option", RANK_NAMED),)


def _is_acl_line(view: bytes, start: int) -> bool:
    """`user app on >password`, as in Redis' ACL files."""
    line = view.rfind(b"\n", max(0, start - 120), start) + 1
    return b"user " in view[line:start].lower() and b" on" in view[line : start + 1]


def _judge_pair(subject: Subject, _start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    value = values.read_value(view, end)
    if value is None:
        return ()
    text = value.text(view)
    if text.isdigit() or values.is_no_value(text) or values.is_reference(text):
        return ()
    return (Candidate(value.start, value.end, "password", "option", RANK_NAMED),)


def _judge_call(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    begin = end - 1 if view[end - 1 : end] == b"'" and view[start : start + 1] in b"pP" else end
    value = values.read_value(view, begin)
    if value is None or not value.quote:
        return ()
    text = value.text(view)
    if values.is_no_value(text) or values.is_talk(text) or not values.is_mixed(text):
        return ()
    return (Candidate(value.start, value.end, "password", "call", RANK_NAMED),)


def _judge_talk(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    quoted = view[end - 1 : end] in {b'"', b"'", b"`", b"\x9c", b"\xab"}
    begin = end - (
        3 if view[end - 1 : end] == b"\x9c" else 2 if view[end - 1 : end] == b"\xab" else 1
    )
    value = values.read_value(view, begin if quoted else end)
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
    if not _is_said(text, view[start:end].lower(), quoted=quoted):
        return ()
    return (Candidate(value.start, value.end, "password", "said", RANK_NAMED),)


def _is_said(text: bytes, said: bytes, *, quoted: bool) -> bool:
    if text.count(b" ") >= 2 and quoted and said.startswith(b"passphrase"):
        return True
    if said.startswith((b"token", b"secret", b"key", b"api", b"auth")):
        return values.looks_like_token(text, at_least=16)
    strong = values.is_mixed(text) and values.has_digit(text)
    return strong and not text.startswith((b"(", b"#", b"@", b"=", b":", b"$"))


def _judge_said_after(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    until = view.find(b" ", start, end)
    text = view[start:until].strip(b"\"'`,;:")
    strong = values.is_mixed(text) and values.has_digit(text)
    if not strong or values.is_no_value(text) or values.is_reference(text):
        return ()
    begin = view.find(text, start, end)
    return (Candidate(begin, begin + len(text), "password", "said", RANK_NAMED),)


def _judge_piped(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    quotes = [at for at in range(start, end) if view[at : at + 1] in {b'"', b"'"}]
    begin, until = quotes[0] + 1, quotes[-1]
    if begin >= until or values.is_no_value(view[begin:until]):
        return ()
    return (Candidate(begin, until, "password", "option", RANK_NAMED),)


DETECTORS: Final = (
    Detector(_OPTION_CUE, _OPTIONS, _judge_option, units=4),
    Detector(r"\s-(?:[ua]|-user|-proxy)", _PAIRS, _judge_pair, units=2),
    Detector(_CALL_CUE, _CALLS, _judge_call, units=2),
    Detector(_TALK_CUE, _TALK, _judge_talk, units=3),
    Detector(r" is (?:the|my|our|your) ", _SAID_AFTER, _judge_said_after),
    Detector(r"\becho\s", _PIPED, _judge_piped),
)
