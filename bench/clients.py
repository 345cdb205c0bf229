"""Client processes that all store, or all read, at the same time."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self

from isal import igzip

from baton.ids import new_session_id
from baton.redis_client import connect
from baton.settings import KIB
from baton.store.cache import ContextCache
from baton.store.contexts import ContextStore
from bench.measure import WrongResultError, expect
from bench.sessions import AGENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from multiprocessing.connection import Connection
    from types import TracebackType

    from config.settings import AppSettings

    _Span = tuple[float, float]

PROCESSES: Final = 4
THREADS: Final = 2

_RAW_KEY: Final = "bench:raw:"


class Clients:
    """`PROCESSES` processes of `THREADS` threads each; they end with the `with` block.

    Args:
        settings: where their Redis is.
        texts: what they store, in turn.
        sessions: what they read: session id -> its text.
    """

    def __init__(
        self, settings: AppSettings, texts: Sequence[str], sessions: Mapping[str, str]
    ) -> None:
        # A fork would share this process's connections and locks.
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for number in range(PROCESSES):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve,
                args=(theirs, settings, texts[number::PROCESSES], dict(sessions)),
                daemon=True,
            )
            self._pipes.append(ours)
            self._processes.append((process, theirs))

    def __enter__(self) -> Self:
        for process, theirs in self._processes:
            process.start()
            # Ours stays the only other end: theirs sees ours close, however we end.
            theirs.close()
        self.run("get_ready", 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process, _ in self._processes:
            process.join()

    def run(self, work: str, calls: int) -> float:
        """Seconds from the first call of any client to the last one's end.

        Args:
            work: a method of `_Client`.
            calls: of all of them together; a multiple of `PROCESSES` * `THREADS`.

        Raises:
            WrongResultError: one of them got something wrong.
        """
        for pipe in self._pipes:
            pipe.send((work, calls // PROCESSES))
        answers: list[_Span | str] = [pipe.recv() for pipe in self._pipes]
        spans = []
        for answer in answers:
            if isinstance(answer, str):
                raise WrongResultError(answer)
            spans.append(answer)
        return max(end for _, end in spans) - min(begin for begin, _ in spans)


class _Client:
    """One process's: what it does `calls` times, in all its threads at once."""

    def __init__(
        self, settings: AppSettings, texts: Sequence[str], sessions: Mapping[str, str]
    ) -> None:
        url = settings.redis_url.get_secret_value() if settings.redis_url else ""
        self._redis = connect(url, settings)
        self._texts = texts
        self._sessions = sessions
        self._ids = list(sessions)
        cache = ContextCache(2 * sum(map(len, sessions.values())) + KIB)
        self._store = ContextStore(self._redis, cache=cache)
        self._uncached = ContextStore(self._redis)
        self._stored: dict[str, str] = {}
        self._read: dict[str, str] = {}
        self._threads = ThreadPoolExecutor(THREADS)

    def close(self) -> None:
        self._store.close()
        self._threads.shutdown()
        self._redis.close()

    def get_ready(self, _calls: int) -> _Span:
        """Be connected, have the texts in the cache, and have started every thread."""
        return self._all(len(self._ids) * THREADS, self._get)

    def store(self, calls: int) -> _Span:
        """Put texts into new sessions."""
        return self._all(calls, self._put)

    def check_stored(self, _calls: int) -> _Span:
        """Read back and delete what `store` put."""
        begin = time.monotonic()
        for session_id, text in self._stored.items():
            expect("put by many clients", text, self._uncached.get(session_id).content)
            self._uncached.delete(session_id, agent_id=AGENT)
        self._stored.clear()
        return begin, time.monotonic()

    def read(self, calls: int) -> _Span:
        """Get unchanged contexts that are in the cache."""
        span = self._all(calls, self._get)
        for session_id, content in self._read.items():
            expect("get by many clients", self._sessions[session_id], content)
        return span

    def raw_set(self, calls: int) -> _Span:
        """The floor of `store`: igzip and a raw SET."""
        return self._all(calls, self._raw_set)

    def raw_get(self, calls: int) -> _Span:
        """The floor of `read`: a raw GET of 1 KB."""
        self._redis.set(_RAW_KEY, b"x" * KIB)
        return self._all(calls, lambda _: self._redis.get(_RAW_KEY))

    def _all(self, calls: int, call: Callable[[int], object]) -> _Span:
        """When the first of these calls began, and when the last one ended."""

        def every(first: int) -> None:
            for number in range(first, calls, THREADS):
                call(number)

        begin = time.monotonic()
        list(self._threads.map(every, range(THREADS)))
        return begin, time.monotonic()

    def _put(self, number: int) -> None:
        session_id, text = new_session_id(), self._texts[number % len(self._texts)]
        self._store.put(session_id, text, agent_id=AGENT)
        self._stored[session_id] = text

    def _get(self, number: int) -> None:
        session_id = self._ids[number % len(self._ids)]
        self._read[session_id] = self._store.get(session_id, agent_id=AGENT).content

    def _raw_set(self, number: int) -> None:
        text = self._texts[number % len(self._texts)]
        self._redis.set(f"{_RAW_KEY}{number}", igzip.compress(text.encode(), 1), ex=60)


def _serve(
    pipe: Connection,
    settings: AppSettings,
    texts: Sequence[str],
    sessions: Mapping[str, str],
) -> None:
    """What a client process runs: does as it is told until the other end is closed."""
    # Ctrl-C reaches the whole group; the bench closes the pipe then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with (
        contextlib.closing(_Client(settings, texts, sessions)) as client,
        contextlib.suppress(EOFError, BrokenPipeError),
    ):
        while True:
            work, calls = pipe.recv()
            pipe.send(_span_or_complaint(getattr(client, work), calls))


def _span_or_complaint(work: Callable[[int], _Span], calls: int) -> _Span | str:
    try:
        return work(calls)
    except WrongResultError as error:
        return str(error)
