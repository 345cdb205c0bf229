"""Named places where a process can be killed, frozen, failed or delayed, to prove that it recovers.

Off unless an entry point passes the setting `failpoints` to `arm`; a `reach` then costs one look
at a variable. docs/operations.md lists the places and shows the setting.
"""

from __future__ import annotations

import logging
import os
import random
import re
import signal
import threading
import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from baton import errors
from baton.errors import SettingsError, StoreUnavailableError, TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

FAILPOINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "submit.resolved": "a handoff's request is checked; nothing is written",
        "submit.pinned": "its version is pinned; nothing is recorded",
        "submit.staged": "the first level's plan is staged",
        "submit.listed": "the handoff stands in the indexes and does not exist yet",
        "submit.recorded": "it exists; nothing is published",
        "submit.published": "its start is published",
        "dispatch.publishing": "a message is about to be published",
        "dispatch.published": "a message, perhaps one of several, is published",
        "start.received": "a worker has taken a start, and done nothing",
        "start.launched": "the first level is under the sweep's care; none of it is published",
        "start.published": "the first level is published; the start is not acknowledged",
        "run.received": "a worker has taken a node's message, and done nothing",
        "run.returned": "the engine is done with the node; its message is not acknowledged",
        "join.received": "a worker has taken a join, and done nothing",
        "join.returned": "the engine is done with the join; its message is not acknowledged",
        "node.claiming": "a node is about to be claimed",
        "node.claimed": "it is leased; its runner has not begun",
        "node.resumed": "a continuation has its children's results; its runner has not begun",
        "node.loaded": "the context is loaded for the runner",
        "node.ran": "the runner has returned; nothing is stored",
        "node.suspending": "its children are about to be written",
        "node.suspended": "its children are written; none of them is published",
        "node.committing": "its end is about to be committed",
        "node.committed": "its end is committed; what follows is not published",
        "node.published": "what follows from its end is published",
        "budget.reserved": "a paid call has its permit; it is not sent",
        "budget.settling": "the call has been paid; the budget holds its reservation still",
        "budget.settled": "what the call used is recorded; the node has not ended",
        "lease.renewing": "leases are about to be renewed",
        "lease.renewed": "leases are renewed",
        "join.claimed": "the join is leased; nothing is read",
        "join.merged": "the results are merged; no version holds them",
        "join.appended": "the new version is written; the handoff does not know it",
        "join.finished": "the handoff has ended; its pin is held",
        "join.closing": "the pin is let go; the sweep still looks at the handoff",
        "sweep.begun": "a sweep has begun, and looked at nothing",
        "sweep.moved": "what was due in one handoff has changed; nothing is published",
        "sweep.published": "it is published",
        "sweep.closing": "an ended handoff is about to leave the sweep's list",
        "cancel.marked": "a handoff is cancelled; its waiting nodes have not ended",
        "cancel.sliced": "a slice of its waiting nodes has ended",
        "retry.pinned": "the version that an ended handoff reads is pinned again",
        "retry.staged": "its next tree is staged",
        "retry.listed": "the sweep looks at it again; it has not been reopened",
        "retry.reopened": "it goes on; nothing is published",
        "retry.published": "what goes again is published",
        "store.committing": "a context's new chunks are about to be staged and committed",
        "store.committed": "the new version is committed; the writer does not know it",
        "archive.dumped": "a session to archive is read; nothing is written",
        "archive.keyed": "its shelf and data key are in the ledger, and nothing else",
        "archive.stored": "its chunks and catalogue are sealed segments; nobody has read them",
        "archive.verified": "they are read back and verified; none of its passages is in the index",
        "archive.indexed": "its passages are in the index; the ledger names no copy",
        "archive.recorded": "the ledger names the copy; Redis has the session, whole",
        "archive.clearing": "Redis has let go of the session, or of some chunks of it",
        "archive.cleared": "Redis has a tombstone; the ledger does not say so",
        "restore.read": "a copy is read; nothing is written",
        "restore.staged": "its chunks are staged in Redis; the tombstone is there",
        "restore.restored": "the session is in Redis; who asked does not know",
        "purge.key_destroyed": "a copy's data key is destroyed; its rows and segments are there",
        "purge.rows_deleted": "its rows and segments are gone; its tombstone is there",
        "purge.buried": "its tombstone is gone; the ledger does not say so",
        "audit.read": "sealed segments of the audit are read; the archive's file has none",
        "audit.kept": "the archive's file has them; they are not read back",
        "audit.verified": "they are read back and verified; none is trimmed in Redis",
        "audit.announced": "the anchor knows which are to be trimmed; Redis has them",
        "audit.trimmed": "they are trimmed in Redis; others are not yet",
    }
)

Action = Literal["kill", "stop", "raise", "delay"]

_ENTRY: Final = re.compile(
    r"(?P<name>[\w.]+)=(?P<action>kill|stop|raise|delay)(?::(?P<argument>\w+))?"
    r"(?:@(?P<at>[1-9][0-9]{0,8})|%(?P<chance>0?\.[0-9]{1,9}|1(?:\.0)?))?"
)
_SEED: Final = re.compile(r"seed=(?P<seed>[0-9]{1,18})")
_EXPECTED: Final = (
    "NAME=ACTION, ACTION being kill, stop, raise[:ERROR] or delay:MS, each with @N or %P behind "
    "it or not, and seed=N, apart by commas"
)


@dataclass(frozen=True, slots=True)
class Failpoint:
    """What happens at one place: always, at the `at`-th reaching only, or with a `chance`.

    `error` is what `raise` raises; `delay_seconds` is what `delay` waits.
    """

    name: str
    action: Action
    error: type[TransientError] = StoreUnavailableError
    delay_seconds: float = 0.0
    at: int | None = None
    chance: float | None = None


class _Armed:
    """The failpoints of this process, and how often each was reached. Safe for threads."""

    def __init__(self, points: list[Failpoint], seed: int | None) -> None:
        self._points = {point.name: point for point in points}
        self._lock = threading.Lock()
        self._reached = dict.fromkeys(self._points, 0)
        # One for each, so that what threads do in which order does not change the others.
        self._chances = {
            name: random.Random(None if seed is None else f"{seed}:{name}")  # noqa: S311
            for name in self._points
        }

    def reach(self, name: str) -> None:
        point = self._points.get(name)
        if point is not None and self._is_due(point):
            _act(point)

    def _is_due(self, point: Failpoint) -> bool:
        with self._lock:
            self._reached[point.name] += 1
            if point.chance is not None:
                return self._chances[point.name].random() < point.chance
            return point.at in (None, self._reached[point.name])


_armed: _Armed | None = None


def reach(name: str) -> None:
    """Do what is armed for `name`, one of FAILPOINTS; nothing as a rule.

    Raises:
        TransientError: that is what is armed.
    """
    if _armed is not None:
        _armed.reach(name)


def arm(setting: str) -> None:
    """From now on this process fails as `setting` says; empty: it does not. Says so, loudly.

    Raises:
        SettingsError: it is not a setting of failpoints, or names one that does not exist.
    """
    global _armed  # noqa: PLW0603  # reach() looks at it each time; anything else would cost more
    points, seed = parse(setting)
    _armed = _Armed(points, seed) if points else None
    if points:
        logger.critical(
            "FAILPOINTS ARE ON (BATON_FAILPOINTS=%s): process %d fails on purpose. "
            "Never have this in production.",
            setting,
            os.getpid(),
        )


def parse(setting: str) -> tuple[list[Failpoint], int | None]:
    """The failpoints of a setting, and its seed.

    Raises:
        SettingsError: it is not such a setting, or names a place or an error that does not exist.
    """
    points, seed = [], None
    for entry in filter(None, (part.strip() for part in setting.split(","))):
        if found := _SEED.fullmatch(entry):
            seed = int(found["seed"])
        else:
            points.append(_point(entry))
    names = [point.name for point in points]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _refusal("each place once", twice)
    return points, seed


def _point(entry: str) -> Failpoint:
    found = _ENTRY.fullmatch(entry)
    if found is None:
        raise _refusal(_EXPECTED, entry)
    name, action, argument = found["name"], found["action"], found["argument"]
    if name not in FAILPOINTS:
        raise _refusal("places that docs/operations.md lists", name)
    return Failpoint(
        name,
        action,  # type: ignore[arg-type]  # the pattern allows no other
        error=_error(argument) if action == "raise" else StoreUnavailableError,
        delay_seconds=_delay_seconds(action, argument),
        at=int(found["at"]) if found["at"] else None,
        chance=float(found["chance"]) if found["chance"] else None,
    )


def _error(name: str | None) -> type[TransientError]:
    if name is None:
        return StoreUnavailableError
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, TransientError)):
        raise _refusal("raise:ERROR with one of our transient errors", name)
    return kind


def _delay_seconds(action: str, argument: str | None) -> float:
    if action == "delay" and argument is not None and argument.isdecimal():
        return int(argument) / 1000
    if action == "delay" or (action != "raise" and argument is not None):
        raise _refusal("delay:MS, and nothing behind kill and stop", f"{action}:{argument}")
    return 0.0


def _act(point: Failpoint) -> None:
    # Logged for all but `kill`: a process that is killed says nothing, and a log takes time.
    if point.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    logger.warning("failpoint %s: %s", point.name, point.action)
    if point.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif point.action == "delay":
        time.sleep(point.delay_seconds)
    elif point.action == "raise":
        raise point.error(f"failpoint {point.name}")


def _refusal(expected: str, got: str) -> SettingsError:
    return SettingsError("BATON_FAILPOINTS", expected, got)
