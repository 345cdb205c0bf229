"""Notes of reads: counted in the reader's process, sent in batches, off the hot path."""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Final

from baton.errors import BatonError
from baton.redis_client import redis_errors

if TYPE_CHECKING:
    from baton.binary_redis import BinaryRedis
    from baton.store.keys import SessionKeys

logger = logging.getLogger(__name__)

FLUSH_EVERY_SECONDS: Final = 1.0
MAX_PENDING: Final = 10_000

_Read = tuple[str, str, str]


class AccessNotes:
    """Counts reads by (session, version, agent) and sends the counts about once a second.

    A note is sent with RPUSHX: a reader needs no right but that one, and cannot bring back the
    key of a deleted session. A process that is killed loses at most the last second's notes.
    """

    def __init__(self, client: BinaryRedis) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._pending: Counter[_Read] = Counter()
        self._unsent: list[tuple[str, str]] = []
        self._wake = threading.Event()
        self._closed = False
        self._thread_pid = 0

    def add(self, keys: SessionKeys, version: str, agent_id: str) -> None:
        """Count one read. Never touches the network and never raises."""
        with self._lock:
            self._pending[keys.access, version, agent_id] += 1
            full = len(self._pending) >= MAX_PENDING
            if self._thread_pid != os.getpid() and not self._closed:
                self._start()
        if full:
            self._wake.set()

    def flush(self) -> None:
        """Send what is pending.

        Raises:
            StoreUnavailableError: Redis did not answer; the notes are kept for the next try.
        """
        with self._flushing:
            if not self._unsent:
                self._unsent = self._take_pending()
            if not self._unsent:
                return
            pipeline = self._client.pipeline(transaction=False)
            for access_key, note in self._unsent:
                pipeline.rpushx(access_key, note)
            with redis_errors(self._client):
                pipeline.execute()
            self._unsent = []

    def _take_pending(self) -> list[tuple[str, str]]:
        """The counts as notes. Each carries its batch's id: a note sent twice is counted once."""
        with self._lock:
            batch, self._pending = self._pending, Counter()
        batch_id = secrets.token_hex(8)
        return [
            (access_key, _encode_note(agent_id, version, reads, batch_id))
            for (access_key, version, agent_id), reads in batch.items()
        ]

    def close(self) -> None:
        """Send what is pending, if Redis takes it, and stop the thread."""
        self._closed = True
        self._wake.set()
        try:
            self.flush()
        except BatonError as error:
            logger.warning("some notes of reads were not sent: %s", error)

    def _start(self) -> None:
        # A thread does not survive a fork; each process starts its own at its first read.
        self._thread_pid = os.getpid()
        self._wake = threading.Event()
        threading.Thread(
            target=_run,
            args=(weakref.ref(self), self._wake),
            name="baton-access-notes",
            daemon=True,
        ).start()


def _run(reference: weakref.ref[AccessNotes], wake: threading.Event) -> None:
    """Flush until closed; a weak reference lets a store that nobody closed be collected."""
    while True:
        wake.wait(FLUSH_EVERY_SECONDS)
        wake.clear()
        notes = reference()
        if notes is None:
            return
        try:
            notes.flush()
        except BatonError as error:
            logger.warning("notes of reads wait for Redis: %s", error)
        if notes._closed:  # noqa: SLF001  # this function is the object's own thread
            return
        del notes


def _encode_note(agent_id: str, version: str, reads: int, batch_id: str) -> str:
    note = {"agent": agent_id, "version": version, "reads": reads, "batch": batch_id}
    return json.dumps(note, separators=(",", ":"))
