"""`baton doctor` and `baton acl` where the default user is off: what `admin` may, others not."""

from __future__ import annotations

from contextlib import closing

import pytest
import redis

from baton.access.scripts import load_missing
from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys
from baton_command import BatonCommand
from handoff_bench import Bench
from redis_users import GuardedServer


@pytest.fixture(scope="module", params=["7", "6.2"])
def server(request):
    """One with Baton's users, the default user off, scripts loaded."""
    made = GuardedServer(request.param)
    made.start()
    with made.client("admin") as admin:
        load_missing(admin)
    yield made
    made.stop()


@pytest.fixture
def command(server, tmp_path):
    """Makes `baton …` as a user, with the password of its file."""

    def make(user: str, *group: str) -> BatonCommand:
        return BatonCommand(
            tmp_path, *group, BATON_REDIS_URL=server.url, BATON_REDIS_USER=user,
            BATON_ACL_DIR=str(server.passwords),
        )  # fmt: skip

    return make


@pytest.fixture
def admin(server):
    with server.client("admin") as client:
        client.flushall()
        yield client


def plant(admin: redis.Redis) -> dict[str, int]:
    """Something wrong of most kinds that need no archive; how many of each."""
    with closing(ContextStore(admin)) as store:
        for name in ("lost", "kept", "new"):
            store.put(name, "text\n" * 1_000, agent_id="a")
    lost, kept = SessionKeys.of("lost"), SessionKeys.of("kept")
    admin.delete(lost.base)
    admin.persist(kept.metadata)
    for index, member in (("lifecycle:00", "gone"), ("agents:index", "haiku_worker_00000000")):
        admin.zadd(index, {member: 1})
        admin.expire(index, 60)
    bench = Bench(admin)
    with closing(bench):
        handoff = bench.submit("one")
        admin.zrem("handoffs:open", handoff.handoff_id)
    return {"no_expiry": 1, "agent_without_record": 1, "handoff_unlisted": 1}


def test_doctor_may_do_all_it_does_as_admin(server, command, admin):
    """Finds and mends what was planted; the server's log of refusals stays empty."""
    planted = plant(admin)
    admin.acl_log_reset()
    doctor = command("admin", "doctor")
    found = {each["kind"]: each["found"] for each in doctor.json(code=3)["kinds"]}
    assert {kind: found[kind] for kind in planted} == planted
    told = doctor.json("--fix", code=3)
    mended = {each["kind"]: each["mended"] for each in told["kinds"]}
    assert {kind: mended[kind] for kind in planted} == planted
    # Orphans of this very hour are left.
    left = {each["kind"] for each in told["findings"] if each["outcome"] == "left"}
    assert left <= {"orphan_keys"}
    assert admin.acl_log() == []


@pytest.mark.parametrize("user", ["monitor", "haiku_worker", "sonnet_coordinator", "lifecycle"])
def test_doctor_tells_others_that_they_may_not(server, command, admin, user):
    """An error with an exit code, before anything is changed; no stack trace."""
    if server.release == "6.2" and user in ("sonnet_coordinator", "lifecycle"):
        pytest.skip("there each command of such a user holds for each of its keys")
    plant(admin)
    before = {key: admin.type(key) for key in admin.scan_iter()}
    said = command(user, "doctor", "--fix").error(code=4)
    assert "may not do that" in said
    assert "Traceback" not in said
    assert {key: admin.type(key) for key in admin.scan_iter()} == before


def test_acl_check_and_apply_work_as_admin(server, command, admin):
    """As the server has the users rendered; a change is found, and mended by `apply`."""
    acl = command("admin", "acl")
    # A server that began with the file has the users as `apply` sets them; it keeps no other file.
    assert {each["about"] for each in _problems(acl, server)} == {"persistence"}
    admin.acl_setuser("monitor", commands=["+flushall"])
    assert {each["about"] for each in _problems(acl, server)} == {"persistence", "user monitor"}
    acl("apply", "--passwords", str(server.passwords))
    assert {each["about"] for each in _problems(acl, server)} == {"persistence"}
    with server.client("monitor") as monitor, pytest.raises(redis.exceptions.NoPermissionError):
        monitor.flushall()
    for user in ("monitor", "sonnet_coordinator", "lifecycle"):
        for verb in ("check", "apply"):
            said = command(user, "acl").error(verb, "--passwords", str(server.passwords), code=4)
            assert "may not do that" in said


def _problems(acl: BatonCommand, server: GuardedServer) -> list[dict[str, str]]:
    found = acl.json("check", "--passwords", str(server.passwords), code=4)["findings"]
    return [each for each in found if each["level"] == "problem"]
