"""Private keys: PEM, OpenSSH, PGP, PuTTY. What stands between the marker lines goes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from baton.redaction.finding import RANK_CERTAIN, Candidate
from baton.redaction.scanning import Detector, compile_anchor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.redaction.subject import Subject

KIND: Final = "private_key"
_MAX_BYTES: Final = 32 * 1024
_CUE: Final = r"-----BEGIN |Private-Lines"
_ANCHOR: Final = compile_anchor(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|Private-Lines: \d{1,3}"
)
# A key whose end is missing: its headers, then lines of base64, or one.
_OPEN_BODY: Final = re.compile(
    rb"""(?:[\s\x02"'>|]{0,40}n?[A-Za-z0-9+/=]{20,128}){1,400}+(?:[\s\x02]{1,8}n?[A-Za-z0-9+/]{1,19}={0,2}(?=\s))?"""
)
_BLANK: Final = b" \t\r\n\f\x02\"'"
_HEADERS: Final = re.compile(rb"\s{0,8}(?:[A-Z][\w-]{1,30}: [^\n\f]{0,200}[\n\f]){1,6}")


def _judge(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    # The next dashes end the key, or begin another: so no byte is looked at for two keys.
    dashed = view.startswith(b"-", start)
    dashes = view.find(b"-----", end, end + _MAX_BYTES) if dashed else -1
    if dashes >= 0 and view.startswith(b"-----END", dashes):
        headed = _HEADERS.match(view, end, dashes)
        begin, until = headed.end() if headed else end, dashes
    else:
        body = _OPEN_BODY.match(view, end, end + _MAX_BYTES)
        if body is None:
            return ()
        begin, until = body.span()
    begin += len(view[begin:until]) - len(view[begin:until].lstrip(_BLANK))
    until -= len(view[begin:until]) - len(view[begin:until].rstrip(_BLANK))
    if begin >= until:
        return ()
    return (Candidate(begin, until, KIND, "key_block", RANK_CERTAIN),)


DETECTOR: Final = Detector(_CUE, _ANCHOR, _judge, units=12)
