"""What Redis answers when it will not: typed errors that say which server and why."""

from __future__ import annotations

import pytest
import redis

from baton.errors import AccessDeniedError, StoreRefusedError, UnexpectedAnswerError
from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys


def test_full_server_refuses_a_write_and_the_session_is_unchanged(redis_client):
    store = ContextStore(redis_client)
    store.put("s", "one", agent_id="a")
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreRefusedError, match=r"redis\.sock takes no writes now"):
            store.put("s", "two", agent_id="a", base_version="1.0.0")
        assert store.get("s").content == "one"
    finally:
        redis_client.config_set("maxmemory", 0)
    assert store.put("s", "two", agent_id="a", base_version="1.0.0").action == "accepted"


def test_user_without_rights_is_told_so(redis_client, redis_server):
    store = ContextStore(redis_client)
    store.put("s", "one", agent_id="a")
    password = "only-in-this-test"  # noqa: S105
    redis_client.execute_command("ACL", "SETUSER", "nobody", "reset", "on", f">{password}", "+ping")
    with redis.Redis(
        unix_socket_path=str(redis_server.socket), username="nobody", password=password
    ) as client:
        for call in (lambda s: s.get("s"), lambda s: s.put("s", "two", agent_id="a")):
            with pytest.raises(AccessDeniedError, match="may not do that"):
                call(ContextStore(client))
    redis_client.execute_command("ACL", "DELUSER", "nobody")


def test_key_of_a_foreign_type_is_an_error_of_ours(redis_client):
    redis_client.set(SessionKeys.of("s").base, "a string", ex=60)
    store = ContextStore(redis_client)
    for call in (lambda: store.get("s"), lambda: store.put("s", "two", agent_id="a")):
        with pytest.raises(UnexpectedAnswerError, match="WRONGTYPE"):
            call()
