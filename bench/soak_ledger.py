"""Reads a soak's ledger: who ran what, when, how often; and how soon after a kill it ran again."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


class Place(NamedTuple):
    """One piece of work: of a node, its run or its continuation."""

    group: str
    node: str
    step: int


class Execution(NamedTuple):
    """One line of the ledger. Times are Unix times of this machine."""

    at: float
    pid: int
    what: str
    attempt: int


Ledger = dict[Place, list[Execution]]


def read(path: Path) -> Ledger:
    """Every execution, by what was executed, in the order of the file."""
    found: Ledger = defaultdict(list)
    if path.exists():
        for line in path.read_text().splitlines():
            at, pid, what, group, node, step, attempt = json.loads(line)
            found[Place(group, node, step)].append(Execution(at, pid, what, attempt))
    return found


def starts(ledger: Ledger) -> int:
    """How many executions began."""
    return sum(each.what == "start" for runs in ledger.values() for each in runs)


def starts_of(ledger: Ledger, group: str) -> list[tuple[float, int]]:
    """When which process began something of this group."""
    return [
        (each.at, each.pid)
        for place, runs in ledger.items()
        if place.group == group
        for each in runs
        if each.what == "start"
    ]


def ends(ledger: Ledger, after: float, before: float) -> int:
    """How many executions came to their end between two moments."""
    return sum(
        each.what == "end" and after < each.at < before for runs in ledger.values() for each in runs
    )


def recoveries(ledger: Ledger, kills: Iterable[tuple[float, int]]) -> list[float]:
    """Seconds from a SIGKILL to the next start of each piece of work that it interrupted."""
    found = []
    for killed_at, pid in kills:
        for runs in ledger.values():
            if _ran(runs, pid, killed_at):
                after = [each.at for each in runs if each.what == "start" and each.at > killed_at]
                found += [min(after) - killed_at] if after else []
    return sorted(found)


def run_again(ledger: Ledger) -> list[Place]:
    """Work that began once more after it had come to its end."""
    return [
        place
        for place, runs in ledger.items()
        if any(each.what == "start" and each.at > _first_end(runs) for each in runs)
    ]


def paid_again(ledger: Ledger, stored: Mapping[Place, int]) -> list[str]:
    """Attempts that began behind the one whose result was stored, and attempts that ran twice."""
    found = []
    for place, runs in ledger.items():
        attempts = [each.attempt for each in runs if each.what == "start"]
        if len(set(attempts)) < len(attempts):
            found.append(f"{place}: one attempt ran twice: {attempts}")
        if place in stored and max(attempts) > stored[place]:
            found.append(f"{place}: attempt {stored[place]} was stored, then ran {max(attempts)}")
    return found


def percentile(values: list[float], share: float) -> float:
    """Of sorted values; 0 of none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def _ran(runs: list[Execution], pid: int, at: float) -> bool:
    mine = [each for each in runs if each.pid == pid and each.at < at]
    return bool(mine) and mine[-1].what == "start"


def _first_end(runs: list[Execution]) -> float:
    return min((each.at for each in runs if each.what == "end"), default=float("inf"))
