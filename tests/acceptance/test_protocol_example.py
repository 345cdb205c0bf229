"""The protocol's complete example (CMCSP section 11), stage by stage, on a real Redis."""

from __future__ import annotations

import pytest

from baton import RedisSwarmCoordinator
from baton.errors import AgentNotFoundError
from waiting import until

STATE = """
SESSION STATE (Token count: 95,000)
- Project: InfraFabric Multi-Agent Coordination
- Status: Designing context sharing protocol
- Completed: Redis schema, chunking algorithm, conflict resolution
- TODO: Monitoring setup, security hardening, performance tuning
- Active agents: sonnet_coordinator, haiku_worker_3, haiku_worker_7
"""
LOG_1 = "\n\n[HAIKU-1 WORK LOG]\n- Set up Prometheus metrics\n- Configured alert rules\n"
LOG_2 = "\n\n[HAIKU-2 WORK LOG]\n- Implemented encryption at rest\n- Configured ACL rules\n"


@pytest.fixture
def coordinator(redis_server, redis_client):
    with RedisSwarmCoordinator(redis_url=redis_server.url) as coordinator:
        yield coordinator


def test_sonnet_hands_ten_megabytes_to_two_haikus_and_reviews_what_they_did(coordinator):
    """Ten stages: register, store, spawn, read, update, chain, merge, review, history, clean up."""
    sonnet = coordinator.register_agent(
        role="sonnet_coordinator",
        context_capacity=200_000,
        metadata={"model": "claude-sonnet-4.5", "purpose": "orchestration"},
    )
    assert sonnet.startswith("sonnet_coordinator_")

    large_context = (STATE * (10 * 1024 * 1024 // len(STATE) + 1))[: 10 * 1024 * 1024]
    stored = coordinator.update_context(large_context, sonnet, version="1.0.0")
    assert (stored.action, stored.version) == ("accepted", "1.0.0")

    haiku_1, haiku_2 = (
        coordinator.register_agent(
            role="haiku_worker",
            context_capacity=200_000,
            parent_id=sonnet,
            metadata={"model": "claude-haiku-4.5", "task": task},
        )
        for task in ("monitoring_setup", "security_hardening")
    )
    assert coordinator.session_of(haiku_1) == coordinator.session_of(sonnet)

    retrieved = coordinator.get_context(sonnet)
    assert retrieved == large_context

    update_1 = coordinator.update_context(retrieved + LOG_1, haiku_1, version="1.1.0")
    assert (update_1.action, update_1.version) == ("accepted", "1.1.0")

    haiku_1_results = coordinator.get_context(haiku_1)
    assert haiku_1_results == large_context + LOG_1

    update_2 = coordinator.update_context(haiku_1_results + LOG_2, haiku_2, version="1.2.0")
    assert (update_2.action, update_2.version) == ("accepted", "1.2.0")

    assert coordinator.get_context(haiku_2) == large_context + LOG_1 + LOG_2

    history = coordinator.history(sonnet)
    assert [(record.version, record.author) for record in history] == [
        ("1.2.0", haiku_2),
        ("1.1.0", haiku_1),
        ("1.0.0", sonnet),
    ]
    assert history[0].committed_at > history[1].committed_at > history[2].committed_at
    assert history[2].content_hash == stored.content_hash

    assert coordinator.cleanup_stale_agents(max_age_seconds=300) == []
    assert {agent.agent_id for agent in coordinator.list_active_agents()} == {
        sonnet, haiku_1, haiku_2,
    }  # fmt: skip


def test_agent_that_wrote_nothing_is_given_the_sessions_head(coordinator):
    sonnet = coordinator.register_agent("sonnet_coordinator", 1000)
    haiku = coordinator.register_agent("haiku_worker", 1000, parent_id=sonnet)
    coordinator.update_context("from sonnet", sonnet)
    assert coordinator.get_context(haiku) == "from sonnet"
    coordinator.update_context("from haiku", haiku)
    coordinator.get_context(sonnet)
    assert coordinator.get_context(haiku) == "from haiku"
    assert coordinator.get_context(sonnet) == "from sonnet"


def test_second_coordinator_that_read_an_old_version_overwrites_nothing(coordinator, redis_server):
    """Each coordinator passes what it last saw; the later writer is told, and nothing is lost."""
    sonnet = coordinator.register_agent("sonnet_coordinator", 1000)
    coordinator.update_context("base", sonnet)
    with RedisSwarmCoordinator(redis_url=redis_server.url) as other:
        other.get_context(sonnet)
        coordinator.update_context("first", sonnet)
        assert other.update_context("second", sonnet).action == "merge_required"
        assert other.get_context(sonnet) == "first"
        assert other.update_context("second", sonnet).action == "accepted"
    assert [record.version for record in coordinator.history(sonnet, limit=2)] == ["1.0.2", "1.0.1"]


def test_cleaned_up_agent_is_gone_and_its_session_is_not(coordinator):
    sonnet = coordinator.register_agent("sonnet_coordinator", 1000)
    coordinator.update_context("text", sonnet)
    session = coordinator.session_of(sonnet)
    until(
        lambda: coordinator.cleanup_stale_agents(max_age_seconds=0) == [sonnet],
        what="a millisecond of silence",
    )
    with pytest.raises(AgentNotFoundError):
        coordinator.heartbeat(sonnet)
    assert coordinator.store.get(session).content == "text"


def test_history_before_the_first_write_is_empty(coordinator):
    assert coordinator.history(coordinator.register_agent("sonnet_coordinator", 1000)) == []
