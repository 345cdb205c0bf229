r"""Regular expressions over lines, by RE2: no pattern backtracks, whatever the text.

Python's `re` takes minutes for `(a|a)*b` over thirty letters, and the pattern here comes from an
instruction that a model may have written. RE2 takes at most time in proportion to the text and to
the compiled pattern. Its price: no look-around, no back-references, and `\w \d \s \b` know ASCII
only (`\pL` is any letter). The syntax: https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import re
from typing import Final

import re2

from baton.errors import InvalidInputError

MAX_PATTERN_CHARS: Final = 200
# For one compiled pattern. The re2 package keeps the last 128, so at most 128 MiB in a process.
MAX_MEMORY_BYTES: Final = 1024 * 1024

_ASCII_CLASS: Final = re.compile(r"\\[bBdDsSwW]|\[:")
_EACH_LINE: Final = "(?m)"  # `^` and `$` are the ends of a line


class LineRegex:
    r"""A compiled pattern; safe for threads. No match of it holds a line feed.

    `ascii_classes` tells whether it uses a class or a boundary such as `\w`, which knows ASCII
    only.

    Raises:
        InvalidInputError: the pattern is empty, too long, too large when unrolled, or not RE2's.
    """

    def __init__(self, pattern: str, *, ignore_case: bool = False) -> None:
        if not 1 <= len(pattern) <= MAX_PATTERN_CHARS:
            expected = f"1 to {MAX_PATTERN_CHARS} characters"
            raise InvalidInputError("pattern", expected, f"<{len(pattern)} characters>")
        self.ascii_classes = bool(_ASCII_CLASS.search(pattern))
        # A lone surrogate becomes bytes that no valid text holds.
        written = f"{_EACH_LINE}{pattern}".encode(errors="surrogatepass")
        try:
            self._regex = re2.compile(written, _options(ignore_case=ignore_case))
        except re2.error as refusal:
            expected = "RE2's syntax (no look-around, no back-references) and size"
            raise InvalidInputError("pattern", expected, _reason(refusal)) from refusal

    def find(self, text: bytes, start: int, end: int) -> tuple[int, int] | None:
        """The bytes of the first match in `text[start:end]`, UTF-8, or None.

        What stands around the range counts for `^`, `$` and boundaries. The GIL is free meanwhile.
        """
        match = self._regex.search(text, start, end)
        return None if match is None else match.span()


def _options(*, ignore_case: bool) -> re2.Options:
    options = re2.Options()
    options.case_sensitive = not ignore_case
    options.max_mem = MAX_MEMORY_BYTES
    options.never_nl = True
    options.never_capture = True  # groups only group, which spares RE2 its slower engines
    options.log_errors = False  # it would write them to stderr; they are raised anyway
    return options


def _reason(refusal: re2.error) -> str:
    told: bytes = refusal.args[0]
    return told.decode(errors="replace").replace(_EACH_LINE, "", 1)
