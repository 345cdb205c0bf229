"""Reads the value that stands after a name, and tells a secret from what only stands there."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Final, NamedTuple

from baton.redaction.words import NAME_PARTS, NAMES, STOP_WORDS, TALK

_OPEN: Final = re.compile(
    rb"""[bBfFrRuU@&]{0,2}\x02{0,8}("{3}|'{3}|\x03["']|["'`]|\xe2\x80[\x9c\x9e\x98]|\xc2\xab|\xe3\x80\x8c)"""
)
# Possessive, so that a quote that is never closed costs one pass.
_BODIES: Final = {
    b'"': re.compile(rb"""((?:[^"\n\x03]|\x03.){0,1024}+)\\?" """.strip()),
    b"'": re.compile(rb"((?:[^'\n\x03]|\x03.){0,1024}+)'"),
    b"`": re.compile(rb"([^`\n]{0,1024}+)`"),
    b'\x03"': re.compile(rb"""([^"\n\x03]{0,1024}+)\x03?" """.strip()),
    b"\x03'": re.compile(rb"([^'\n\x03]{0,1024}+)\x03?'"),
    b'"""': re.compile(rb"""([^"\n]{0,1024}+)"{3}"""),
    b"'''": re.compile(rb"([^'\n]{0,1024}+)'{3}"),
    b"\xe2\x80\x9c": re.compile(rb"([^\n\xe2]{0,1024}+)\xe2\x80[\x9d\x9c]"),
    b"\xe2\x80\x9e": re.compile(rb"([^\n\xe2]{0,1024}+)\xe2\x80[\x9d\x9c]"),
    b"\xe2\x80\x98": re.compile(rb"([^\n\xe2]{0,1024}+)\xe2\x80\x99"),
    b"\xe3\x80\x8c": re.compile(rb"([^\n]{0,256}?)\xe3\x80\x8d"),
    b"\xc2\xab": re.compile(rb"([^\n\xc2]{0,1024}+)\xc2\xbb"),
}
_BARE: Final = re.compile(rb"""[^\s"'`\x03]{1,256}+""")
# Where an unquoted value ends though no blank follows: the next field, a closing bracket.
_FIELD_END: Final = re.compile(
    rb"&(?=[\w.%-]{1,40}=)|[,;|](?=$|\s|[\w.-]{1,40}[=:])|[)}\]<>]|;|\xe2\x80\xa6"
)
_MARKS: Final = re.compile(rb"[&,;|)}\]<>\xe2]")
_LIST_ITEM: Final = re.compile(
    rb"""\s{0,16}(?:"([^"\n\x03]{1,256}+)"|'([^'\n\x03]{1,256}+)')\s{0,16}(,|\])"""
)
# What opens with one of these is filled in by something else: a template, a shell, a reader.
_FILLED_IN: Final = (
    b"<", b"${", b"$(", b"{{", b"{", b"%(", b"#{", b"[", b"(", b"!ref", b"!sub", b"!vault",
    b"!getatt", b"!secret", b"!env", b"!join", b"enc(", b"xxxx", b"***", b"...", b"\xe2\x80\xa6",
    b"\xe2\x80\xa2", b"process.env", b"os.environ", b"os.getenv", b"env.", b"var.", b"vars.",
    b"data.", b"local.", b"secrets.",
)  # fmt: skip
_FILL_IN_WORDS: Final = re.compile(rb"placeholder|redacted|your[_-]")
_LEFT_OPEN: Final = (b"...", b"****", b"\xe2\x80\xa6")
_PLACEHOLDER: Final = re.compile(
    rb"""(?x)
      \$ (?: [a-z_][a-z_]* | [a-z]\w*_\w* | \d )       # a variable
    | % (?: \w{1,2} | [a-z_]+% )
    | [*.x\#_?-]{2,}
    | [a-z-]{0,12} (?: your | my | the | some ) [_-]? [a-z_-]{0,30}
        (?: key | token | password | secret | here | goes | id )s? (?: [_-]?here )?
    | (?: change | replace | fill | insert | put | add ) [_-]? (?: me | this | it | in | here )
        [a-z_-]{0,40}
    | (?: your | todo | fixme | tbd | placeholder | example | dummy | redacted )
        (?: [_\s-] .{0,60} )?
    """
)
_MAX_PLACEHOLDER_BYTES: Final = 100
_REFERENCE: Final = re.compile(
    rb"""(?x)
      [A-Za-z_][\w.]{0,80}+(?:\[|\(|->|::).*             # a call, an index
    | [A-Za-z_$][A-Za-z_]{0,40}+(?:\.[A-Za-z_]{1,40}+)+   # settings.PASSWORD
    | \#?[A-Za-z]{1,40}+<.* | &.* | \*?[A-Za-z]\w{0,40}\*
    | (?: [.~]{0,2} / | [A-Za-z]:\\ ) .*                 # a path
    | arn:.* | (?:https?|file|s3|gs|secret|vault|ssm|op|env|keyring)://.*
    | @[\w.]+
    """
)
_IDENTIFIER: Final = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
MAX_LISTED: Final = 500
_MAX_NAME_BYTES: Final = 40
_ALL_DIGITS: Final = b"0123456789"
_ALL_LETTERS: Final = bytes(byte for byte in range(256) if byte >= 128 or chr(byte).isalpha())
# A longer one is no plain words, and its first bytes tell how random it is.
_LOOK_AT_BYTES: Final = 128
_TOKEN_CHARS: Final = re.compile(rb"[A-Za-z0-9_.\-/+=~:$%!@#^*?&\x02\\]+")
_LETTERS: Final = re.compile(rb"[A-Za-z\x80-\xff-]+")
_WORD: Final = re.compile(rb"[a-z]{2,}|[A-Z][a-z]+|[A-Z]{2,}|\d+")
_CHARACTER_SORTS: Final = tuple(
    re.compile(sort) for sort in (rb"[a-z]", rb"[A-Z]", rb"[0-9]", rb"[^A-Za-z0-9]")
)
_ALPHANUMERIC: Final = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}")
_NAME_LIKE: Final = re.compile(NAMES.encode(), re.IGNORECASE)
_NAME_PART: Final = re.compile(b"|".join(NAME_PARTS))
_TALK: Final = re.compile(TALK.encode(), re.IGNORECASE)


class Value(NamedTuple):
    """The bytes of a value within its quotes; `quote` is empty where it has none."""

    start: int
    end: int
    quote: bytes

    def text(self, view: bytes) -> bytes:
        """What it is judged by: its begin, which tells as much as the whole."""
        return view[self.start : min(self.end, self.start + _LOOK_AT_BYTES)]


def read_value(view: bytes, at: int, *, whole_word: bool = False) -> Value | None:
    """The value that begins at `at`: what is in quotes, or up to a blank or the next field.

    `whole_word` takes an unquoted one to its blank, as the lines of an `.env` file have it.
    """
    opened = _OPEN.match(view, at)
    if opened:
        body = _BODIES.get(opened[1], _BODIES[b'"']).match(view, opened.end())
        if body:
            return _within_quotes(view, body.start(1), body.end(1), opened[1])
        at = opened.end()
    return _read_bare(view, at, whole_word=whole_word)


def _within_quotes(view: bytes, start: int, end: int, quote: bytes) -> Value | None:
    if quote.startswith(b"\x03"):
        end = start + len(view[start:end].rstrip(b"\x02"))
    return Value(start, end, quote) if end > start else None


def _read_bare(view: bytes, at: int, *, whole_word: bool) -> Value | None:
    bare = _BARE.match(view, at)
    if bare is None:
        return None
    start, end = bare.span()
    if not whole_word:
        cut = _FIELD_END.search(view, start + 1, end) if _MARKS.search(view, start, end) else None
        end = cut.start() if cut and not view.startswith((b"<", b"$", b"{", b"["), start) else end
        end = start + len(view[start:end].rstrip(b".,;:?"))
    return Value(start, end, b"") if end > start else None


def read_list(view: bytes, at: int) -> list[Value]:
    """The quoted strings of the list that begins with `[` at `at`, at most `MAX_LISTED`."""
    found: list[Value] = []
    at += 1
    while len(found) < MAX_LISTED and (item := _LIST_ITEM.match(view, at)):
        group = 1 if item[1] is not None else 2
        found.append(Value(item.start(group), item.end(group), b'"'))
        if item[3] == b"]":
            break
        at = item.end()
    return found


def is_no_value(value: bytes) -> bool:
    """Whether it stands for a value: a placeholder, a mask, a word such as `null`."""
    lowered = value.lower()
    if lowered.startswith(_FILLED_IN) or lowered in STOP_WORDS:
        return True
    if lowered.endswith(_LEFT_OPEN) or _FILL_IN_WORDS.search(lowered):
        return True
    return len(value) <= _MAX_PLACEHOLDER_BYTES and bool(_PLACEHOLDER.fullmatch(lowered))


def is_reference(value: bytes) -> bool:
    """Whether it names the place of a value: code, a path, a URL."""
    return bool(_REFERENCE.fullmatch(value))


def is_identifier(value: bytes) -> bool:
    """Whether it is one name, as a variable's."""
    return bool(_IDENTIFIER.fullmatch(value))


def is_letters(value: bytes) -> bool:
    """Whether it has letters only, of any script, and hyphens."""
    return bool(_LETTERS.fullmatch(value))


def is_talk(value: bytes) -> bool:
    """Whether it is a sentence about a secret, such as `must not be blank`."""
    return b" " in value and bool(_TALK.search(value))


def names_a_secret(value: bytes) -> bool:
    """Whether the whole is a word for a secret, such as `Passwort` or `user_password`."""
    if len(value) > _MAX_NAME_BYTES or _digits(value) > 1:
        return False
    lowered = value.lower()
    if value.isascii() and not _NAME_PART.search(lowered):
        return False
    return bool(_NAME_LIKE.fullmatch(lowered))


def is_mixed(value: bytes) -> bool:
    """Whether it has a digit or a sign among letters, or a change of case within a word."""
    return not is_letters(value) and len(value.translate(None, _ALL_LETTERS)) < len(value)


def looks_like_token(value: bytes, *, at_least: int = 8) -> bool:
    """Whether it could be a key: characters of keys only, letters and digits, no plain words."""
    value = value[:_LOOK_AT_BYTES]
    if len(value) < at_least or not _TOKEN_CHARS.fullmatch(value):
        return False
    digits = _digits(value)
    if digits in {0, len(value)}:
        random = len(value) >= 20 and len(set(value)) >= 16 and _entropy_bits(value) >= 4.0
        return digits == 0 and random
    return len(set(value)) >= min(6, at_least) and not is_words(value)


def looks_random_throughout(value: bytes) -> bool:
    """Whether it is long, and letters, digits and signs of any sort are mixed throughout."""
    if not 24 <= len(value) <= _LOOK_AT_BYTES or b" " in value or not value.isascii():
        return False
    return _digits(value) >= 3 and len(set(value)) >= 18 and _entropy_bits(value) >= 4.0


def strength(value: bytes) -> int:
    """How many of these it has: lower case, upper case, digits, signs."""
    return sum(bool(found.search(value)) for found in _CHARACTER_SORTS)


def looks_random(value: bytes) -> bool:
    """A stricter form of `looks_like_token`, for names that say little: length and entropy."""
    if len(value) < 20 or not _ALPHANUMERIC.fullmatch(value) or not looks_like_token(value):
        return False
    return len(set(value)) >= 8 and _entropy_bits(value) >= 3.0 and not is_words(value)


def is_words(value: bytes) -> bool:
    """Whether words and short numbers make it up: `db-credentials-2`, `2024-11-21`."""
    if len(value) > _LOOK_AT_BYTES:
        return False
    parts = [part for part in re.split(rb"[^A-Za-z0-9]+", value) if part]
    if len(parts) < 2 or any(len(part) > 14 for part in parts):
        return False
    return all((part.isalpha() and _WORD.fullmatch(part)) or part.isdigit() for part in parts)


def _entropy_bits(value: bytes) -> float:
    """Shannon's entropy of its characters, in bits for each."""
    value = value[:_LOOK_AT_BYTES]
    count = len(value)
    return -sum(n / count * math.log2(n / count) for n in Counter(value).values())


def _digits(value: bytes) -> int:
    return len(value) - len(value.translate(None, _ALL_DIGITS))


def has_digit(value: bytes) -> bool:
    """Whether one of its characters is an ASCII digit."""
    return _digits(value) > 0
