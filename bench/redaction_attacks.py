"""Texts made to slow redaction down: floods of what it looks for, and what is nearly that."""

from __future__ import annotations

import json
import random
import string
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ALPHANUMERIC: Final = string.ascii_letters + string.digits
# One unit each, repeated: letters, triggers, things found, and things that are nearly found.
_FLOODS: Final = (
    "a", "4", '"', "\\", "@", "a@a.a", "password=", "password=x9!a ", "password=x9!a\n", "pass ",
    "password ", "secret='", "key=", "AUTH ", "sk-", "ghp_aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zA1b2C ",
    "eyJhbGciOiJI.", "Authorization: Bearer abcdefgh12345678 ", "authorization=",
    "-----BEGIN", "-----BEGIN PRIVATE KEY-----", "4111 1111 1111 1111 ", "123-45-6789 ", "ssn ",
    "http://user:hunter22@host/ ", "bob.x@example.org, ", "docker login -p hunter22! ",
    "the password is hunter22! ", "пароль: x9!a ", "密码是", "日本語é🔑", "password,a\n",
    "password,a\nx,y1!z2\n", ".login('a','b9!cde') ",
)  # fmt: skip
# Parts in random order: what automata that count too much need ever new states for.
_SOUPS: Final = {
    "addresses spelled out": ("a", " at ", "(at)", " dot ", "[dot]", "b ", "AT ", "DOT "),
    "URLs": ("://", ":", "%", ".", "@", *"a" * 40),
    "commands": ("az ", "ldapx ", "mysql ", "curl ", "xh ", " -p", " -u", " -a", "q", "rr "),
    "keys": ("sk-", "ghp_", "a1", "B2", "-", "_", ".", "eyJ", "xoxb-", "AKIA", "M", "N", " "),
    "names": ("password", ":", " ", "Type", " = ", "secret", "x", "value", "default", "{", "["),
    "sentences": ("password", " is", " for", " from", "the ", "x", "to ", "pw ", "token ", ": "),
    "every cue": (
        *(["a" * 400 + " "] * 15), " -p", "://", "a@b.co ", "authorization", "password", "ghp_",
        "-----BEGIN ", " at a dot ", "1234 1234", "12-1234", " is the ", "echo ", ".login(", " -u",
    ),
    "printable": tuple(map(chr, range(32, 127))),
}  # fmt: skip


def attacks(size_bytes: int) -> dict[str, str]:
    """Texts of about `size_bytes` by name, the same in each run."""
    made = {f"{unit!r} and again": unit * (size_bytes // len(unit.encode())) for unit in _FLOODS}
    for name, parts in _SOUPS.items():
        made[f"{name}, in random order"] = _soup(parts, size_bytes)
    for name, unit in _DOCUMENTS.items():
        made[name] = json.dumps(_until(size_bytes, unit))
    made["lines of JSON with passwords"] = "\n".join(
        json.dumps(each) for each in _until(size_bytes, _login)
    )
    made["base64"] = _random("base64", size_bytes, _ALPHANUMERIC + "+/")
    made["random digits"] = _random("digits", size_bytes, string.digits)
    made["passwords as dense as is looked at"] = f"{'a' * 740} password=x9!abc " * (
        size_bytes // 760
    )
    made["escaped passwords in a string"] = json.dumps(
        {"log": '"password": "x9!abc" ' * (size_bytes // 25)}
    )
    return made


def _login(random_: random.Random) -> object:
    return {"user": _word(random_), "password": _word(random_) + "!1"}


def _person(random_: random.Random) -> object:
    return {"name": _word(random_), "email": f"{_word(random_)}@example.org", **_as_dict(random_)}


def _as_dict(random_: random.Random) -> dict[str, object]:
    return {"id": random_.randrange(10**6), "password": _word(random_) + "!1", "active": True}


_DOCUMENTS: Final[dict[str, Callable[[random.Random], object]]] = {
    "JSON of logins": _login,
    "JSON of people with passwords": _person,
    "JSON of card numbers": lambda _: 4111111111111111,
    "JSON of short strings": lambda _: "pw",
    "JSON of triggers": lambda _: {"key": "key="},
    "JSON with long gaps": lambda _: {"a" * 480: "x", "password": "x9!q7"},
    "JSON within JSON": lambda _: json.dumps(json.dumps({"password": 'a"b9!'})),
}


def _until(size_bytes: int, unit: Callable[[random.Random], object]) -> list[object]:
    random_, made, written = random.Random(1), [], 0
    while written < size_bytes:
        made.append(unit(random_))
        written += len(json.dumps(made[-1])) + 2
    return made


def _word(random_: random.Random) -> str:
    return "".join(random_.choices(_ALPHANUMERIC, k=8))


def _soup(parts: Sequence[str], size_bytes: int) -> str:
    mean_bytes = len("".join(parts)) / len(parts)
    return "".join(random.Random(1).choices(parts, k=round(size_bytes / mean_bytes)))


def _random(seed: str, size: int, alphabet: str) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=size))
