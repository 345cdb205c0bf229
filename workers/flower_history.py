"""Flower's memory of tasks, kept over restarts as lines of JSON.

Flower's own way (`--persistent`) is a shelve file, which is a pickle: code for whoever can write
to it. It is also written at an orderly end only.
"""

from __future__ import annotations

import json
import logging
import os
import time
from typing import IO, TYPE_CHECKING, Any, Final

from celery.events import EventReceiver
from flower.events import Events, EventsState

from workers.event_dispatch import by_reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

# Of each of two files: some 10,000 tasks in both.
FILE_BYTES: Final = 4 * 1024 * 1024

_FORMAT: Final = "v1"
_LINE_BYTES: Final = 8_192
_PAUSES_SECONDS: Final = (1.0, 2.0, 4.0, 8.0)
_LASTED_SECONDS: Final = 10.0  # a connection that held so long begins with the shortest again
_STAMPS: Final = ("type", "hostname", "timestamp", "local_received", "clock", "pid", "utcoffset")


class Journal:
    """The last task events in two files of `folder`, the full one before the growing one.

    Used by one thread. A line that is cut or damaged is skipped, one of another format is never
    read: the format stands in the files' names.
    """

    def __init__(self, folder: Path, *, file_bytes: int = FILE_BYTES) -> None:
        self._now = folder / f"events.{_FORMAT}.jsonl"
        self._before = folder / f"events.{_FORMAT}.1.jsonl"
        self._file_bytes = file_bytes
        self._file: IO[bytes] | None = None

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event, so that a process that is killed has it.

        Raises:
            OSError: the system did not take it.
        """
        line = json.dumps(dict(event), separators=(",", ":")).encode()
        if len(line) > _LINE_BYTES:
            return
        if self._file is None:
            self._file = _opened(self._now)
        self._file.write(line + b"\n")
        if self._file.tell() >= self._file_bytes:
            self.close()
            self._now.replace(self._before)

    def read(self) -> Iterator[dict[str, Any]]:
        """The events there are, oldest first."""
        for path in (self._before, self._now):
            try:
                with path.open("rb") as file:
                    yield from _events(file)
            except FileNotFoundError:
                continue

    def close(self) -> None:
        """Let the file go; the next event opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


class SilentMetrics:
    """What is read again was counted when it happened."""

    def observe_task(self, *_: Any) -> None:
        """Count nothing."""

    def observe_worker(self, *_: Any) -> None:
        """Count nothing."""


class RememberedEvents(Events):  # type: ignore[misc]  # Flower has no types
    """Flower's events, with a journal for a memory, and without remote control."""

    def __init__(self, *args: Any, journal: Journal, max_tasks: int, **options: Any) -> None:
        self._journal = journal
        self._max_tasks = max_tasks
        options |= {"persistent": True, "enable_events": False, "max_tasks_in_memory": max_tasks}
        super().__init__(*args, **options)

    def load_state(self) -> EventsState:
        """What the journal remembers."""
        state = EventsState(max_tasks_in_memory=self._max_tasks)
        metrics, state.metrics = state.metrics, SilentMetrics()
        count = sum(_replay(state, event) for event in self._journal.read())
        state.metrics = metrics
        logger.info("%d events remembered", count)
        return state

    def save_state(self) -> None:
        """Nothing is left to save: each event is written as it comes."""
        self._journal.close()

    def on_event(self, event: dict[str, Any]) -> None:
        """Remember and show one event, whoever sent it, by reference."""
        known = _reference(event)
        if known is None:
            return
        if known["type"].startswith("task-"):
            self._remember(known)
        super().on_event(known)

    def run(self) -> None:
        """Receive events until the process ends; nothing is asked of the workers."""
        pauses = iter(_PAUSES_SECONDS)
        while True:
            begun_at = time.monotonic()
            try:
                self._receive()
            except self._connection_errors() as error:
                logger.warning("no events from the broker (%s); trying again", error)
            if time.monotonic() - begun_at > _LASTED_SECONDS:
                pauses = iter(_PAUSES_SECONDS)
            time.sleep(next(pauses, _PAUSES_SECONDS[-1]))

    def _receive(self) -> None:
        """Receive events until the connection fails."""
        with self.capp.connection_for_read() as connection:
            receiver = EventReceiver(connection, handlers={"*": self.on_event}, app=self.capp)
            receiver.capture(limit=None, timeout=None, wakeup=False)

    def _connection_errors(self) -> tuple[type[BaseException], ...]:
        with self.capp.connection_for_read() as connection:
            return (OSError, *connection.connection_errors, *connection.channel_errors)

    def _remember(self, event: Mapping[str, Any]) -> None:
        try:
            self._journal.append(event)
        except OSError as error:
            logger.warning("an event is not remembered: %s", error)


def _reference(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """An event as it came, by reference; None for one that no Celery sent."""
    of_task = str(event.get("type")).startswith("task-")
    texts = ("type", "hostname", "uuid") if of_task else ("type", "hostname")
    if not all(isinstance(event.get(name), str) for name in texts):
        return None
    if not all(isinstance(event.get(name), int | float) for name in ("timestamp", "clock")):
        return None
    stamps = {name: event[name] for name in _STAMPS if name in event}
    return by_reference(dict(event)) | stamps


def _events(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    for line in file:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        known = _reference(event) if isinstance(event, dict) else None
        if known is not None:
            yield known


def _replay(state: EventsState, event: dict[str, Any]) -> bool:
    try:
        state.event(event)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        logger.warning("an event is not remembered: %r", error)
        return False
    return True


def _opened(path: Path) -> IO[bytes]:
    """The file to append to, open to us alone, at the beginning of a line."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    file = os.fdopen(fd, "r+b", buffering=0)
    end = file.seek(0, os.SEEK_END)
    if end and os.pread(fd, 1, end - 1) != b"\n":
        file.write(b"\n")
    return file
