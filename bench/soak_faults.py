"""The faults of a soak: which, when and to whom, by a seed; and the record of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from bench.soak_site import CutProxy, SoakRedis
    from workers.supervisor import Child, Supervisor

_WEIGHTS: Final = {"kill": 50, "kill other": 10, "freeze": 15, "cut": 20, "Redis": 5}
_PAUSE_SECONDS: Final = 3.0
_REDIS_DOWN_SECONDS: Final = 1.5


@dataclass(slots=True)
class Faults:
    """Does one fault after the other, in pauses around `_PAUSE_SECONDS`. Only to its own processes.

    Args:
        chance: whose draws decide everything.
        workers: the pool whose processes run nodes; the others are `kill other`'s.
        freeze_seconds: longer than a lease.
    """

    chance: random.Random
    server: SoakRedis
    proxy: CutProxy
    supervisor: Supervisor
    workers: str
    freeze_seconds: float
    done: Counter[str] = field(default_factory=Counter)
    kills: list[tuple[float, int]] = field(default_factory=list)
    _next_at: float = 0.0
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        due = [each for each in self._later if each[0] <= now]
        self._later = [each for each in self._later if each[0] > now]
        for _, undo in due:
            undo()
        if now >= self._next_at:
            self._next_at = now + self.chance.expovariate(1 / _PAUSE_SECONDS)
            kind = self.chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
            # Every draw is made whether it can be used or not: else a seed would not repeat.
            draw = self.chance.random()
            if self._do(kind, draw):
                self.done[kind] += 1

    def heal(self) -> None:
        """Undo what is still undone; nothing follows."""
        for _, undo in self._later:
            undo()
        self._later = []

    def _do(self, kind: str, draw: float) -> bool:
        if kind == "cut":
            return self.proxy.cut() > 0
        if kind == "Redis":
            self.server.kill()
            self._later.append((time.monotonic() + _REDIS_DOWN_SECONDS, self.server.start))
            # One that is down cannot be killed again.
            self._next_at = time.monotonic() + _REDIS_DOWN_SECONDS + 1
            return True
        victim = self._victim(other=kind == "kill other", draw=draw)
        if victim is None or victim.process is None:
            return False
        pid = victim.process.pid
        if kind == "freeze":
            os.kill(pid, signal.SIGSTOP)
            seconds = self.freeze_seconds * (1 + draw)
            self._later.append((time.monotonic() + seconds, lambda: _thaw(victim, pid)))
            return True
        if victim.program.pool == self.workers:
            self.kills.append((time.time(), pid))
        os.kill(pid, signal.SIGKILL)
        return True

    def _victim(self, *, other: bool, draw: float) -> Child | None:
        living = [
            child
            for child in self.supervisor.children
            if (child.program.pool != self.workers) == other
            and child.process is not None
            and child.process.poll() is None
        ]
        return living[int(draw * len(living))] if living else None


def _thaw(child: Child, pid: int) -> None:
    # Another process may have its number by now, unless ours has not been waited for.
    process = child.process
    if process is not None and process.pid == pid and process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
