"""Finds secrets and personal data in a text and takes them out: pure functions, no Redis."""

from baton.redaction.finding import Finding
from baton.redaction.redacting import (
    Redacted,
    RedactionReport,
    SanitizedText,
    find_sensitive,
    redact,
    redact_slice,
    report_of,
    sanitize_for_archival,
)
from baton.redaction.rules import Rules, compile_rules

__all__ = [
    "Finding",
    "Redacted",
    "RedactionReport",
    "Rules",
    "SanitizedText",
    "compile_rules",
    "find_sensitive",
    "redact",
    "redact_slice",
    "report_of",
    "sanitize_for_archival",
]
