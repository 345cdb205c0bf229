"""Literals in code that stand in the place of a password."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from baton.redaction import values
from baton.redaction.finding import RANK_NAMED, Candidate
from baton.redaction.scanning import Detector, compile_anchor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.redaction.subject import Subject

_CALL_CUE: Final = (
    r"\bauth\s?=|Credential|BasicAuth|PasswordAuth|\.login\(|pass\w{0,16}[\"']\)|twilio"
    r"|connect(?:ion)?\(|sequelize|#define|pass\w{0,16}\]?[\"']\)|SecureString|IDENTIFIED|PASSWORD\s?\(?\s?'|AccountKey\(|hmac\.new|jwt\."
)
# A literal in code, in the place of a password: after another one, or alone.
_SECONDS: Final = compile_anchor(
    r"""\bauth\s?=\s?\(\s?["']"""
    r"""|\b(?:NetworkCredential|UsernamePasswordCredentials|HTTPBasicAuth|BasicAuth"""
    r"""|PasswordAuthentication|SetBasicAuth)\(\s?["']"""
    r"""|\.login\(\s?["']"""
    r"""|(?i:connect(?:ion)?|sequelize)\(\s?["']"""
    r"""|(?i:\bTwilio[\w:.]{0,30}\(\s?["']AC)"""
)
_FIRST: Final = re.compile(rb"""[^"'\n]{1,64}+["'],\s?""")
_CONNECTIONS: Final = (b"connect", b"sequeli")
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
_LEAST_LITERAL_BYTES: Final = 6


def _judge_second(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    is_connection = view[start : start + 7].lower() in _CONNECTIONS
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


DETECTORS: Final = (
    Detector(_CALL_CUE, _SECONDS, _judge_second, units=8),
    Detector(_CALL_CUE, _CALLS, _judge_call, units=8),
)
