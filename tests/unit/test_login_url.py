"""Users, passwords and authorities in Redis URLs, and what leaves the machine without TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from baton.errors import SettingsError
from baton.login_url import bare_host, with_ca, with_login, without_login
from baton.settings import ClientSettings, load_settings, logged_in


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/0", "redis://me:p%40%2F@h:1/0"),
        ("redis://:old@h:1/0", "redis://me:p%40%2F@h:1/0"),
        ("rediss://you:old@h/?ssl_ca_certs=/a", "rediss://me:p%40%2F@h/?ssl_ca_certs=/a"),
        ("unix:///run/redis.sock?db=0", "unix://me:p%40%2F@/run/redis.sock?db=0"),
        ("redis+cluster://u:p@a:1,b:2", "redis+cluster://me:p%40%2F@a:1,b:2"),
        ("sentinel://a:1;sentinel://b:1", "sentinel://a:1;sentinel://b:1"),
    ],
)
def test_login_takes_the_place_of_the_urls_own(url, expected):
    assert with_login(url, "me", "p@/") == expected


def test_login_is_taken_out():
    assert without_login("redis://me:pw@h:1/0") == "redis://h:1/0"
    assert without_login("unix://me:pw@/run/redis.sock") == "unix:///run/redis.sock"
    assert without_login("redis://h/0") == "redis://h/0"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("redis://localhost:6379/0", None),
        ("redis://127.0.0.9", None),
        ("redis://[::1]:6379", None),
        ("redis:///0", None),
        ("unix:///run/redis.sock", None),
        ("rediss://10.0.0.1", None),
        ("rediss+cluster://10.0.0.1:1", None),
        ("redis://u:p@10.0.0.1:6379/0", "10.0.0.1"),
        ("redis://127.0.0.1.example.test", "127.0.0.1.example.test"),
        ("redis+cluster://127.0.0.1:1,far.test:2", "far.test"),
        ("redis://[2001:db8::1]:6379", "2001:db8::1"),
    ],
)
def test_host_that_is_reached_without_tls_is_found(url, host):
    assert bare_host(url) == host


def test_authority_is_added_to_tls_urls_that_name_none():
    ca = Path("/etc/our ca.pem")
    assert with_ca("rediss://h/0", ca) == "rediss://h/0?ssl_ca_certs=%2Fetc%2Four%20ca.pem"
    assert with_ca("rediss://h/0?db=1", ca).endswith("?db=1&ssl_ca_certs=%2Fetc%2Four%20ca.pem")
    for url in ("rediss://h?ssl_ca_certs=/a", "redis://h", "unix:///s"):
        assert with_ca(url, ca) == url


def test_settings_refuse_to_leave_the_machine_without_tls():
    """J16: a loud refusal that shows no password; a network of one's own can be allowed."""
    with pytest.raises(SettingsError, match="BATON_BROKER_URL: expected rediss://") as caught:
        load_settings(
            ClientSettings, redis_url="redis://localhost", broker_url="redis://:hunter2@10.0.0.1"
        )
    assert "hunter2" not in str(caught.value)
    allowed = load_settings(ClientSettings, redis_url="redis://10.0.0.1", redis_plaintext="allowed")
    assert allowed.redis_url.get_secret_value() == "redis://10.0.0.1"


def test_settings_log_in_as_the_named_user(tmp_path):
    """To store and broker, with the password of the file; as another on demand."""
    (tmp_path / "agents").write_text("secret-1\n")
    (tmp_path / "scripts").write_text("secret-2")
    settings = load_settings(
        ClientSettings,
        redis_url="redis://:old@localhost/0",
        broker_url="redis://localhost/5",
        acl_dir=tmp_path,
        redis_user="agents",
    )
    assert settings.redis_url.get_secret_value() == "redis://agents:secret-1@localhost/0"
    assert settings.broker_url.get_secret_value() == "redis://agents:secret-1@localhost/5"
    assert "secret" not in repr(settings)
    other = logged_in(settings, "scripts")
    assert other.redis_url.get_secret_value() == "redis://scripts:secret-2@localhost/0"


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_settings_miss_the_password_of_a_user(tmp_path, content):
    if content is not None:
        (tmp_path / "agents").write_text(content)
    with pytest.raises(SettingsError, match="BATON_ACL_DIR"):
        load_settings(
            ClientSettings, redis_url="redis://localhost", acl_dir=tmp_path, redis_user="agents"
        )
