"""B2: Redis is killed under load and started again over its append-only file (`everysec`)."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from baton.errors import BatonError, HandoffNotFoundError
from baton.store.contexts import ContextStore
from handoff_bench import Bench, check_census, check_expiries
from waiting import until

ROUNDS, WRITERS, WRITES, HANDOFFS = 3, 3, 30, 5
NEWEST = 20  # of a session's versions, which are kept for certain


@pytest.fixture
def everysec(redis_server):
    """A private server of the same kind, as Baton asks for one: a file, synced each second."""
    folder = Path(tempfile.mkdtemp(prefix="baton-test-"))
    server = type(redis_server)(redis_server.binary, folder, appendonly=True)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
    yield server
    server.stop(signal.SIGKILL)
    shutil.rmtree(folder)


def impatient(server) -> redis.Redis:
    """A client that repeats nothing: what it was not answered, it does not count."""
    return redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0))


@dataclass
class Writer(threading.Thread):
    """Writes one version after another, and notes each that was acknowledged."""

    server: object
    session: str
    texts: dict[str, str] = field(default_factory=dict)
    enough: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self):
        with (
            impatient(self.server) as client,
            closing(ContextStore(client)) as store,
            suppress(BatonError),
        ):
            while not self.enough.is_set():
                text = f"{len(self.texts)}\n" + "a line of it\n" * (len(self.texts) % 50)
                version = store.put(self.session, text, agent_id="a").version
                self.texts[version] = text


@dataclass
class Submitter(threading.Thread):
    """Submits handoffs and works on them, and notes each that was acknowledged."""

    server: object
    taken: list[str] = field(default_factory=list)
    ended: dict[str, str] = field(default_factory=dict)
    enough: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self):
        with impatient(self.server) as client, suppress(BatonError):
            bench = Bench(client)
            with closing(bench):
                while not self.enough.is_set():
                    handoff = bench.submit("one", "two", "three")
                    self.taken.append(handoff.handoff_id)
                    bench.pump()
                    self.ended[handoff.handoff_id] = handoff.outcome().version


def test_redis_killed_under_load_keeps_what_it_has_written_and_nothing_by_halves(everysec):
    """All that was acknowledged before a moment at which the file had it; of the rest, a beginning.

    Redis writes its file before it answers, but while a sync is slow: then up to two seconds later.
    """
    for number in range(ROUNDS):
        writers = [Writer(everysec, f"s{number}-{each}") for each in range(WRITERS)]
        submitter = Submitter(everysec)
        for thread in (*writers, submitter):
            thread.start()
        until(partial(enough, writers, submitter), deadline_seconds=60, what="load")
        written = [list(each.texts) for each in writers]
        taken, ended = list(submitter.taken), dict(submitter.ended)
        with impatient(everysec) as client:
            until(partial(nothing_unwritten, client), what="the file having all of that")
        everysec.stop(signal.SIGKILL)
        for thread in (*writers, submitter):
            thread.enough.set()
        everysec.start()
        # Whoever has a node's result waits for Redis to record it; the others had their error.
        for thread in (*writers, submitter):
            thread.join(timeout=30)
            assert not thread.is_alive()
        with redis.Redis.from_url(everysec.url) as client:
            for writer, versions in zip(writers, written, strict=True):
                check_contexts(client, writer, versions)
            check_handoffs(client, submitter, taken, ended)


def enough(writers, submitter) -> bool:
    return all(len(each.texts) > WRITES for each in writers) and len(submitter.ended) > HANDOFFS


def nothing_unwritten(client) -> bool:
    return client.info("persistence")["aof_buffer_length"] == 0


def check_contexts(client, writer, versions) -> None:
    """The versions up to the moment, each whole; behind it a beginning of what was acknowledged."""
    with closing(ContextStore(client)) as store:
        found = [record.version for record in reversed(store.history(writer.session))]
        acknowledged = list(writer.texts)
        # At most one that was carried out and never answered stands at the end.
        assert len(found) <= len(acknowledged) + 1
        assert found[: len(acknowledged)] == acknowledged[: len(found)]
        assert set(versions) <= set(found)
        for version in found[-NEWEST:]:
            content = store.get(writer.session, version).content
            assert content == writer.texts.get(version, content)
        assert store.verify_audit(writer.session).ok


def check_handoffs(client, submitter, taken, ended) -> None:
    """Each is there whole, or not at all; what had ended has, what had not goes on to its end."""
    bench = Bench(client)
    try:
        for handoff_id in submitter.taken:
            handoff = bench.handoffs.find(handoff_id)
            try:
                before = handoff.outcome()
            except HandoffNotFoundError:
                assert handoff_id not in taken
                continue
            outcome = before if before.ended else bench.recover(handoff)
            assert (outcome.state, outcome.census["ok"], outcome.census.total) == ("done", 3, 3)
            if handoff_id in ended:
                assert outcome == before
                assert outcome.version == ended[handoff_id]
            check_census(client, handoff_id)
        check_expiries(client)
    finally:
        bench.close()
