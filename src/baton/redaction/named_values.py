"""Values that a name gives away: `password=…`, `"api_key": "…"`, `<secret>…</secret>`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from baton.redaction import values
from baton.redaction.finding import RANK_CERTAIN, RANK_NAMED, WITHHELD, Candidate
from baton.redaction.scanning import Detector, compile_anchor
from baton.redaction.words import KEYS, OPEN_KEYS, PASSWORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.redaction.subject import Subject
    from baton.redaction.values import Value

_SHORT: Final = r"\b(?:pass|pw)|[_.-](?:pass|pw)|[a-z]Pass"
_TOKENS: Final = r"secret|token|credentials?|api[_-]?(?:secret|token)"
_SUFFIX: Final = r"(?:[_-]?(?:value|plain|hash|prod|dev|test|live|old|new|current|\d{1,2}))?s?"
_CLOSE: Final = r"""["'`\]\x02\x03]{0,6}"""
_SEPARATOR: Final = (
    r"(?:"
    r"[ \t]{0,4}:[ \t]{0,4}[|>][+-]?[ \t]{0,4}\n[ \t]{1,40}"  # YAML's block
    r"|[ \t]{0,8}(?::=|=>|->|=|:|\xef\xbc\x9a|\xe2\x86\x92)[ \t]{0,8}"
    r"""|,\s{0,20}\x03?["']\w{0,16}value\x03?["'][ \t]{0,2}:[ \t]{0,4}"""  # {"name": …, "value": …}
    r"|>\s{0,40}<value>"
    r"|[ \t]{1,2}\.[ \t]{1,2}"  # a Lisp pair; its value must be quoted
    r"""|["'\x03 ]{1,4}value["'\x03]{0,2}[ \t]{0,2}[=:][ \t]{0,2}"""
    r"|\s{1,40}value:[ \t]{1,8}"  # the next line of a Kubernetes env
    r"|[ \t]{0,4}\{\s{1,40}default[ \t]{0,8}=[ \t]{0,8}"
    r"|>"
    r"|[ \t]{0,4},[ \t]{0,4}|\([ \t]{0,4}"  # a call's next argument; its value must be quoted
    r")"
)
_ANCHOR: Final = compile_anchor(
    rf"(?:{PASSWORDS}|{_SHORT}|{KEYS}|{_TOKENS}|key|auth|sonar\.login|[?&](?:sig|sign|appid)){_SUFFIX}{_CLOSE}{_SEPARATOR}",
    ignore_case=True,
)
_TYPED: Final = re.compile(rb"[A-Za-z&<>\[\]'.:]{1,24}+[ \t]{1,4}=[ \t]{0,8}")  # name: Type = value
# A literal that is decoded at once.
_DECODED: Final = re.compile(
    rb"""(?:new )?(?:Buffer\.from|(?:bytes|bytearray)\.fromhex|(?:base64\.)?b64decode"""
    rb"""|(?:binascii\.)?unhexlify|hex\.DecodeString|Secret(?:Str|String)?)\(\s?(?=[b"'])"""
)
_CUE: Final = (
    rf"{PASSWORDS}|pass|pw|secret|token|credential|key|auth|sonar\.login|[?&]sig|[?&]appid"
)
_PASSWORD: Final = re.compile(rf"(?:{PASSWORDS}|{_SHORT})".encode(), re.IGNORECASE)
_NAMED_KEY: Final = re.compile(KEYS.encode(), re.IGNORECASE)
_API: Final = re.compile(rb"api", re.IGNORECASE)
_PLAIN_LINE: Final = re.compile(
    rb"[ \t]*(?:(?:export|set|ENV|ARG|-e|-|local|\"?Environment=\"?)[ \t]+)*[\w.$/:-]*"
)
_YAML_LINE: Final = re.compile(rb"[ \t]*(?:- )?[\w.-]*")
_LINE_END: Final = re.compile(rb"[ \t]*(?:\r?[\n\f]|$|#)")
_LIST_END: Final = re.compile(rb"""["']\s{0,16}\]""")
_LEFT_BYTES: Final = 80
_LONG_TAILS: Final = frozenset({b":=", b"=>", b"->"})
_TAILS: Final = {b"\x9a": b":", b"\x92": b"=>"}  # a full-width colon, an arrow
_ARGUMENT: Final = (b",", b"(", b".")
# What a text in quotes may begin with.
_BEFORE_TEXT: Final = frozenset(bytes([byte]) for byte in b"\"'`bBfFrRuU@&\x02\x03\xe2\xc2\xe3[")


class _Named(NamedTuple):
    """What stands around a value: its name, what separates them, the line up to the name."""

    name: bytes
    separator: bytes
    before: bytes
    after: bytes
    is_plain_line: bool


def _judge(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    separator = _separator(view, start, end)
    in_code = separator in _ARGUMENT and view[end : end + 1] not in _BEFORE_TEXT
    kind = None if in_code else _kind(view, start, end)
    if kind is None:
        return ()
    if typed := _TYPED.match(view, end):
        end, separator = typed.end(), b"="
    if decoded := _DECODED.match(view, end):
        end = decoded.end()
    if kind == "password" and view.startswith(b"[", end):
        return _listed(subject, end)
    anchor, before = view[start:end], _before(view, start)
    is_plain = separator == b"=" and _is_plain_line(anchor, before)
    value = values.read_value(view, end, whole_word=is_plain)
    if value is None:
        return ()
    if separator == b":" and b"://" in before.rpartition(b" ")[2]:
        return ()  # a URL's user; what is behind it is found by the URL
    named = _Named(anchor, separator, before, view[value.end : value.end + 40], is_plain)
    judged = _is_password if kind == "password" else _is_secret
    if not judged(value.text(view), value, named):
        return ()
    return (_candidate(value, kind),)


def _kind(view: bytes, start: int, end: int) -> str | None:
    """What the name promises; None where it is part of another word."""
    anchor = view[start:end]
    if _PASSWORD.match(anchor):
        return None if _is_tail_of_word(view, start, anchor) else "password"
    if _NAMED_KEY.match(anchor):
        return "api_key" if _API.match(anchor) else "secret"
    lowered = anchor[:4].lower()
    if lowered in {b"key", b"keys"} or lowered.startswith(b"key"):
        return "key" if _is_key(view, start) else None
    if lowered == b"auth":
        return "auth" if not view[start - 1 : start].isalnum() else None
    return "secret"


def _is_tail_of_word(view: bytes, start: int, anchor: bytes) -> bool:
    """`compass:` has no `pass`, `dbPass:` has."""
    if anchor[:2].lower() != b"pa" or anchor[4:5].isalpha() or start == 0:
        return False
    before = view[start - 1 : start]
    return before.isalpha() and not (before.islower() and anchor[:1].isupper())


def _is_key(view: bytes, start: int) -> bool:
    before = view[max(0, start - 16) : start]
    if before[-1:].isalpha() and not (before[-1:].islower() and view[start : start + 1] == b"K"):
        return False
    word = re.findall(rb"[A-Za-z0-9]+", before[:-1] if before[-1:] in b"_-. " else before)
    return not (word and (word[-1].lower() in OPEN_KEYS or word[-1].lower().endswith(b"public")))


def _before(view: bytes, start: int) -> bytes:
    """The line up to the name, as far as it is looked at."""
    before = view[max(0, start - _LEFT_BYTES) : start]
    return before[max(before.rfind(b"\n"), before.rfind(b"\f")) + 1 :]


def _separator(view: bytes, start: int, end: int) -> bytes:
    tail = view[max(start, end - 10) : end].rstrip(b" \t")
    long = tail[-2:]
    return long if long in _LONG_TAILS else _TAILS.get(tail[-1:], tail[-1:])


def _is_plain_line(anchor: bytes, before: bytes) -> bool:
    """`NAME=` without blanks at the begin of a line, as in `.env` files and properties."""
    if b" " in anchor or anchor.endswith(b"\t") or b"&" in before:
        return False
    return _PLAIN_LINE.fullmatch(before) is not None


def _listed(subject: Subject, at: int) -> Sequence[Candidate]:
    """The passwords of a list; what is too long is withheld to its end."""
    view = subject.view
    listed = values.read_list(view, at)
    subject.owed_units += 4 * len(listed)
    found = [
        _candidate(each, "password") for each in listed if _is_password_in_list(each.text(view))
    ]
    if len(listed) == values.MAX_LISTED:
        ended = _LIST_END.search(view, listed[-1].end + 1)
        end = ended.start() + 1 if ended else len(view)
        found.append(Candidate(listed[-1].end + 1, end, WITHHELD, "list", RANK_CERTAIN))
    return found


def _is_password(text: bytes, value: Value, named: _Named) -> bool:
    if len(text) < 3 or values.is_no_value(text):
        return False
    if values.names_a_secret(text) and not (named.name[:1].isupper() and b"-" in text):
        return False
    judge = _is_quoted_password if value.quote else _is_bare_password
    return judge(text, named)


def _is_bare_password(text: bytes, named: _Named) -> bool:
    if named.separator in _ARGUMENT or values.is_reference(text):
        return False
    if not values.is_mixed(text):
        return _is_plain_word_password(text, named)
    closed = named.separator != b">" or named.after.startswith(b"<")
    return closed and not named.before.endswith(b"if ") and len(text) >= 4


def _is_quoted_password(text: bytes, named: _Named) -> bool:
    talk = values.is_talk(text) and not named.is_plain_line
    if talk or (b"(" in text and values.is_reference(text)):
        return False
    if named.separator in _ARGUMENT:
        return values.is_mixed(text) and b" " not in text
    return b"%s" not in text and b"${" not in text and not text.startswith((b":", b"/^", b","))


def _is_plain_word_password(text: bytes, named: _Named) -> bool:
    """Letters only, or digits only: only where a file of settings has it, to the line's end."""
    ends = bool(_LINE_END.match(named.after)) or named.after[:1] in {b'"', b"'", b"&", b"<", b"}"}
    if text.isdigit():
        return len(text) >= 4 and named.separator in {b"=", b":"}
    if named.separator == b"=":
        return (
            ends
            and len(text) >= 5
            and named.is_plain_line
            and not values.is_identifier(text[:1].lower() + b"_" if b"_" in text else b"-")
        )
    if named.separator == b":":
        return (
            ends
            and len(text) >= 5
            and bool(_YAML_LINE.fullmatch(named.before))
            and (named.name[:1].islower() and not named.name.startswith(b"pass:"))
        )
    return named.separator == b">" and named.after.startswith(b"<")


def _is_password_in_list(text: bytes) -> bool:
    return len(text) >= 3 and not (
        values.is_no_value(text) or b" " in text or values.names_a_secret(text)
    )


def _is_secret(text: bytes, value: Value, named: _Named) -> bool:
    if values.is_no_value(text) or values.is_reference(text) or values.names_a_secret(text):
        return False
    if named.separator in _ARGUMENT and not value.quote:
        return False
    if value.quote and values.looks_random_throughout(text):
        return True
    return _is_random_enough(text, value, named)


def _is_random_enough(text: bytes, value: Value, named: _Named) -> bool:
    """How random it has to look depends on how much the name says."""
    lowered = named.name[:4].lower()
    if lowered.startswith(b"key"):
        return values.looks_random(text)
    if lowered.startswith(b"auth"):
        return values.looks_like_token(text, at_least=16) and b" " not in text
    if value.quote and named.name.lower().startswith((b"api", b"secret", b"client")):
        return values.is_mixed(text) and b" " not in text and len(text) >= 4
    return values.looks_like_token(text)


def _candidate(value: Value, kind: str) -> Candidate:
    told = "secret" if kind in {"key", "auth"} else kind
    return Candidate(value.start, value.end, told, "named", RANK_NAMED)


DETECTOR: Final = Detector(_CUE, _ANCHOR, _judge, units=18)
