"""Settings as Celery options."""

from __future__ import annotations

import ssl

import pytest
import redis
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten

from baton import routes
from baton.broker_url import choose_broker_url
from config.celery_options import celery_options
from config.settings import AppSettings

UNIX = "unix:///nowhere/redis.sock"


def app_with(settings: AppSettings, store_url: str = UNIX) -> Celery:
    url = choose_broker_url(store_url, None)
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_options(settings, broker_url=url, result_url=url))
    return app


def test_options_are_all_known_to_celery():
    """No option is misspelt: Celery would accept any name in silence."""
    # Read and documented by its Redis backend, yet not in its table.
    known = {name for name, _ in flatten(NAMESPACES)} | {"redis_backend_health_check_interval"}
    url = "rediss://example.test/1"
    assert set(celery_options(AppSettings(), broker_url=url, result_url=url)) <= known


@pytest.mark.parametrize("task", routes.QUEUE_OF)
def test_options_route_each_task_to_its_queue(task):
    """Each task goes to its pool's queue and to no other."""
    app = app_with(AppSettings())
    queue = app.amqp.router.route({}, task)["queue"]
    assert queue.name == routes.QUEUE_OF[task]
    assert set(app.amqp.queues) == set(routes.QUEUES)


def test_options_reach_a_unix_socket_as_broker_and_as_result_store(redis_server):
    """kombu and the result backend both talk to the socket, on the next database."""
    app = app_with(AppSettings(), redis_server.url)
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1)
        broker = connection.default_channel.client.connection_pool.connection_kwargs
        assert (broker["path"], broker["db"]) == (str(redis_server.socket), 1)
    app.backend.client.set("some-key", "some-value")
    with redis.Redis(unix_socket_path=str(redis_server.socket), db=1) as client:
        assert client.get("some-key") == b"some-value"
        client.flushdb()


def test_options_verify_certificates_unless_the_url_says_otherwise():
    """rediss:// without options would be accepted by kombu with any certificate."""
    app = app_with(AppSettings(), "rediss://user:pw@example.test:6380/3")
    with app.connection_for_write() as connection:
        assert connection.ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert app.backend.connparams["ssl_cert_reqs"] == ssl.CERT_REQUIRED


def test_options_expire_each_sweep_with_its_period():
    """Workers that come back after an hour find one sweep of each kind, not hundreds."""
    settings = AppSettings(node_sweep_seconds=7)
    entries = celery_options(settings, broker_url="", result_url="")["beat_schedule"]
    assert {entry["task"] for entry in entries.values()} == {
        routes.SWEEP_NODES,
        routes.SWEEP_AGENTS,
        routes.SWEEP_ACCESS,
        routes.SEAL_AUDIT,
        routes.AGE,
        routes.RECONCILE,
        routes.COLLECT,
        routes.ARCHIVE_DUE,
        routes.ARCHIVE_SETTLE,
        routes.ARCHIVE_PURGE,
        routes.ARCHIVE_AUDIT,
    }
    assert all(entry["options"]["expires"] == entry["schedule"] for entry in entries.values())
    assert 7 in {entry["schedule"] for entry in entries.values()}
