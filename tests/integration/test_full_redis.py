"""A Redis at its memory limit: what can be looked at, and what makes room (B7)."""

from __future__ import annotations

from contextlib import closing, contextmanager

import pytest

from baton import ContextStore
from baton.errors import ContextArchivedError
from baton.redis_client import read_at_once
from baton_command import BatonCommand
from handoff_bench import check_census

TEXT = "".join(f"{line} of what is kept\n" for line in range(20_000))


@contextmanager
def full(client):
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


def test_session_is_archived_from_a_full_redis_and_makes_room(
    redis_client, redis_server, tmp_path, context
):
    """Read in the last second or not: its notes wait for their entry in the audit."""
    pytest.importorskip("chromadb")
    context("put", "s", "-", stdin=TEXT.encode())
    with closing(ContextStore(redis_client)) as store:
        store.set_flag("s", "sensitive", agent_id="a")  # so that no model is needed
        archive = BatonCommand(tmp_path, "archive", BATON_REDIS_URL=redis_server.url)
        store.get("s", agent_id="reader")
        store.flush_notes()
        with full(redis_client):
            assert archive.json("run", "s")["outcome"] == "archived"
            with pytest.raises(ContextArchivedError):
                store.get("s")
        assert redis_client.keys("*:chunks:*") == []
        archive("restore", "s")
        assert store.get("s").content == TEXT


def test_handoff_is_looked_at_on_a_full_redis(bench):
    handoff = bench.run("one", "two")
    with full(bench.client):
        assert handoff.outcome().state == "done"
        assert [node.state for node in handoff.nodes()] == ["ok", "ok"]
        assert handoff.node_result("0") == "one: done"
        check_census(bench.client, handoff.handoff_id)


def test_what_is_read_at_once_of_a_full_redis_is_read_again_where_it_changed(redis_client):
    """Without a transaction somebody may come between; then all of it is looked at anew."""
    redis_client.hset("h", "field", "old")
    redis_client.expire("h", 60)
    redis_client.set("beside", "old", ex=60)
    looks = []

    def witness(pipeline):
        looks.append(len(looks))
        if len(looks) == 3:  # the second look of the first round: it has changed meanwhile
            redis_client.config_set("maxmemory", 0)
            redis_client.hset("h", "field", "new")
            redis_client.set("beside", "new", ex=60)
            redis_client.config_set("maxmemory", 1)
        pipeline.hget("h", "field")

    with full(redis_client):
        found = read_at_once(redis_client, witness, lambda pipeline: pipeline.get("beside"))
    assert found == [b"new", b"new"]
