"""A connection cut at any command of any write: applied once, answered right (C3, C4, C6)."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from baton.key_providers.environment import EnvKeyProvider
from baton.redis_client import connect
from baton.settings import ClientSettings
from baton.store.audit_entries import Caller
from baton.store.contexts import ContextStore
from baton.store.data_keys import KeyRotation
from baton.store.keys import SessionKeys
from baton.store.records import Commit
from cutting_proxy import CuttingProxy
from leftover_notes import send_leftover_notes

if TYPE_CHECKING:
    from collections.abc import Callable

# No server makes a difference here; scripts and commands are tested on both elsewhere.
pytestmark = pytest.mark.one_redis

LINES = "".join(f"line {number}\n" for number in range(40))
HEX = bytes(range(32)).hex()
OLD_KEY, NEW_KEY = f"old:{HEX}", f"new:{HEX[::-1]}"
MOST_COMMANDS = 60


@dataclass(frozen=True)
class Case:
    """A write: what goes before it, and the write itself, which says what it was answered."""

    before: Callable[[ContextStore, str], Any]
    act: Callable[[ContextStore, str], Any]


def edited(number: int, new: str) -> str:
    return LINES.replace(f"line {number}\n", f"{new}\n")


def begin(store: ContextStore, name: str) -> None:
    store.put(name, LINES, agent_id="a")


def move_on(store: ContextStore, name: str) -> None:
    begin(store, name)
    store.put(name, edited(3, "ours"), agent_id="a", base_version="1.0.0")


def conflict(store: ContextStore, name: str) -> None:
    move_on(store, name)
    store.put(
        name, edited(3, "theirs"), agent_id="b", base_version="1.0.0", operation_id="conflict"
    )


def fork(store: ContextStore, name: str) -> None:
    move_on(store, name)
    store.fork(name, f"{name}-fork", "1.0.0", agent_id="b")
    store.put(f"{name}-fork", edited(30, "forked"), agent_id="b", base_version="1.0.0")


def mark(store: ContextStore, name: str) -> None:
    move_on(store, name)
    store.tag(name, "t", "1.0.0", agent_id="a")
    store.pin(name, "p", "1.0.0", agent_id="a", seconds=60)


def grow(store: ContextStore, name: str) -> None:
    for number in range(8):
        store.put(name, edited(number, "new"), agent_id="dead")


def rotate(store: ContextStore, name: str) -> Any:
    rotation = KeyRotation(
        store._parts.redis, EnvKeyProvider(f"{NEW_KEY},{OLD_KEY}"), Caller("host", "client")
    )
    found = rotation.rewrap_all("a")
    assert not found.failed
    return found.rewrapped


CASES = {
    "put of a new session": Case(
        lambda store, name: None, lambda store, name: store.put(name, LINES, agent_id="a")
    ),
    "put on its base": Case(
        begin, lambda store, name: store.put(name, "x", agent_id="a", base_version="1.0.0")
    ),
    "put under a name": Case(
        begin,
        lambda store, name: store.put(
            name, "x", agent_id="a", base_version="1.0.0", operation_id="op"
        ),
    ),
    "put that is merged": Case(
        move_on,
        lambda store, name: store.put(
            name, edited(30, "theirs"), agent_id="b", base_version="1.0.0"
        ),
    ),
    "put that conflicts": Case(
        move_on,
        lambda store, name: store.put(
            name, edited(3, "theirs"), agent_id="b", base_version="1.0.0"
        ),
    ),
    "put that replaces": Case(
        move_on,
        lambda store, name: store.put(
            name, "x", agent_id="b", base_version="1.0.0", policy="last_write_wins"
        ),
    ),
    "put of what is there": Case(
        begin, lambda store, name: store.put(name, LINES, agent_id="b", base_version="1.0.0")
    ),
    "put of a sealed session": Case(
        lambda store, name: None,
        lambda store, name: store.put(name, LINES, agent_id="a", sealed=True),
    ),
    "append": Case(begin, lambda store, name: store.append(name, "more\n", agent_id="a")),
    "rollback": Case(move_on, lambda store, name: store.rollback(name, "1.0.0", agent_id="a")),
    "fork": Case(
        move_on, lambda store, name: store.fork(name, f"{name}-fork", "1.0.0", agent_id="b")
    ),
    "merge": Case(fork, lambda store, name: store.merge(name, f"{name}-fork", agent_id="b")),
    "resolve": Case(
        conflict,
        lambda store, name: store.resolve_conflict(name, "conflict", agent_id="c", take="theirs"),
    ),
    "resolve to what is there": Case(
        conflict,
        lambda store, name: store.resolve_conflict(name, "conflict", agent_id="c", take="ours"),
    ),
    "resolve by hand": Case(
        conflict,
        lambda store, name: store.resolve_conflict(name, "conflict", agent_id="c", content="x"),
    ),
    "tag": Case(move_on, lambda store, name: store.tag(name, "t", "1.0.0", agent_id="a")),
    "untag": Case(mark, lambda store, name: store.untag(name, "t", agent_id="a")),
    "pin": Case(
        move_on, lambda store, name: store.pin(name, "p", "1.0.0", agent_id="a", seconds=60)
    ),
    "unpin": Case(mark, lambda store, name: store.unpin(name, "p", agent_id="a")),
    "checkpoint": Case(
        move_on,
        lambda store, name: store.checkpoint(name, "here", agent_id="a").byte_position,
    ),
    "flag": Case(move_on, lambda store, name: store.set_flag(name, "immutable", agent_id="a")),
    "collect": Case(
        grow,
        lambda store, name: dataclasses.replace(store.collect(name, agent_id="a"), stored_bytes=0),
    ),
    "delete": Case(move_on, lambda store, name: store.delete(name, agent_id="a")),
    "refresh": Case(move_on, lambda store, name: store.refresh_expiry(name)),
    "seal of the audit": Case(move_on, lambda store, name: store.seal_audit(name)),
    "rotation of keys": Case(
        lambda store, name: store.put(name, LINES, agent_id="a", sealed=True), rotate
    ),
}


@pytest.fixture
def proxy(redis_server):
    folder = Path(tempfile.mkdtemp(prefix="baton-test-"))
    proxy = CuttingProxy(redis_server.socket, folder)
    yield proxy
    proxy.cut(0, "after")
    send_leftover_notes()
    proxy.close()
    shutil.rmtree(folder)


@pytest.fixture
def client(proxy):
    """A client as Baton makes it, behind the proxy."""
    client = connect(f"unix://{proxy.path}", ClientSettings())
    yield client
    client.close()


@pytest.mark.parametrize("how", ["amid", "after"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_write_cut_off_at_any_command_is_applied_once_and_answered_right(
    case, how, redis_client, proxy, client
):
    """The client sends it again; state, audit and answer are those of a write that met no fault."""
    whole = run(case, redis_client, redis_client)
    for at in range(1, MOST_COMMANDS):
        redis_client.flushall()
        found = run(case, redis_client, client, lambda at=at: proxy.cut(at, how))
        if not proxy.has_cut:
            break
        assert found == whole, f"cut {how} command {at}"
    assert at > 1
    assert not proxy.has_cut, f"more than {MOST_COMMANDS} commands"


def run(case, redis_client, client, fail=lambda: None):
    """What a write is answered that fails so, and all that is stored then."""
    provider = EnvKeyProvider(OLD_KEY)
    straight = ContextStore(redis_client, key_provider=provider)
    case.before(straight, "s")
    store = ContextStore(client, keep_versions=3, key_provider=provider, live_agents=lambda _: ())
    fail()
    answer = case.act(store, "s")
    checker = ContextStore(redis_client, key_provider=EnvKeyProvider(f"{NEW_KEY},{OLD_KEY}"))
    return (
        answered(answer),
        [stored(checker, name) for name in ("s", "s-fork") if checker.exists(name)],
        [trail(checker, name) for name in ("s", "s-fork")],
        sorted(redis_client.keys()),
    )


def answered(answer):
    if isinstance(answer, Commit):
        return answer.version, answer.action, answer.replaced, answer.conflicts
    return answer


def stored(store, name):
    keys, client = SessionKeys.of(name), store._parts.redis
    records = [
        (each.version, each.action, each.operation, each.author, each.parent, each.base)
        for each in store.history(name)
    ]
    contents = [store._parts.whole(keys, version)[1] for version, *_ in records]
    waiting = [
        (each.base_version, each.agent_id, store.pending_content(name, each.conflict_id))
        for each in store.conflicts(name)
    ]
    marks = store.tags(name), len(store.checkpoints(name)), sorted(client.hgetall(keys.pins))
    wrapped = json.loads(client.get(keys.data_key) or "{}").get("key_id")
    return records, contents, waiting, marks, store.show(name).flags, wrapped


def trail(store, name):
    raw = store._parts.redis.lrange(SessionKeys.of(name).audit, 0, -1)
    entries = [json.loads(line) for line in raw]
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    return [(entry["operation"], entry["agent"], entry["version"]) for entry in entries]


def test_writes_go_on_while_the_server_keeps_forgetting_its_scripts(redis_client, redis_server):
    """Each is done once (B10)."""
    store = ContextStore(redis_client, keep_versions=5, live_agents=lambda agents: ())
    with forgetting(redis_server):
        for number in range(60):
            store.append("s", f"line {number}\n", agent_id="a")
            store.tag("s", "t", agent_id="a", move=True)
            store.seal_audit("s")
            if number % 10 == 9:
                store.collect("s", agent_id="a")
        store.fork("s", "fork", agent_id="a")
        store.delete("fork", agent_id="a")
    lines = [f"line {number}" for number in range(60)]
    assert store.get("s").content.splitlines() == lines
    operations = Counter(entry.operation for entry in store.show_audit("s"))
    assert (operations["appended"], operations["created"], operations["tagged"]) == (59, 1, 60)
    assert store.verify_audit("s").ok
    store.close()


@contextmanager
def forgetting(server):
    """SCRIPT FLUSH, all the time."""
    done = threading.Event()

    def forget():
        with redis.Redis.from_url(server.url) as client:
            while not done.is_set():
                client.script_flush()

    thread = threading.Thread(target=forget)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
