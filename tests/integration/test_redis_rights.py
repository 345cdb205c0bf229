"""Every cell of docs/redis_rights.txt, tried as that user on a real server, and by ACL DRYRUN."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from baton import ContextStore
from baton.access.grants import User
from baton.access.rules import rules
from baton.access.scripts import load_missing, script_sources
from baton.access.users import users
from baton.archive.audit_carry import AuditCarry
from baton.archive.audit_file import AuditFile
from baton.errors import AccessDeniedError
from baton.lifecycle import collecting
from baton.lifecycle.collecting import Collecting
from baton.lifecycle.sweep_board import SweepBoard
from baton.redis_client import connect
from baton.scripts import Script, ScriptsNotLoadedError
from baton.settings import DAY_SECONDS
from baton.store.audit import AuditTrail
from baton.store.audit_anchors import FileAnchor
from baton.store.mending import KeyMending
from baton.swarm.pools import PoolBoard
from baton.swarm.registry import AgentRegistry
from redis_users import GuardedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.access.rules import Release

TABLE = Path(__file__).parents[2] / "docs" / "redis_rights.txt"
SOURCE = "return 1"
SHA = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
NAMES = [user.name for user in users()]


@dataclass(frozen=True)
class Row:
    """An object and a verb, the command that does it, and for each user a mark."""

    about: str
    command: tuple[str, ...]
    marks: dict[str, str]
    only_7: bool

    def allowed(self, user: str, release: Release) -> bool:
        return self.marks[user] in ("+", "7" if release == "7" else "w")


def table() -> list[Row]:
    lines = [line for line in TABLE.read_text().splitlines() if line and line[0] != "#"]
    names = lines[0].removeprefix("users: ").split()
    return [_row(line, names) for line in lines[1:]]


def _row(line: str, names: list[str]) -> Row:
    marks, what, verb, command = (part.strip() for part in line.split("|"))
    assert re.fullmatch(rf"[+.w7]{{{len(names)}}}", marks)
    only_7 = command.startswith("7:")
    words = command.removeprefix("7:").split()
    shown = tuple({"SHA": SHA, "SOURCE": SOURCE}.get(word, word) for word in words)
    return Row(f"{what}: {verb}", shown, dict(zip(names, marks, strict=True)), only_7)


ROWS = table()


@pytest.fixture(scope="module", params=["7", "6.2"])
def server(request) -> Iterator[GuardedServer]:
    """One with Baton's users, the default user off, scripts loaded."""
    made = GuardedServer(request.param)
    made.start()
    with made.client("admin") as admin:
        load_missing(admin)
    yield made
    made.stop()


@pytest.fixture
def store_of(server):
    """Makes context stores of a user."""
    opened = []

    def make(user: str) -> ContextStore:
        settings = server.settings(user)
        client = connect(settings.redis_url.get_secret_value(), settings)
        opened.extend((ContextStore(client), client))
        return opened[-2]

    yield make
    for each in opened:
        each.close()


def refused(server: GuardedServer, user: str, command: tuple[str, ...]) -> bool:
    """Whether the server says that the user may not; any other answer is one to who may."""
    # RESP 2: in RESP 3 what a subscription answers is no reply.
    with server.client(user, protocol=2) as client:
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*command)
            connection.read_response()
        except redis.exceptions.NoPermissionError:
            return True
        except redis.ResponseError:
            return False
        finally:
            connection.disconnect()
            client.connection_pool.release(connection)
    return False


def test_table_names_every_user_and_has_its_size():
    """300 cells at least, and no user is left out."""
    assert list(ROWS[0].marks) == NAMES
    assert len(ROWS) * len(NAMES) >= 300
    assert len({row.about for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("user", NAMES)
def test_user_may_do_what_the_table_says_and_nothing_else(server, user):
    """Real calls, one connection each."""
    rows = [row for row in ROWS if not row.only_7 or server.release == "7"]
    got = {row.about: not refused(server, user, row.command) for row in rows}
    assert got == {row.about: row.allowed(user, server.release) for row in rows}


@pytest.mark.parametrize("user", NAMES)
def test_dry_run_agrees_with_the_table(server, user):
    if server.release != "7":
        pytest.skip("ACL DRYRUN needs Redis 7")
    with server.client("admin") as admin:
        got = {
            row.about: admin.execute_command("ACL DRYRUN", user, *row.command) == b"OK"
            for row in ROWS
        }
    assert got == {row.about: row.allowed(user, "7") for row in ROWS}


@pytest.mark.parametrize("user", [name for name in NAMES if name != "admin"])
def test_nobody_but_admin_has_a_command_that_rules_the_server(server, user):
    """Whatever the server calls dangerous or administration, the few that read excepted."""
    may = {"info", "script|load", "script|exists"}
    with server.client("admin") as admin:
        names = {
            name.decode().lower()
            for category in ("admin", "dangerous")
            for name in admin.execute_command("ACL", "CAT", category)
        }
    given = next(each for each in users() if each.name == user)
    commands = given.keyless.union(*(grant.commands for grant in given.grants))
    assert (commands & names) - may == set()
    assert not commands & {"eval", "eval_ro", "function", "fcall", "keys", "script", "evalsha_ro"}
    assert not {"script|load", "evalsha"} <= commands


def test_nobody_comes_in_without_a_password(server):
    """I14: the default user is off."""
    with (
        closing(redis.Redis.from_url(server.url)) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_worker_reads_contexts_leaves_notes_and_changes_nothing(server, store_of):
    """I12: refused by Redis itself, whatever a library may say."""
    ours, workers = store_of("sonnet_coordinator"), store_of("haiku_worker")
    ours.put("read_1", "text\n" * 50_000, agent_id="sonnet_coordinator_1")
    ours.checkpoint("read_1", "middle", agent_id="sonnet_coordinator_1", byte_position=10)
    with server.client("admin") as admin:
        admin.acl_log_reset()
    assert workers.get("read_1", agent_id="haiku_worker_1").content == "text\n" * 50_000
    assert workers.read_range("read_1", 0, 5, agent_id="haiku_worker_1").content == "text\n"
    assert workers.show("read_1").version == "1.0.0"
    assert len(workers.history("read_1")) == 1
    assert len(workers.checkpoints("read_1")) == 1
    workers.flush_notes()
    with server.client("admin") as admin:
        assert admin.llen("context:claude_max:{read_1}:access") > 1
        assert admin.acl_log() == []
    for change in (
        lambda: workers.put("read_1", "forged", agent_id="haiku_worker_1", base_version="1.0.0"),
        lambda: workers.put("read_2", "new", agent_id="haiku_worker_1"),
        lambda: workers.checkpoint("read_1", "mine", agent_id="haiku_worker_1", byte_position=1),
        lambda: workers.tag("read_1", "mine", agent_id="haiku_worker_1"),
        lambda: workers.delete("read_1", agent_id="haiku_worker_1"),
    ):
        with pytest.raises(AccessDeniedError):
            change()
    assert ours.get("read_1").version == "1.0.0"


def test_monitor_sees_how_all_fares_and_no_contents(server, store_of):
    store_of("sonnet_coordinator").put("s3", "secret", agent_id="sonnet_coordinator_1")
    with pytest.raises(AccessDeniedError):
        store_of("monitor").get("s3")
    with closing(connect(_url(server, "monitor"), server.settings("monitor"))) as client:
        PoolBoard(client).list()
        SweepBoard(client).list()
        AgentRegistry(client).list_active()
        assert client.info("memory")


def test_archive_carries_the_audit_and_trims_it(server, store_of, tmp_path):
    """With the rights of its pool, on either release."""
    store_of("context").put("aud", "text", agent_id="sonnet_coordinator_1")
    with closing(connect(_url(server, "archive"), server.settings("archive"))) as client:
        trail = AuditTrail(client, FileAnchor(tmp_path / "audit"))
        trail.seal("aud")
        with closing(AuditFile(tmp_path / "audit.sqlite")) as file:
            carry = AuditCarry(
                client,
                file,
                trail,
                keep_seconds=366 * DAY_SECONDS,
                trim_after_seconds=-2 * DAY_SECONDS,
            )
            for _ in range(2):
                carry.run(progress=lambda _done: None, stop=lambda: False)
            assert file.chains("aud")[0].segments == 1
    with server.client("admin") as admin:
        assert admin.llen("context:claude_max:{aud}:audit") == 0
        assert admin.llen("context:claude_max:{aud}:audit_seals") == 1, "the last one stays"


@pytest.mark.parametrize("user", ["context", "lifecycle", "archive", "sonnet_coordinator"])
def test_who_writes_contexts_may_collect(server, store_of, user):
    """What a writer drops by itself from time to time, and the sweep where nobody writes."""
    store = store_of(user)
    for number in range(60):
        store.put(f"many_{user}", f"{number}", agent_id="sonnet_coordinator_1")
    store.set_flag(f"many_{user}", "sensitive", agent_id="sonnet_coordinator_1")
    assert len(store.collect(f"many_{user}", agent_id="sonnet_coordinator_1").versions) == 10


def test_lifecycle_pool_may_do_all_that_its_sweep_of_leftovers_does(server, store_of, monkeypatch):
    """Old versions, a deletion that rests, a staged piece without expiry, lost chunks."""
    monkeypatch.setattr(collecting, "YOUNG_SECONDS", 0.0)
    monkeypatch.setattr(collecting, "ORPHAN_FOR_MS", 0)
    store = store_of("lifecycle")
    for number in range(70):
        store.put("left_1", f"{number}", agent_id="sonnet_coordinator_1")
    store.put("left_2", "text", agent_id="sonnet_coordinator_1")
    with server.client("admin") as admin:
        admin.hset("context:claude_max:{left_2}", "state", "deleting")
        admin.set("context:claude_max:{left_3}:chunks:0", "x", ex=DAY_SECONDS)
        admin.set("context:claude_max:{left_1}:staging:op:0", "x")
        admin.acl_log_reset()
        with closing(connect(_url(server, "lifecycle"), server.settings("lifecycle"))) as client:
            Collecting(client, store, KeyMending(client, store.backstop_ms)).collect()
        assert admin.acl_log() == []
        assert admin.keys("context:claude_max:{left_[23]}:chunks:*") == []
        assert admin.pttl("context:claude_max:{left_1}:staging:op:0") > 0
    assert len(store.history("left_1")) == 50


def _url(server: GuardedServer, user: str) -> str:
    return server.settings(user).redis_url.get_secret_value()


def test_script_that_is_not_loaded_is_waited_for_and_not_sent(server, store_of, monkeypatch):
    """Who may not send a source gets what another loads meanwhile, and else a passing error."""
    script = Script("baton.swarm", "heartbeat")
    monkeypatch.setattr("baton.scripts._PATIENCE_SECONDS", 0.2)
    with server.client("admin") as admin, server.client("sonnet_coordinator") as ours:
        admin.script_flush()
        with pytest.raises(ScriptsNotLoadedError):
            script(ours, ["agents:index"], ["nobody", 1_000])
        assert load_missing(admin) == len(script_sources())
        assert script(ours, ["agents:index"], ["nobody", 1_000]) in (None, 0)


def test_scripts_to_load_are_those_that_the_library_has(server):
    """Found in the packages' folders, they are just what its modules run."""
    import gc
    import pkgutil
    from importlib import import_module

    import baton

    for module in pkgutil.walk_packages(baton.__path__, "baton."):
        if ".__main__" not in module.name:
            import_module(module.name)
    # By its type: `isinstance` asks proxies, such as Celery's, for what they stand for.
    used = {each.sha for each in gc.get_objects() if type(each) is Script}
    assert used - set(script_sources()) == set()


def test_digest_that_is_none_is_refused():
    """A password must never stand where its digest belongs."""
    with pytest.raises(ValueError, match="64 hex digits"):
        rules(User("someone", "a test"), "7", ["hunter2"])
