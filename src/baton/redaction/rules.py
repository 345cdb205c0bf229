"""A user's own rules: names with RE2 patterns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import re2

from baton.errors import RedactionRuleError
from baton.redaction.finding import RANK_HEADER, WITHHELD, Candidate
from baton.redaction.scanning import Detector, Detectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from baton.redaction.subject import Subject

MAX_RULES: Final = 100
MAX_PATTERN_CHARS: Final = 1_000
_MAX_MEMORY_BYTES: Final = 8 * 1024 * 1024
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


class Rules(NamedTuple):
    """Rules that were checked and compiled; safe for threads."""

    detectors: Detectors | None = None


def compile_rules(named_patterns: Iterable[tuple[str, str]]) -> Rules:
    """Rules from pairs of a name, which becomes the findings' kind, and an RE2 pattern.

    What a pattern matches is redacted as a whole. `.` stays within a line; a match has at most
    2 KiB.

    Raises:
        RedactionRuleError: a name or a pattern is refused; it names the rule.
    """
    pairs = list(named_patterns)
    if len(pairs) > MAX_RULES:
        raise RedactionRuleError("<all>", f"at most {MAX_RULES} rules", f"<{len(pairs)} rules>")
    names = [name for name, _ in pairs]
    for name, pattern in pairs:
        _check(name, pattern)
        if names.count(name) > 1:
            raise RedactionRuleError(name, "a name of its own", name)
    return Rules(Detectors([_detector(name, pattern) for name, pattern in pairs]))


def _check(name: str, pattern: str) -> None:
    if not _NAME.fullmatch(name) or name == WITHHELD:
        expected = "a letter, then letters, digits, `_`, `-` (at most 64)"
        raise RedactionRuleError("<name>", expected, name)
    if not 1 <= len(pattern) <= MAX_PATTERN_CHARS:
        expected = f"a pattern of 1 to {MAX_PATTERN_CHARS} characters"
        raise RedactionRuleError(name, expected, f"<{len(pattern)} characters>")


def _detector(name: str, pattern: str) -> Detector:
    regex = _compile(name, pattern)
    if regex.search(b"") is not None:
        raise RedactionRuleError(name, "a pattern that does not match the empty text", pattern)

    def judge(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
        begin, until = subject.whole_characters(start, end)
        return (Candidate(begin, until, name, "own", RANK_HEADER),) if end > start else ()

    return Detector("", regex, judge, units=6, on_view=False)


def _compile(name: str, pattern: str) -> re2._Regexp:
    options = re2.Options()
    options.max_mem = _MAX_MEMORY_BYTES
    options.never_nl = True
    options.never_capture = True
    options.log_errors = False
    try:
        return re2.compile(pattern.encode(), options)
    except (re2.error, UnicodeEncodeError) as refusal:
        expected = "RE2's syntax (no look-around, no back-references) and size"
        told = refusal.args[0]
        shown = told.decode(errors="replace") if isinstance(told, bytes) else "<a lone surrogate>"
        raise RedactionRuleError(name, expected, shown) from None
