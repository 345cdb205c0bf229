"""The worker pools a command needs: those that run, or a stack of its own for its duration."""

from __future__ import annotations

import contextlib
import fcntl
import time
from typing import TYPE_CHECKING, Final, Self

from baton import routes
from baton.cli.application import Application, find_checkout
from baton.durability import require_durable
from baton.errors import AccessDeniedError, PoolsUnavailableError
from baton.swarm.pools import PoolBoard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import redis

    from baton.cli.connection import Where

NEEDED: Final = (routes.AGENTS, routes.CONTEXT)
READY_SECONDS: Final = 120.0

_POLL_SECONDS: Final = 0.1
_CHECK_SECONDS: Final = 2.0
_MINDED: Final = frozenset({"up", "starting", "backing_off"})


def pools_up(board: PoolBoard) -> bool:
    """Whether the pools that carry a handoff are all up."""
    up = {pool.pool for pool in board.list() if pool.up}
    return up.issuperset(NEEDED)


class Stack:
    """Worker pools on the Redis in use. Leaving it stops what it started, and nothing else.

    Pools that run are used as they are. When they stop while they are in use, as those of
    another `baton run` do at its end, a stack of our own takes over.

    Args:
        where: the Redis in use.
        client: a client of it.
        say: tells the user.
        hurry: whether stopping shall be by force.
    """

    def __init__(
        self,
        where: Where,
        client: redis.Redis,
        *,
        say: Callable[[str], None],
        hurry: Callable[[], bool],
    ) -> None:
        self._where = where
        self._board = PoolBoard(client)
        self._say = say
        self._hurry = hurry
        self._own: Application | None = None
        self._rushed = False
        self._check_due_at = 0.0

    def __enter__(self) -> Self:
        """Start our own where no other pools run or are on their way. Does not wait for them.

        Raises:
            PoolsUnavailableError: there are none, and the application is not installed here.
            VolatileStoreError: there are none, and Redis may lose what is stored.
        """
        if not self._others_mind():
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            self._own.stop(lambda: self._rushed or self._hurry())
            self._own = None

    @property
    def starting(self) -> bool:
        """Whether pools of our own had to be started."""
        return self._own is not None

    def rush(self) -> None:
        """Have it stopped by force at the end: nobody waits any more for what runs there."""
        self._rushed = True

    def await_ready(self) -> None:
        """Wait until the pools are up.

        Raises:
            PoolsUnavailableError: they did not come up; says why, and where their log is.
        """
        end = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if time.monotonic() > end:
                raise self._late()
        self._check_due_at = time.monotonic() + _CHECK_SECONDS

    def keep(self) -> None:
        """See to it that there are pools; to be called every now and then.

        Raises:
            PoolsUnavailableError: there are none any more, and none could be started.
        """
        if time.monotonic() < self._check_due_at:
            return
        self._check_due_at = time.monotonic() + _CHECK_SECONDS
        if self._own is not None:
            self._forget_failed()
        elif not self._others_mind() and not self._others_hold():
            self._say("The worker pools in use have stopped; starting some for the rest of this.")
            self._start()

    def _is_ready(self) -> bool:
        """Whether the pools are up, waiting a little if they are not."""
        if self._own is None:
            if pools_up(self._board):
                return True
            if not self._others_mind() and not self._others_hold():
                self._start()
            time.sleep(_POLL_SECONDS)
            return False
        if self._own.ready(_POLL_SECONDS) is not None:
            return True
        self._forget_failed()
        return False

    def _start(self) -> None:
        self._check_durable()
        self._own = Application(self._where, find_checkout())

    def _check_durable(self) -> None:
        """The launcher would refuse too, and in its log; here nothing has been stored yet."""
        settings = self._where.settings
        if not settings.allow_volatile:
            with contextlib.suppress(AccessDeniedError):  # who may not look starts all the same
                require_durable(self._where.url, settings)

    def _forget_failed(self) -> None:
        """See whether our own has ended by itself. Where others have the place, theirs will do."""
        own = self._own
        if own is None or own.running:
            return
        self._own = None
        own.stop(self._hurry)
        if not self._others_hold() and not self._others_mind():
            raise PoolsUnavailableError(
                f"the worker pools did not start (exit code {own.exit_code}). The log, {own.log}, "
                f"ends:\n{own.last_words()}"
            )

    def _others_mind(self) -> bool:
        """Whether every needed pool runs, or has a supervisor that starts it."""
        minded = {
            pool.pool
            for pool in self._board.list()
            if any(worker.state in _MINDED for worker in pool.workers)
        }
        return minded.issuperset(NEEDED)

    def _others_hold(self) -> bool:
        """Whether a launcher has the embedded server's place: one at its start, or at its end."""
        return self._where.embedded and _is_locked(self._where.settings.state_dir / "launcher.lock")

    def _late(self) -> PoolsUnavailableError:
        log = self._own.log if self._own is not None else self._where.settings.state_dir / "logs"
        return PoolsUnavailableError(
            f"the worker pools were not up after {READY_SECONDS:g} s; `baton status` tells which, "
            f"and their logs, why: {log}"
        )


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
