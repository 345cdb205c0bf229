"""Back-pressure on a Redis that runs short of memory: what is refused, and what goes on."""

from __future__ import annotations

import pickle
from contextlib import closing, contextmanager

import pytest
import redis
from redis.crc import key_slot

from baton.agents.runner import ChildTask
from baton.errors import StoreFullError, TransientError
from baton.handoff.admission import Admission
from baton.redis_client import connect
from baton.settings import ClientSettings
from handoff_bench import AGENT, SESSION, check_census


@contextmanager
def used(client, share):
    """While this is open, the server uses that share of its limit."""
    client.config_set("maxmemory", round(client.info("memory")["used_memory"] / share))
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


def test_handoff_is_refused_above_the_share_and_nothing_is_written(bench):
    """Transient, with used bytes and limit; taken again when there is room."""
    bench.submit("one")
    before = set(bench.client.scan_iter())
    with used(bench.client, 0.9):
        limit = bench.client.info("memory")["maxmemory"]
        with pytest.raises(StoreFullError, match=f"of {limit:,} bytes") as caught:
            bench.submit("two")
        assert isinstance(caught.value, TransientError)
        assert caught.value.limit_bytes == limit
        assert 0.8 * limit < caught.value.used_bytes < limit
        assert set(bench.client.scan_iter()) == before
    assert bench.run("two").outcome().state == "done"
    bench.pump()


def test_handoff_is_taken_below_the_share_and_without_a_limit(bench):
    with used(bench.client, 0.5):
        bench.submit("one")
    bench.submit("two")
    bench.pump()


def test_accepted_work_goes_on_above_the_share_children_and_all(make_bench):
    """The fifth that is left is for its children, results and join."""

    def spawn(assignment):
        if assignment.children:
            return " ".join(child.content for child in assignment.children)
        assignment.spawn([ChildTask("x", "work"), ChildTask("y", "work")], then="gather")
        return "draft"

    bench = make_bench({"spawn": spawn})
    handoff = bench.submit(ChildTask("begin", "spawn"), "plain")
    with used(bench.client, 0.9):
        bench.pump()
        outcome = handoff.outcome()
        assert (outcome.state, outcome.census["ok"]) == ("done", 4)
        assert bench.store.get(SESSION).version == outcome.version
    check_census(bench.client, handoff.handoff_id)


def test_repeat_of_an_accepted_submission_is_not_refused(bench):
    """Who lost the answer has to learn that it was taken."""
    first = bench.submit("one", idempotency_key="k")
    with used(bench.client, 0.9):
        assert bench.submit("one", idempotency_key="k").handoff_id == first.handoff_id
    bench.pump()


def test_retry_is_refused_above_the_share_and_changes_nothing(make_bench):
    calls = []

    def fail_once(assignment):
        calls.append(assignment.instruction)
        if len(calls) == 1:
            raise ValueError("once")
        return "done"

    bench = make_bench({"fail_once": fail_once})
    handoff = bench.run(ChildTask("x", "fail_once"))
    ended = handoff.outcome()
    assert ended.state == "failed"
    with used(bench.client, 0.9):
        with pytest.raises(StoreFullError):
            bench.handoffs.retry(handoff.handoff_id)
        assert handoff.outcome() == ended
    bench.handoffs.retry(handoff.handoff_id)
    bench.pump()
    assert handoff.outcome().state == "done"


def test_user_without_info_is_taken_at_its_word(bench, redis_server):
    """Then Redis' own refusal, at the limit, is the first."""
    bench.client.acl_setuser(
        "blind", enabled=True, passwords=["+pass"], categories=["+@all"], commands=["-info"],
        keys=["*"],
    )  # fmt: skip
    url = redis_server.url.replace("unix://", "unix://blind:pass@")
    with redis.Redis.from_url(url) as blind, used(bench.client, 0.9):
        Admission(blind, max_open=10, memory_share=0.8).require_room("handoff_1", SESSION)
    bench.client.acl_deluser("blind")


def test_on_a_cluster_the_nodes_that_the_handoff_lives_on_are_looked_at(cluster):
    """A node that is full and has no part in it refuses nothing."""
    full = cluster.nodes[0]
    there, elsewhere = cluster.session_on(full), cluster.session_on(cluster.nodes[1])
    handoff = next(
        name for name in (f"handoff_{n}" for n in range(10_000))
        if cluster.owner(key_slot(name.encode())) is cluster.nodes[1]
    )  # fmt: skip
    with closing(connect(cluster.url, ClientSettings())) as client, used(full.client, 0.9):
        admission = Admission(client, max_open=10, memory_share=0.8)
        admission.require_room(handoff, elsewhere)
        with pytest.raises(StoreFullError):
            admission.require_room(handoff, there)


def test_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(StoreFullError(900, 1_000, 0.8)))  # noqa: S301
    assert (error.used_bytes, error.limit_bytes, error.share) == (900, 1_000, 0.8)
    assert "900 of 1,000 bytes" in str(error)
    assert "more than 80%" in str(error)


def test_share_is_a_setting(make_bench, redis_server):
    """`BATON_HANDOFF_MEMORY_SHARE`, by way of the coordinator."""
    from baton import RedisSwarmCoordinator

    bench = make_bench()
    settings = ClientSettings(handoff_memory_share=0.3)
    with (
        RedisSwarmCoordinator(redis_url=redis_server.url, settings=settings) as swarm,
        used(bench.client, 0.5),
        pytest.raises(StoreFullError, match="30%"),
    ):
        swarm.handoffs.submit(SESSION, ["one"], agent_id=AGENT)
