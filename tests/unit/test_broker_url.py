"""Store URLs in Celery's spelling."""

from __future__ import annotations

import pytest

from baton.broker_url import broker_url, choose_broker_url
from baton.errors import InvalidInputError, SettingsError


@pytest.mark.parametrize(
    ("store", "broker"),
    [
        ("redis://localhost", "redis://localhost/1"),
        ("redis://localhost:6379/0", "redis://localhost:6379/1"),
        ("redis://u:p%40@host:1/?db=4&socket_timeout=3", "redis://u:p%40@host:1/1"),
        ("rediss://h/0?ssl_ca_certs=/a/b.pem", "rediss://h/1?ssl_ca_certs=%2Fa%2Fb.pem"),
        ("unix:///a/b.sock?db=0", "redis+socket:///a/b.sock?virtual_host=1"),
        ("unix:///a b;c+d.sock", "redis+socket:///a%20b%3Bc%2Bd.sock?virtual_host=1"),
        ("unix://u:p@/a.sock", "redis+socket://u:p@/a.sock?virtual_host=1"),
    ],
)
def test_broker_url_selects_the_database_in_kombus_spelling(store, broker):
    """Host, path and credentials stay; the database is the one asked for."""
    assert broker_url(store, database=1) == broker


@pytest.mark.parametrize("url", ["http://x/", "redis:", "unix:", "nonsense", ""])
def test_broker_url_refuses_what_is_no_redis_url(url):
    """Anything else is an error that does not repeat what may hold a password."""
    with pytest.raises(InvalidInputError):
        broker_url(url, database=1)


@pytest.mark.parametrize(
    ("store", "configured", "chosen"),
    [
        ("redis://h/2", None, "redis://h/3"),
        ("redis://h/?db=2", None, "redis://h/3"),
        ("unix:///s?db=2", None, "redis+socket:///s?virtual_host=3"),
        ("redis://h/2", "redis://b/7", "redis://b/7"),
        ("redis://h/2", "unix:///b?db=7", "redis+socket:///b?virtual_host=7"),
        ("redis://h/2", "sentinel://a:1;sentinel://b:1", "sentinel://a:1;sentinel://b:1"),
    ],
)
def test_choose_broker_url_takes_the_next_database_unless_told(store, configured, chosen):
    """Unset, the broker is the database after the store's, on its server."""
    assert choose_broker_url(store, configured) == chosen


@pytest.mark.parametrize(
    ("store", "configured"),
    [
        ("redis+cluster://a:1,b:2", None),
        ("rediss+cluster://:hunter2@a:1", None),
        ("redis://a", "redis+cluster://:hunter2@b:1"),
    ],
)
def test_choose_broker_url_refuses_a_cluster(store, configured):
    """Celery cannot work on one; the setting to change is named, and no password shown."""
    with pytest.raises(SettingsError, match=r"^BATON_BROKER_URL: .* no Redis Cluster") as caught:
        choose_broker_url(store, configured)
    assert "hunter2" not in str(caught.value)


def test_choose_broker_url_takes_a_broker_beside_a_cluster():
    """The store may be a cluster if the broker is named."""
    assert choose_broker_url("redis+cluster://a:1", "redis://b/7") == "redis://b/7"
