"""Counts of many processes add up in Redis, each batch once, in a bounded number of series."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import redis

from baton.errors import StoreUnavailableError
from baton.metrics import catalog
from baton.metrics.tally import CLIENTS, INDEX, RedisTally, list_scopes, read_sums, scope_of
from baton.store.contexts import ContextStore
from waiting import until

SCOPE = scope_of("agents", "a.host")
CONST = 400
_BUCKETS = {f"context_store_duration_ms|{place}" for place in range(6)}  # by how fast it is here


@pytest.fixture
def tally(redis_client):
    made = RedisTally(redis_client, SCOPE)
    yield made
    made.close()


def test_counts_of_threads_and_processes_add_up(redis_client, tally):
    """Nothing is lost between threads, and a second process adds to the same sums."""
    other = RedisTally(redis_client, SCOPE)

    def count(number):
        for _ in range(100):
            (tally if number % 2 else other).count(catalog.NODES, state="ok")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    tally.flush()
    other.flush()
    assert read_sums(redis_client, SCOPE) == {"baton_nodes_total|ok": 800}
    assert list_scopes(redis_client) == [SCOPE]
    assert 0 < redis_client.pttl(INDEX) <= 30 * 86_400_000


def test_counts_are_sent_by_themselves(redis_client, tally):
    """About a second later, without anybody asking; later ones too."""
    for number in (1, 2):
        tally.count(catalog.NODES, state="failed")
        until(lambda wanted=number: read_sums(redis_client, SCOPE).get(
            "baton_nodes_total|failed") == wanted)  # fmt: skip


def test_values_fall_into_their_buckets(redis_client, tally):
    """An upper bound belongs to its bucket; the sum is exact to a millionth."""
    for value in (10.0, 10.1, 2_000.0):
        tally.observe(catalog.CONTEXT_STORE_DURATION, value)
    tally.flush()
    name = "context_store_duration_ms"
    assert read_sums(redis_client, SCOPE) == {
        f"{name}|0": 1, f"{name}|1": 1, f"{name}|5": 1, f"{name}|sum": 2_020_100_000,
    }  # fmt: skip


def test_batch_is_added_once_however_often_it_is_sent(redis_client, tally):
    """Its reply was lost, so it is sent again: the sums do not change by that."""
    tally.count(catalog.HANDOFFS, state="done")
    assert tally._take()
    tally._send()
    tally.flush()
    assert read_sums(redis_client, SCOPE) == {"baton_handoffs_total|done": 1}
    tally.count(catalog.HANDOFFS, state="done")
    tally.flush()
    assert read_sums(redis_client, SCOPE) == {"baton_handoffs_total|done": 2}


def test_counts_wait_for_a_redis_that_is_gone(redis_client, tmp_path):
    """Counting never fails; flushing says so and keeps what could not be sent."""
    nobody = redis.Redis(unix_socket_path=str(tmp_path / "no.sock"))
    tally = RedisTally(nobody, SCOPE)
    tally.count(catalog.NODES, state="ok")
    with pytest.raises(StoreUnavailableError):
        tally.flush()
    tally.count(catalog.NODES, state="ok")
    tally.close()
    tally._redis = redis_client
    tally.flush()
    assert read_sums(redis_client, SCOPE) == {"baton_nodes_total|ok": 2}
    nobody.close()


def test_user_without_the_right_to_count_is_not_disturbed(redis_client, redis_server):
    """What it may not send is dropped, and what it does goes on."""
    redis_client.acl_setuser(
        "reader", enabled=True, nopass=True, keys=["context:*"], commands=["+@all"]
    )
    try:
        with redis.Redis.from_url(redis_server.url, username="reader", password="") as reader:
            tally = RedisTally(reader, CLIENTS)
            tally.count(catalog.CONTEXT_STORE, status="success")
            tally.close()
            assert not tally.waits
    finally:
        redis_client.acl_deluser("reader")


def test_forked_child_counts_for_itself_alone(redis_client, tally):
    """What the parent has not sent yet is not sent twice."""
    tally.count(catalog.NODES, state="ok")
    child = os.fork()
    if not child:
        tally.count(catalog.NODES, state="lost")
        tally.close()
        os._exit(0)
    os.waitpid(child, 0)
    tally.flush()
    assert read_sums(redis_client, SCOPE) == {
        "baton_nodes_total|ok": 1,
        "baton_nodes_total|lost": 1,
    }


def test_command_that_lives_for_a_moment_counts_too(redis_client, context):
    """`baton context put` sends what it counted before it ends."""
    context("put", "notes", context.file("notes.md", b"some text"))
    sums = read_sums(redis_client, CLIENTS)
    assert sums["context_store_total|success"] == 1
    assert sums["context_size_bytes|0"] == 1


def test_process_that_closes_nothing_sends_at_its_exit(redis_client, redis_server):
    """An orchestrator that just ends has told what it wrote."""
    code = (
        "from baton import RedisSwarmCoordinator as Swarm\n"
        f"swarm = Swarm(redis_url={redis_server.url!r})\n"
        "agent = swarm.register_agent('sonnet_coordinator', 1000)\n"
        "swarm.update_context('text', agent)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert read_sums(redis_client, CLIENTS)["context_store_total|success"] == 1


def test_series_stay_few_whatever_labels_come(redis_client, tally):
    """Fault I18: 100,000 sessions' worth of label values make no more series than a constant."""
    for number in range(100_000):
        session = f"session_{number:x}"
        tally.count(catalog.CONTEXT_STORE, status=session)
        tally.count(catalog.NODE_RUNS, runner=session, result=session)
        tally.count(catalog.VERSION_CONFLICTS, resolution_strategy=session, session_id=session)
        tally.observe(catalog.NODE_RUN_DURATION, 0.1, runner=session)
    tally.flush()
    sums = read_sums(redis_client, SCOPE)
    assert len(sums) <= CONST
    assert sums["context_store_total|other"] == 100_000
    assert (
        sum(n for name, n in sums.items() if name.startswith("baton_node_runs_total|")) == 100_000
    )


def test_sessions_add_no_series(redis_client, tally):
    """As many after a thousand sessions of as many agents as after one."""
    with closing(ContextStore(redis_client, meter=tally)) as store:
        store.put("s", "text", agent_id="agent")
        tally.flush()
        names = read_sums(redis_client, SCOPE).keys() - _BUCKETS
        for number in range(1_000):
            store.put(f"s{number}", "text", agent_id=f"agent_{number}")
        tally.flush()
        sums = read_sums(redis_client, SCOPE)
    assert sums["context_store_total|success"] == 1_001
    assert sums.keys() - _BUCKETS == names


def test_no_label_names_a_session_agent_or_handoff():
    """What grows with use is no label; what the catalog does not list comes from settings."""
    labels = {label for metric in catalog.CATALOG for label in metric.labels}
    assert labels == {
        "status", "resolution_strategy", "state", "runner", "result", "kind", "reason", "operation",
        "sweep", "queue", "pool",
    }  # fmt: skip
    open_ended = {label for metric in catalog.CATALOG for label, listed in metric.labels.items()
                  if not listed}  # fmt: skip
    assert open_ended == {"runner", "sweep"}
