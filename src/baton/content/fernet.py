"""Fernet tokens, the protocol's way to encrypt: they can be read, so that they can be replaced.

Baton writes none. A token names neither its key nor its place, so an old one, or another
session's, opens as well as the right one; it shows its time, and it is a third longer.
"""

from __future__ import annotations

import re
from typing import Final

from cryptography.fernet import Fernet, InvalidToken

from baton.content.text import decode_text
from baton.errors import InvalidInputError, SealBrokenError

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{43}=")
# The decoder would skip what is not base64; a token holds nothing to skip.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+={0,2}")


def open_fernet(token: str, key: str) -> str:
    """The text in `token`, whatever its age.

    Raises:
        InvalidInputError: `key` is not 32 bytes in URL-safe base64 (it is not shown), or `token`
            is not such base64.
        SealBrokenError: the token was changed or made under another key.
        ContextCorruptError: it is authentic, but not UTF-8.
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InvalidInputError("Fernet key", "32 bytes in URL-safe base64", "<hidden>")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise InvalidInputError("Fernet token", "URL-safe base64", f"<{_size(token)}>")
    try:
        plain = Fernet(key).decrypt(token)
    except InvalidToken as error:
        raise SealBrokenError(
            "Fernet token does not open: it was changed, or made under another key"
        ) from error
    return decode_text(plain)


def _size(token: object) -> str:
    return f"{len(token)} characters" if isinstance(token, str) else type(token).__name__
