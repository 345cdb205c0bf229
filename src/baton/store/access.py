"""Notes of reads, and of what else only notes can tell: counted here, sent in batches."""

from __future__ import annotations

import atexit
import itertools
import json
import logging
import secrets
import threading
import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, NamedTuple

from baton.errors import BatonError, PermanentError, TransientError
from baton.redis_client import redis_errors
from baton.store.audit_entries import Caller, bounded
from baton.store.forks import renew_in_children

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.binary_redis import BinaryRedis
    from baton.store.audit_entries import NotedOperation
    from baton.store.keys import SessionKeys

logger = logging.getLogger(__name__)

FLUSH_EVERY_SECONDS: Final = 1.0
EXIT_SECONDS: Final = 5.0
MAX_PENDING: Final = 10_000
MAX_KINDS: Final = 10 * MAX_PENDING
MAX_DETAILS: Final = 4
_NAME_CHARACTERS: Final = 24
_DETAIL_CHARACTERS: Final = 96


class _Noted(NamedTuple):
    """What is counted: equal ones become one note."""

    access_key: str
    version: str
    agent_id: str
    operation: NotedOperation
    details: tuple[tuple[str, str], ...]


class AccessNotes:
    """Counts reads, uses of keys and refusals, and sends the counts about once a second.

    A note is sent with RPUSHX: a reader needs no right but that one, and cannot bring back the
    key of a deleted session. One thread sends the notes of all stores of the process, also of
    those that were dropped, and what is left when the interpreter exits. A process that is killed
    loses at most the last second's notes. A forked child sends only its own reads.

    Memory is bounded: beyond a hundred thousand kinds of notes that wait, new ones are dropped,
    and the log says so.

    Args:
        client: a binary client.
        caller: where the notes come from; None: this host and program.
    """

    def __init__(self, client: BinaryRedis, caller: Caller | None = None) -> None:
        self._client = client
        self._caller = Caller.here() if caller is None else caller
        self._reported: set[str] = set()
        self.renew_after_fork()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """Begin with no notes, under a name of its own; what waited, the parent sends."""
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._pending: Counter[_Noted] = Counter()
        self._dropped = 0
        self._unsent: list[tuple[str, str]] = []
        self._sender = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    def add(
        self,
        keys: SessionKeys,
        version: str,
        agent_id: str,
        operation: NotedOperation = "read",
        details: Mapping[str, str] | None = None,
    ) -> None:
        """Count one read, use of a key, or refusal. Never touches the network and never raises.

        Args:
            keys: the session's.
            version: which version; "" where it is about none.
            agent_id: who; "" is anonymous.
            operation: what the note is of.
            details: up to 4 short texts (names of 24 characters, values of 96; the rest is cut).
                Each different set waits, and is sent, by itself: no text that never repeats.
        """
        noted = _Noted(keys.access, version, agent_id, operation, _short(details))
        with self._lock:
            if len(self._pending) < MAX_KINDS or noted in self._pending:
                self._pending[noted] += 1
            else:
                self._dropped += 1
            full = len(self._pending) >= MAX_PENDING
        _sending.watch(self, hurry=full)

    def flush(self) -> None:
        """Send what waits. A note that Redis refuses for good is dropped; the log says so once.

        Raises:
            StoreUnavailableError, StoreRefusedError: Redis did not answer, or takes no writes
                now; what it did not take is kept for the next try.
        """
        with self._flushing:
            self._send()
            self._unsent = self._take_pending()
            self._send()

    def close(self) -> None:
        """Send what waits; if Redis does not take it, drop it and say so in the log.

        Reads after this are noted all the same.
        """
        try:
            self.flush()
        except BatonError as error:
            logger.warning("some notes of reads were not sent, and are dropped: %s", error)
            with self._flushing:
                self._unsent = []
                self._take_pending()

    def _take_pending(self) -> list[tuple[str, str]]:
        """The counts as notes, numbered in the order of sending: the drain knows a repeat by it."""
        with self._lock:
            pending, self._pending = self._pending, Counter()
            dropped, self._dropped = self._dropped, 0
        if dropped:
            logger.warning("%d notes were dropped: too many kinds of them waited", dropped)
        return [(noted.access_key, self._encode(noted, count)) for noted, count in pending.items()]

    def _encode(self, noted: _Noted, count: int) -> str:
        note = {
            "agent": noted.agent_id,
            "version": noted.version,
            "operation": noted.operation,
            "reads": count,
            "caller": self._caller.as_dict(),
            "sender": self._sender,
            "number": next(self._numbers),
        }
        if noted.details:
            note["details"] = dict(noted.details)
        return json.dumps(note, separators=(",", ":"))

    def _send(self) -> None:
        if not self._unsent:
            return
        pipeline = self._client.pipeline(transaction=False)
        for access_key, note in self._unsent:
            pipeline.rpushx(access_key, note)
        with redis_errors(self._client):
            answers = pipeline.execute(raise_on_error=False)
        sent, self._unsent = self._unsent, []
        refusal: TransientError | None = None
        for entry, answer in zip(sent, answers, strict=True):
            try:
                self._check(answer)
            except TransientError as error:
                self._unsent.append(entry)
                refusal = error
            except PermanentError as error:
                self._report(entry[0], error)
        if refusal is not None:
            raise refusal

    def _check(self, answer: object) -> None:
        if isinstance(answer, Exception):
            with redis_errors(self._client):
                raise answer

    def _report(self, access_key: str, error: PermanentError) -> None:
        if str(error) not in self._reported:
            self._reported.add(str(error))
            logger.warning("notes of reads for %s are dropped: %s", access_key, error)


def _short(details: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """What fits into a note, in an order of its own so that equal details are one."""
    if not details:
        return ()
    return tuple(
        (bounded(name, _NAME_CHARACTERS), bounded(text, _DETAIL_CHARACTERS))
        for name, text in sorted(details.items())[:MAX_DETAILS]
    )


class _SendingThread:
    """Sends the notes of every store of the process, each about a second after its first read.

    It holds on to notes only until it has tried to send them: those of a dropped store arrive,
    and those that Redis does not take die with their store. A Redis that does not answer holds up
    the notes for another by one attempt a round.
    """

    def __init__(self) -> None:
        self.renew_after_fork()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """Begin anew: a thread does not survive a fork, so the child's first read starts one."""
        self._lock = threading.Lock()
        self._waiting: set[AccessNotes] = set()
        self._failed: deque[weakref.ref[AccessNotes]] = deque()
        self._wake = threading.Event()
        self._ending = False
        self._thread: threading.Thread | None = None

    def watch(self, notes: AccessNotes, *, hurry: bool) -> None:
        """Send `notes` within a second, or at once. Never raises."""
        with self._lock:
            self._waiting.add(notes)
            if self._thread is None:
                self._start()
        if hurry:
            self._wake.set()

    def end(self) -> None:
        """Send what waits, then stop. An exit must not hang on a Redis that does."""
        self._ending = True
        self._wake.set()
        if self._thread is None:
            self._send_all()
            return
        self._thread.join(EXIT_SECONDS)
        if self._thread.is_alive():
            logger.warning("some notes of reads were not sent within %s s", EXIT_SECONDS)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="baton-access-notes", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return  # no thread to be had now: the next read asks again, and an exit does without
        self._thread = thread

    def _run(self) -> None:
        ending = False
        while not ending:
            if not self._ending:
                self._wake.wait(FLUSH_EVERY_SECONDS)
            self._wake.clear()
            ending = self._ending  # read before the last round, so that the round has everything
            self._send_all()

    def _send_all(self) -> None:
        with self._lock:
            due, self._waiting = self._waiting, set()
        while due:
            self._send(due.pop())
        for _ in range(len(self._failed)):
            late = self._failed.popleft()()
            if late is not None and not self._send(late):
                return

    def _send(self, notes: AccessNotes) -> bool:
        try:
            notes.flush()
        except BatonError as error:
            logger.warning("notes of reads wait for Redis: %s", error)
        except Exception:  # were this thread to die, no store would send any more
            logger.exception("notes of reads were not sent")
        else:
            return True
        self._failed.append(weakref.ref(notes))
        return False


_sending = _SendingThread()
atexit.register(_sending.end)
