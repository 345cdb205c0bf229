"""What Redis answers when it will not: typed errors that say which server and why."""

from __future__ import annotations

import signal
import threading
import traceback
from contextlib import closing, contextmanager

import pytest
import redis

from baton.errors import (
    AccessDeniedError,
    ContextNotFoundError,
    InvalidInputError,
    StoreRefusedError,
    StoreUnavailableError,
    UnexpectedAnswerError,
)
from baton.redis_client import connect, redact_url, redis_errors
from baton.settings import ClientSettings
from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys
from waiting import until


def test_full_server_refuses_a_write_and_the_session_is_unchanged(redis_client):
    store = ContextStore(redis_client)
    store.put("s", "one", agent_id="a")
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreRefusedError, match=r"redis\.sock takes no writes now"):
            store.put("s", "two", agent_id="a", base_version="1.0.0")
        assert store.get("s").content == "one"
    finally:
        redis_client.config_set("maxmemory", 0)
    assert store.put("s", "two", agent_id="a", base_version="1.0.0").action == "accepted"


def test_full_server_is_read_as_ever(redis_client):
    """It queues no command of a transaction, not even one that reads (B7)."""
    with closing(ContextStore(redis_client)) as store:
        store.put("s", "one", agent_id="a")
        store.put("s", "two", agent_id="a")
        store.tag("s", "t", version="1.0.0", agent_id="a")
        with full(redis_client, None):
            assert store.resolve_version("s") == "1.0.1"
            assert store.resolve_version("s", "1.0.0") == "1.0.0"
            assert store.show("s").version == "1.0.1"
            assert [record.version for record in store.history("s")] == ["1.0.1", "1.0.0"]
            assert store.find_version_by("s", "a") == "1.0.1"
            assert store.tags("s") == {"t": "1.0.0"}
            assert store.checkpoints("s") == []
            assert store.get("s", "1.0.0").content == "one"
            with pytest.raises(ContextNotFoundError):
                store.show("none")


def test_user_without_rights_is_told_so(redis_client, redis_server):
    store = ContextStore(redis_client)
    store.put("s", "one", agent_id="a")
    password = "only-in-this-test"  # noqa: S105
    redis_client.execute_command("ACL", "SETUSER", "nobody", "reset", "on", f">{password}", "+ping")
    with redis.Redis(
        unix_socket_path=str(redis_server.socket), username="nobody", password=password
    ) as client:
        for call in (lambda s: s.get("s"), lambda s: s.put("s", "two", agent_id="a")):
            with pytest.raises(AccessDeniedError, match="may not do that"):
                call(ContextStore(client))
    redis_client.execute_command("ACL", "DELUSER", "nobody")


def test_key_of_a_foreign_type_is_an_error_of_ours(redis_client):
    redis_client.set(SessionKeys.of("s").base, "a string", ex=60)
    store = ContextStore(redis_client)
    for call in (lambda: store.get("s"), lambda: store.put("s", "two", agent_id="a")):
        with pytest.raises(UnexpectedAnswerError, match="WRONGTYPE"):
            call()


WRITE = "return redis.call('SET', KEYS[1], 'x')"


def piped_write(client):
    pipeline = client.pipeline(transaction=False)
    pipeline.get("k")
    pipeline.set("k", "x")
    pipeline.execute()


@contextmanager
def full(client, folder):
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@contextmanager
def replica(client, folder):
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def alone(client, folder):
    client.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        client.config_set("min-replicas-to-write", 0)


@contextmanager
def without_disk(client, folder):
    """The snapshot cannot be put in place: a folder of its name is there."""
    snapshot = folder / "dump.rdb"
    snapshot.mkdir()
    client.config_set("save", "3600 1000000")
    client.bgsave()
    until(lambda: saved(client) == "err", what="a failed save")
    try:
        yield
    finally:
        client.config_set("save", "")
        snapshot.rmdir()
        client.bgsave()
        until(lambda: saved(client) == "ok" and snapshot.is_file(), what="a good save")
        snapshot.unlink()


def saved(client):
    info = client.info("persistence")
    return None if info["rdb_bgsave_in_progress"] else info["rdb_last_bgsave_status"]


@pytest.mark.parametrize("state", [full, replica, alone, without_disk])
@pytest.mark.parametrize(
    "write",
    [lambda c: c.set("k", "x"), piped_write, lambda c: c.eval(WRITE, 1, "k")],
    ids=["plain", "pipeline", "script"],
)
def test_refused_write_is_transient_however_it_was_sent(redis_client, redis_server, state, write):
    """Redis 6.2 and redis-py each put words of their own before the server's."""
    with (
        state(redis_client, redis_server.folder),
        pytest.raises(StoreRefusedError, match="takes no writes now"),
        redis_errors(redis_client),
    ):
        write(redis_client)
    redis_client.delete("k")


def test_error_that_quotes_a_refusal_is_not_one(redis_client):
    """What stands in the command is the caller's, not the server's."""
    redis_client.set("k", "text", ex=60)
    with pytest.raises(UnexpectedAnswerError, match="WRONGTYPE"), redis_errors(redis_client):
        redis_client.pipeline(transaction=False).hset("k", ": -OOM ", "OOM x").execute()
    redis_client.delete("k")


@pytest.fixture
def connects(monkeypatch):
    """An entry for each time that a client of this thread connects over a unix socket."""
    entries = []
    connect_once = redis.UnixDomainSocketConnection._connect

    def note(connection):
        # Notes of reads of other tests' stores have a thread of their own.
        if threading.current_thread() is threading.main_thread():
            entries.append(connection.path)
        return connect_once(connection)

    monkeypatch.setattr(redis.UnixDomainSocketConnection, "_connect", note)
    return entries


@pytest.mark.parametrize("login", [":wrong@", "nobody:wrong@", ""])
def test_wrong_or_missing_password_is_permanent(redis_client, redis_server, connects, login):
    """It says so, not that the server did not answer, and is not tried again."""
    redis_client.execute_command("ACL", "SETUSER", "default", "resetpass", ">only-in-this-test")
    connects.clear()
    try:
        url = redis_server.url.replace("unix://", f"unix://{login}")
        with (
            closing(connect(url, ClientSettings())) as client,
            pytest.raises(AccessDeniedError, match="refused our user or password"),
        ):
            ContextStore(client).exists("s")
    finally:
        redis_client.execute_command("ACL", "SETUSER", "default", "nopass")
    assert len(connects) == 1


@pytest.mark.parametrize("warm", [True, False])
def test_server_that_hangs_is_not_asked_again_after_the_timeout(
    redis_client, redis_server, connects, warm
):
    """One attempt takes the whole time that repeats have; redis-py alone would make up to 49."""
    with closing(connect(redis_server.url, ClientSettings(redis_timeout_seconds=0.3))) as client:
        if warm:
            client.ping()
        connects.clear()
        redis_server.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailableError), redis_errors(client):
                client.ping()
        finally:
            redis_server.process.send_signal(signal.SIGCONT)
    assert len(connects) == (0 if warm else 1)


def test_server_that_is_gone_for_a_moment_is_asked_again(tmp_path, connects):
    """What makes a restart harmless."""
    with (
        closing(connect(f"unix://{tmp_path}/nobody.sock", ClientSettings())) as client,
        pytest.raises(StoreUnavailableError),
        redis_errors(client),
    ):
        client.ping()
    assert len(connects) >= 7


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("rediss://me:hunter2@host/1?ssl_cert_reqs=none", "rediss://***@host/1?ssl_cert_reqs=***"),
        ("redis://:hunter2@[::1]:6379/0", "redis://***@[::1]:6379/0"),
        ("redis://:hun@ter2@host", "redis://***@host"),
        ("unix:///Application Support/b.sock", "unix:///Application Support/b.sock"),
        ("unix:///x?db=1&password=hunter2", "unix:///x?db=1&password=***"),
        ("unix:///x?db=abc&passw%6frd=hunter2", "unix:///x?db=abc&passw%6frd=***"),
        ("unix:///x?hunter2", "unix:///x?***"),
        ("unix:///x?password=hun@hunter2", "unix://***"),
        ("redis://:hun/ter2@host", "redis://***"),
        ("redis://:hun?ter2@host", "redis://***"),
        ("redis://:hun#ter2@host", "redis://***"),
        ("redis://me:hunter2", "redis://***"),
        ("redis://[::1", "redis://***"),
        ("me:hunter2@host", "***"),
        ("hunter2", "***"),
        ("sentinel://:hunter2@a:1;sentinel://:hunter2@b:1", "sentinel://***"),
        ("redis+socket://:hunter2@/x?virtual_host=1", "redis+socket://***@/x?virtual_host=1"),
    ],
)
def test_redacted_url_shows_no_password(url, shown):
    """Wherever it stands, and whatever is wrong with the URL."""
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost", "http://:hunter2@host", "redis://[::1", "redis://host:hunter2",
        "unix:///x?db=abc&password=hunter2", "unix:///x?password=hunter2&foo=1",
        "redis://h?connection_class=x", "redis://h?protocol=9",
    ],
)  # fmt: skip
def test_wrong_url_is_refused_before_the_first_command(url):
    """By the name of the field it came from, without its password, in the message or its causes."""
    with pytest.raises(InvalidInputError, match=r"^broker: expected a redis://") as caught:
        connect(url, ClientSettings(), field="broker")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
