"""Authorization headers: `Bearer …`, `Basic …`, and what else stands after the name."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final

from baton.redaction import values
from baton.redaction.finding import RANK_HEADER, Candidate
from baton.redaction.scanning import Detector, compile_anchor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.redaction.subject import Subject

_ANCHOR: Final = compile_anchor(
    r"""\bauthorization["'\])\x02\x03]{0,6}[ \t]{0,4}[:=,]"""
    r"""[ \t]{0,4}(?:[bf]?[\x02\x03]{0,4}["'`])?"""
    r"(?:(?:bearer|basic|token|digest|apikey|bot|negotiate)[ \t]{1,4})?"
    r"|\b(?:bearer|basic)[ \t]{1,4}",
    ignore_case=True,
)
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/=-]{4,256}+")
_TAIL: Final = re.compile(rb"[A-Za-z0-9._~+/=-]{0,8192}+")


def _judge(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    token = _TOKEN.match(view, end)
    if token is None:
        return ()
    text = token[0].rstrip(b".")
    scheme = view[max(start, end - 8) : end].rstrip().lower()
    if not _is_credential(text, scheme) or values.is_no_value(text):
        return ()
    tail = _TAIL.match(view, token.end())
    until = tail.end() if tail is not None and tail[0] else end + len(text)
    return (Candidate(end, until, "authorization", "header", RANK_HEADER),)


def _is_credential(text: bytes, scheme: bytes) -> bool:
    if scheme.endswith(b"basic"):
        return _is_pair(text)
    return values.looks_like_token(text, at_least=12)


def _is_pair(text: bytes) -> bool:
    """Whether it is `user:password` in base64."""
    try:
        return b":" in base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False


DETECTOR: Final = Detector(r"authorization|bearer|basic", _ANCHOR, _judge, units=10)
