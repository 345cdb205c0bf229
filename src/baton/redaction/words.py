"""Words that tell a secret's name, and words that are no secret."""

from __future__ import annotations

from typing import Final

PASSWORDS: Final = (
    r"pass[_-]?(?:word|wd|wort|phrase|code)|passw|pwd|psw|psk|kennwort|contrase(?:ñ|n)a"
    r"|mot[ _]de[ _]passe"
    r"|senha|wachtwoord|has(?:ł|l)o|(?:П|п)ароль|密码|密碼|パスワード|비밀번호|(?:la )?clave|parola"
)
KEYS: Final = (
    r"(?:api|access|secret|private|signing|encryption|master|account|auth|app|subscription|license"
    r"|licence|shared|client|hmac|webhook|storage|consumer|security|props|token)"
    r"[_. -]?key(?:[_-]?base)?"
)
# What may stand in front of `key` where it opens nothing.
OPEN_KEYS: Final = frozenset(
    {
        b"public",
        b"publishable",
        b"primary",
        b"foreign",
        b"sort",
        b"partition",
        b"cache",
        b"routing",
        b"unique",
        b"composite",
        b"object",
        b"row",
        b"hash",
        b"range",
        b"lookup",
        b"index",
        b"registry",
        b"idempotency",
        b"dedup",
        b"s3",
        b"host",
        b"group",
        b"message",
        b"redis",
        b"storage_path",
    }
)
# A whole value that is such a word is a label, a type or the name of a variable.
NAMES: Final = (
    r"\W{0,4}[a-z_.-]{0,30}?(?:"
    + PASSWORDS
    + r"|secret|token|credentials?|api[_-]?key|key|pass|pw)"
    r"(?:e|en|s)?[_-]?(?:\d|field|input|hash|value|here)?\W{0,4}"
)
# Each of those names that is ASCII has one of these.
NAME_PARTS: Final = (
    b"pass", b"pw", b"psw", b"psk", b"ken", b"contra", b"mot", b"senha", b"wacht", b"has", b"clave",
    b"parola",
    b"secret", b"token", b"cred", b"key",
)  # fmt: skip
STOP_WORDS: Final = frozenset(
    b"""null none nil undefined true false yes no on off required optional mandatory string str
    bytes byte bytea text varchar char character bool boolean int integer number any object
    buffer type
    default empty unknown missing invalid expired incorrect wrong valid ok present absent hidden
    masked encrypted secure basic bearer digest include same-origin unset disabled enabled provided
    option list dict map array uuid json base64 secretstr optional[str] self this void
    changed correct weak strong blank needed set fail failed failure success error stdin see siehe
    is it a an the and or not must should may can will to for of in with at least from keine keines
    kein nein ja oui non si obligatoire obligatorio required* n/a na tbd todo ~ - | > >- |- vault
    anonymous inherit auto always never file env environment prompt ask keyring plain plaintext
    visible reset rotated unchanged identifier keyword valid/invalid""".split()
)
# A quoted sentence with one of these speaks of a secret and holds none.
TALK: Final = (
    r"\b(?:required|must|should|cannot|can't|invalid|incorrect|forgot|forgotten|enter|your|reset"
    r"|field|blank|missing|expired|characters|chars|of the|change|confirm|wrong|short|too|please"
    r"|shows|rotates|header|user's|new|repeat|choose|optional|the \w+ to|mask|failed|does|do not"
    r"|with|without|when|returns?|the|an?|for|and|is|are)\b"
)
