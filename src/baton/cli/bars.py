"""Progress bars of long work, on a terminal; nothing elsewhere."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bars:
    """One bar for each thing that is counted. Without a `progress`, all of it does nothing."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._waiting: TaskID | None = None

    def waiting(self, what: str) -> None:
        """Show that something is on its way, until there is something to count."""
        self.clear()
        if self._progress is not None:
            self._waiting = self._progress.add_task(what, total=None)

    def show(self, what: str, done: int, total: int | None) -> None:
        """Show how far it is; with a `total` of None, how many there were."""
        if self._progress is None:
            return
        self._end_waiting()
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)

    def clear(self) -> None:
        """Take all of them away."""
        self._end_waiting()
        while self._progress is not None and self._tasks:
            self._progress.remove_task(self._tasks.popitem()[1])

    def _end_waiting(self) -> None:
        if self._progress is not None and self._waiting is not None:
            self._progress.remove_task(self._waiting)
            self._waiting = None


@contextlib.contextmanager
def open_bars() -> Iterator[Bars]:
    """Bars on standard error, where that is a terminal; gone when this ends."""
    if not sys.stderr.isatty():
        yield Bars(None)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bars(progress)
