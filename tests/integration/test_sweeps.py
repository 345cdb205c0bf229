"""The scheduled passes: once a period, over nodes, agents and notes of reads."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from baton.archive.audit_carry import AuditCarry
from baton.archive.audit_file import AuditFile
from baton.archive.opening import audit_path, ledger_path
from baton.lifecycle.aging import Aging
from baton.lifecycle.archiving import ArchivePasses
from baton.lifecycle.collecting import Collecting
from baton.lifecycle.configured import configured_durations
from baton.lifecycle.due_index import DueIndex
from baton.lifecycle.facts import SessionFactsReader
from baton.lifecycle.sweeps import Periods, Sweeps
from baton.settings import ClientSettings
from baton.store.audit import AuditTrail
from baton.store.drain import AccessDrain
from baton.store.keys import SessionKeys
from baton.store.mending import KeyMending
from baton.swarm.keys import INDEX
from baton.swarm.registry import AgentRegistry
from handoff_bench import SESSION
from waiting import until


@pytest.fixture
def registry(redis_client):
    return AgentRegistry(redis_client, dead_after_seconds=60)


@pytest.fixture
def make_sweeps(bench, registry, tmp_path):
    settings = ClientSettings(state_dir=tmp_path)
    drain, due = AccessDrain(bench.client, bench.store), DueIndex(bench.client)
    facts = SessionFactsReader(bench.client, configured_durations(settings))
    file, trail = AuditFile(audit_path(settings)), AuditTrail(bench.client)
    carry = AuditCarry(bench.client, file, trail, keep_seconds=settings.audit_keep_seconds)

    def make(period_seconds=60):
        return Sweeps(
            bench.client,
            engine=bench.engine,
            registry=registry,
            drain=drain,
            trail=trail,
            aging=Aging(bench.client, bench.store, drain, facts, due),
            collecting=Collecting(
                bench.client, bench.store, KeyMending(bench.client, bench.store.backstop_ms)
            ),
            archiving=ArchivePasses(
                lambda: pytest.fail("nothing is archived here"),
                ledger_path(settings),
                facts,
                due,
                carry,
            ),
            periods=Periods(**{field.name: period_seconds for field in fields(Periods)}),
        )

    yield make
    file.close()


def test_sweeps_run_once_a_period_for_two_workers(bench, make_sweeps):
    """The second of two says that it did nothing, for each of the sweeps."""
    first, second = make_sweeps(), make_sweeps()
    for name in ("age", "reconcile", "collect", "archive", "settle", "purge", "carry_audit"):
        assert getattr(first, name)() is not None
        assert getattr(second, name)() is None
    assert (first.nodes(), second.nodes()) == (0, None)
    assert (second.agents(), first.agents()) == (0, None)
    assert first.access() is not None
    assert second.access() is None
    assert first.seal_audit() is not None
    assert second.seal_audit() is None


def test_node_sweep_publishes_lapsed_nodes(bench, make_sweeps):
    """It drives a handoff whose messages were all lost to its end."""
    handoff = bench.submit("a")
    bench.queue.messages.clear()
    sweeps = make_sweeps(period_seconds=0.01)

    def swept():
        bench.pass_time(handoff)
        sweeps.nodes()
        bench.pump()
        return handoff.outcome().ended

    until(swept)
    assert handoff.outcome().state == "done"


def test_agent_sweep_marks_the_silent_dead(bench, registry, make_sweeps):
    """Those heard of stay active; the count is of those newly dead."""
    silent = registry.register("haiku_worker", context_capacity=1_000)
    heard = registry.register("haiku_worker", context_capacity=1_000)
    bench.client.zincrby(INDEX, -61_000, silent.agent_id)
    assert make_sweeps().agents() == 1
    assert registry.get(silent.agent_id).state == "dead"
    assert registry.get(heard.agent_id).state == "active"


@pytest.mark.usefixtures("notes_wait")
def test_access_sweep_drains_notes_into_metadata_and_audit(bench, make_sweeps):
    """After a read by the engine's agent and one by another, both are on record."""
    keys = SessionKeys.of(SESSION)
    for agent in ("haiku_1", "haiku_2", "haiku_2"):
        bench.store.get(SESSION, agent_id=agent)
    bench.store.flush_notes()
    assert make_sweeps().access() == 2
    assert bench.client.llen(keys.access) == 1
    assert bench.client.hget(keys.metadata, "last_accessed_by") in (b"haiku_1", b"haiku_2")
    audit = [json.loads(entry) for entry in bench.client.lrange(keys.audit, 0, -1)]
    reads = {entry["agent"]: entry["details"] for entry in audit if entry["operation"] == "read"}
    assert reads == {"haiku_1": {"reads": 1}, "haiku_2": {"reads": 2}}
