"""Cases: the server itself, its settings and its scripts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from unittest import SkipTest

import redis

from baton.testing.case import CaseGroup
from baton.testing.clients import ForgottenScripts
from baton.testing.expectations import expect, expect_equal

if TYPE_CHECKING:
    from baton.testing.kit import Kit

case = CaseGroup("deployment")

_CLOCK_TOLERANCE: Final = timedelta(minutes=5)


@case
def server_is_redis_6_2_or_newer(kit: Kit) -> None:
    """The server speaks at least what Redis 6.2 does."""
    version = str(_facts(kit, "server")["redis_version"])
    numbers = tuple(int(part) for part in version.split(".")[:2])
    expect(numbers >= (6, 2), f"Redis 6.2 or newer, not {version}")


@case
def full_server_refuses_writes_rather_than_evict(kit: Kit) -> None:
    """A server that is full takes no more writes, and drops nothing it has (`noeviction`)."""
    policy = _facts(kit, "memory")["maxmemory_policy"]
    expect_equal(policy, "noeviction", "maxmemory-policy")


@case
def what_was_answered_survives_a_crash_of_redis(kit: Kit) -> None:
    """The append-only file is on, so that Redis loses a second of writes and not all of them."""
    if kit.deployment.allow_volatile:
        raise SkipTest("this deployment is meant to lose everything when Redis crashes")
    facts = _facts(kit, "persistence")
    expect_equal(facts["aof_enabled"], 1, "aof_enabled")
    expect_equal(facts["aof_last_write_status"], "ok", "aof_last_write_status")


@case
def scripts_that_the_server_forgot_are_sent_again(kit: Kit) -> None:
    """A restart of Redis, which forgets all scripts, costs a round trip and no write (B10)."""
    session_id, store = kit.session(), kit.open_store(ForgottenScripts(kit.deployment.client))
    store.put(session_id, "one\n", agent_id="a")
    store.append(session_id, "two\n", agent_id="a")
    store.tag(session_id, "t", agent_id="a")
    expect_equal(store.get(session_id).content, "one\ntwo\n", "the content")
    store.delete(session_id, agent_id="a")
    expect(not store.exists(session_id), "the session to be deleted")


@case
def clocks_of_server_and_client_agree(kit: Kit) -> None:
    """A commit's time is within five minutes of this machine's."""
    session_id = kit.session()
    committed_at = kit.store.put(session_id, "text", agent_id="a").committed_at
    apart = abs(committed_at - datetime.now(UTC))
    expect(apart < _CLOCK_TOLERANCE, f"clocks within {_CLOCK_TOLERANCE}, not {apart} apart")


def _facts(kit: Kit, section: str) -> dict[str, Any]:
    client: Any = kit.deployment.client
    try:
        return dict(client.info(section))
    except redis.exceptions.NoPermissionError:
        raise SkipTest("this user may not ask INFO") from None
