"""Redaction: seconds a MB on realistic text, and on strings made to be slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.redaction import find_sensitive
from bench.measure import expect, interleave, timed
from bench.redaction_attacks import attacks
from bench.report import Row, Side

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.plan import Plan

_ATTACK_BYTES: Final = 1_000_000
_LIMIT_SECONDS_PER_MB: Final = 0.050
_PLANTED: Final = "\npassword=Plant3d!\n"


def redaction(plan: Plan, text: str) -> list[Row]:
    """One row for realistic text with a secret at its end, one for the slowest of the attacks."""
    contestants: dict[str, Callable[[int], float]] = {
        "realistic": lambda _: _seconds_per_mb(text + _PLANTED, planted=True)
    }
    for name, attack in attacks(_ATTACK_BYTES).items():
        contestants[name] = _on(attack)
    took = interleave(contestants, plan.rounds)
    realistic = took.pop("realistic")
    slowest = sorted(took, key=lambda name: min(took[name]), reverse=True)
    what = f"the same, of 1 MB, the slowest of {len(took)} attacks: {slowest[0]}"
    facts = [f"{name} {min(took[name]) * 1000:.0f} ms" for name in slowest[1:4]]
    return [
        _row(plan, "redaction", f"redaction of {plan.size}, seconds a MB", realistic, []),
        _row(plan, "redaction_attack", what, took[slowest[0]], facts),
    ]


def _on(attack: str) -> Callable[[int], float]:
    return lambda _: _seconds_per_mb(attack)


def _row(plan: Plan, key: str, what: str, took: list[float], facts: list[str]) -> Row:
    ours = Side(name="find_sensitive", took=took)
    limit = plan.target(_LIMIT_SECONDS_PER_MB)
    return Row(key=key, what=what, ours=ours, other=None, limit=limit, facts=facts)


def _seconds_per_mb(text: str, *, planted: bool = False) -> float:
    seconds, findings = timed(lambda: find_sensitive(text))
    if planted:
        last = text[findings[-1].start : findings[-1].end] if findings else None
        expect("redaction", "Plant3d!", last)
    return seconds / (len(text.encode()) / 1_000_000)
