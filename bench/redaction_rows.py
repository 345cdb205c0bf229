"""Redaction: seconds a MB on realistic text, and on strings made to be slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.redaction import find_sensitive
from bench.measure import expect, interleave, timed
from bench.report import Row, Side

if TYPE_CHECKING:
    from bench.plan import Plan

_ATTACKS: Final = (
    "a",
    "4",
    "-----BEGIN",
    '"',
    "@",
    "password=",
    "4111 1111 1111 1111 ",
    "-----BEGIN PRIVATE KEY-----",
)
_LIMIT_SECONDS_PER_MB: Final = 0.050
_PLANTED: Final = "\npassword=Plant3d!\n"


def redaction(plan: Plan, text: str) -> list[Row]:
    """One row for realistic text with a secret at its end, one for the slowest of the attacks."""
    contestants = {"realistic": lambda _: _seconds_per_mb(text + _PLANTED, planted=True)}
    for attack in _ATTACKS:
        run = attack * (plan.size_bytes // len(attack))
        contestants[repr(attack)] = lambda _, run=run: _seconds_per_mb(run)
    took = interleave(contestants, plan.rounds)
    realistic = took.pop("realistic")
    slowest = max(took, key=lambda name: min(took[name]))
    return [
        _row(plan, "redaction", f"redaction of {plan.size}, seconds a MB", realistic),
        _row(plan, "redaction_attack", f"the same, of a run of {slowest}", took[slowest]),
    ]


def _row(plan: Plan, key: str, what: str, took: list[float]) -> Row:
    ours = Side(name="find_sensitive", took=took)
    return Row(key=key, what=what, ours=ours, other=None, limit=plan.target(_LIMIT_SECONDS_PER_MB))


def _seconds_per_mb(text: str, *, planted: bool = False) -> float:
    seconds, findings = timed(lambda: find_sensitive(text))
    if planted:
        last = text[findings[-1].start : findings[-1].end] if findings else None
        expect("redaction", "Plant3d!", last)
    return seconds / (len(text.encode()) / 1_000_000)
