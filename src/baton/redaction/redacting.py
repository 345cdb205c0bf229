"""Finds what is sensitive in a text, and takes it out."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from baton.errors import RedactionError
from baton.redaction import (
    addresses,
    calls,
    commands,
    headers,
    named_values,
    numbers,
    private_keys,
    provider_keys,
    sentences,
    tables,
)
from baton.redaction.finding import WITHHELD, Finding, replacement_of
from baton.redaction.json_text import Fitted, JsonFitter, is_json
from baton.redaction.resolving import without_overlaps
from baton.redaction.rules import Rules
from baton.redaction.scanning import Detectors, scan
from baton.redaction.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


_DETECTORS: Final = Detectors(
    (
        private_keys.DETECTOR,
        *provider_keys.DETECTORS,
        headers.DETECTOR,
        named_values.DETECTOR,
        *commands.DETECTORS,
        *calls.DETECTORS,
        *sentences.DETECTORS,
        *addresses.DETECTORS,
        *numbers.DETECTORS,
        *tables.DETECTORS,
    )
)
NO_RULES: Final = Rules()
_END: Final = attrgetter("end")


class Redacted(NamedTuple):
    """Where something was redacted: `line` counts from 1, the offsets are the original's."""

    kind: str
    rule: str
    line: int
    start_char: int
    end_char: int
    start_byte: int
    end_byte: int


@dataclass(frozen=True, slots=True)
class RedactionReport:
    """What was redacted where; it never holds what was redacted."""

    redacted: tuple[Redacted, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return dict(sorted(Counter(each.kind for each in self.redacted).items()))


@dataclass(frozen=True, slots=True)
class SanitizedText:
    """A text that may become searchable, and what was taken out of it."""

    text: str
    report: RedactionReport


def find_sensitive(
    text: str, *, content_type: str = "text/plain", rules: Rules = NO_RULES
) -> list[Finding]:
    """What is sensitive in `text`: in ascending order, no two overlap.

    A text that parses as JSON, or as lines of JSON, is taken for it whatever `content_type` says,
    and one that does not is taken for plain text. The time is linear in the text.

    Raises:
        RedactionError: it failed; nothing of the text may be shown.
    """
    try:
        return _find(text, content_type, rules)
    # Whatever went wrong, the text was not looked through; its error may quote the text.
    except Exception as failure:  # noqa: BLE001
        raise RedactionError(f"the text was not redacted ({type(failure).__name__})") from None


def redact(text: str, findings: Iterable[Finding]) -> str:
    """`text` with each finding replaced."""
    pieces, at = [], 0
    for finding in findings:
        pieces += [text[at : finding.start], finding.replacement]
        at = finding.end
    return "".join([*pieces, text[at:]])


def redact_slice(text: str, findings: Sequence[Finding], start: int, end: int) -> str:
    """`text[start:end]` with the findings in it replaced.

    `findings` are all of `text`. One that the slice cuts is replaced as a whole in each slice that
    has a part of it. What was withheld is one mark, in JSON too: a slice is no JSON.
    """
    pieces, at = [], start
    for finding in findings[bisect_right(findings, start, key=_END) :]:
        if finding.start >= end:
            break
        mark = replacement_of(WITHHELD) if finding.kind == WITHHELD else finding.replacement
        pieces += [text[at : finding.start], mark]
        at = finding.end
    return "".join([*pieces, text[at:end]])


def sanitize_for_archival(
    text: str, *, content_type: str = "text/plain", rules: Rules = NO_RULES
) -> SanitizedText:
    """`text` without what is sensitive, and a report; the parameters are `find_sensitive`'s.

    Raises:
        RedactionError: it failed; nothing of the text may be shown.
    """
    findings = find_sensitive(text, content_type=content_type, rules=rules)
    return SanitizedText(redact(text, findings), report_of(text, findings))


def report_of(text: str, findings: Iterable[Finding]) -> RedactionReport:
    """Where the findings stand, by line, character and byte."""
    line, byte, at, redacted = 1, 0, 0, []
    for finding in findings:
        before = text[at : finding.start]
        secret = text[finding.start : finding.end]
        line += before.count("\n")
        start_byte = byte + _byte_count(before)
        byte = start_byte + _byte_count(secret)
        place = Redacted(
            finding.kind, finding.rule, line, finding.start, finding.end, start_byte, byte
        )
        redacted.append(place)
        line += secret.count("\n")
        at = finding.end
    return RedactionReport(tuple(redacted))


def _byte_count(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _find(text: str, content_type: str, rules: Rules) -> list[Finding]:
    del content_type  # a claim; the text itself tells
    subject = Subject(text)
    sets = [_DETECTORS, rules.detectors] if rules.detectors else [_DETECTORS]
    candidates = without_overlaps(scan(subject, sets))
    if not candidates:
        return []
    if is_json(text):
        fitted = list(JsonFitter(subject).fit(candidates))
    else:
        fitted = [Fitted(each, None) for each in candidates]
    return _findings(subject, fitted)


def _findings(subject: Subject, fitted: Sequence[Fitted]) -> list[Finding]:
    ends = [offset for each, _ in fitted for offset in (each.start, each.end)]
    chars = subject.char_offsets(ends)
    return [
        Finding(each.kind, start, end, shown or replacement_of(each.kind), each.rule)
        for (each, shown), start, end in zip(fitted, chars[::2], chars[1::2], strict=True)
        if start < end
    ]
