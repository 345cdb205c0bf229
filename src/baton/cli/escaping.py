"""Makes foreign text safe to show on a terminal, which obeys control characters."""

from __future__ import annotations

import re
from typing import Final

# C0 but tab and newline, DEL, C1; marks that turn the direction of what follows; lone surrogates.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escape(text: str) -> str:
    r"""`text` with what a terminal would obey shown as `\x1b`; line ends stay.

    Not to be undone: a text that holds a backslash and `x1b` looks the same.
    """
    return _UNSAFE.sub(_visible, text.replace("\r\n", "\n"))


def escape_line(text: str, limit: int = 0) -> str:
    """As `escape`, on one line; longer than `limit` characters it is cut (0: never)."""
    line = " ".join(text.split())
    if limit and len(line) > limit:
        line = f"{line[: limit - 3]}..."
    return escape(line)


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
