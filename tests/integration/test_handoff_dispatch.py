"""Publishing through Celery to a real broker: what is sent, what waits, and when it is down."""

from __future__ import annotations

import json

import pytest
import redis

from baton import routes
from baton.dispatch import client_dispatcher
from baton.errors import BrokerUnavailableError
from baton.settings import ClientSettings, load_settings


@pytest.fixture
def dispatcher(redis_client, redis_server):
    settings = load_settings(
        ClientSettings, redis_url=redis_server.url, broker_url=broker_url(redis_server)
    )
    made = client_dispatcher(redis_server.url, settings)
    yield made
    made.close()


def broker_url(server):
    return f"redis+socket://{server.socket}?virtual_host=1"


@pytest.fixture
def broker(redis_client, redis_server):
    with redis.Redis(unix_socket_path=str(redis_server.socket), db=1) as client:
        yield client


def test_dispatcher_publishes_ids_to_the_routed_queues(dispatcher, broker):
    """One message for each; a name and ids, nothing else; no result is asked for."""
    dispatcher.start("handoff_1")
    dispatcher.run("handoff_1", ["0", "1.2"])
    dispatcher.join("handoff_1")
    sent = {}
    for queue in routes.QUEUES:
        for raw in broker.lrange(queue, 0, -1):
            message = json.loads(raw)
            headers = message["headers"]
            sent.setdefault((queue, headers["task"]), []).append(headers["argsrepr"])
            assert headers["ignore_result"] is True
    assert sent == {
        ("context", "handoff.start"): ["('handoff_1',)"],
        ("agents", "agent.run"): ["('handoff_1', '1.2')", "('handoff_1', '0')"],
        ("context", "handoff.join"): ["('handoff_1',)"],
    }


def test_backlog_counts_waiting_nodes_and_none_is_no_error(dispatcher, broker):
    """An empty queue does not exist in Redis; the sweep needs its length all the same."""
    assert dispatcher.backlog() == 0
    dispatcher.run("handoff_1", ["0", "1", "2"])
    assert dispatcher.backlog() == 3
    dispatcher.start("handoff_1")
    assert dispatcher.backlog() == 3
    broker.delete(routes.AGENTS)
    assert dispatcher.backlog() == 0


def test_broker_out_of_reach_is_one_typed_error(tmp_path, monkeypatch):
    """Publishing and counting alike say which broker, without its password."""
    monkeypatch.setattr("baton.dispatch.PUBLISH_RETRY", {"max_retries": 1, "interval_start": 0.01})
    settings = load_settings(ClientSettings, broker_url=f"redis+socket://:secret@{tmp_path}/none")
    dispatcher = client_dispatcher("unix:///none?db=0", settings)
    for call in (lambda: dispatcher.start("handoff_1"), dispatcher.backlog):
        with pytest.raises(BrokerUnavailableError) as raised:
            call()
        assert "secret" not in str(raised.value)
        assert "will be published by the sweep" in str(raised.value)
    dispatcher.close()
