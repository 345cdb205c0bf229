"""The store on a Redis Cluster: every node used, slots moved amid writes, nodes lost and back."""

from __future__ import annotations

import re
import signal
import threading
import traceback
from collections import Counter
from contextlib import closing
from functools import partial
from importlib import resources

import pytest
import redis
from redis.exceptions import AskError, MovedError, ResponseError, TryAgainError

from baton.cluster_redis import ClusterRedis
from baton.errors import (
    InvalidInputError,
    StoreRefusedError,
    StoreUnavailableError,
    TransientError,
    UnexpectedAnswerError,
)
from baton.redis_client import connect, redact_url, redis_errors, require_binary, why_silent
from baton.settings import ClientSettings
from baton.store.contexts import ContextStore
from baton.store.drain import AccessDrain
from baton.store.keys import SessionKeys
from baton.swarm.pools import PoolBoard
from baton.swarm.registry import AgentRegistry
from handoff_bench import Bench, check_expiries
from redis_cluster import HOST, free_ports, slot_of
from waiting import until


@pytest.fixture
def open_client(cluster):
    """Opens clients of the cluster, by settings; afterwards every key has an expiry."""
    opened = []

    def open_client(**settings):
        opened.append(connect(cluster.url, ClientSettings(**settings)))
        return opened[-1]

    yield open_client
    immortal = [
        key
        for node in cluster.nodes
        if node.answers()
        for key in node.client.scan_iter(match="context:*", count=1000)
        if node.client.pttl(key) == -1
    ]
    assert immortal == []
    for client in opened:
        client.close()


@pytest.fixture
def client(open_client):
    return open_client()


@pytest.fixture
def store(client):
    with closing(ContextStore(client)) as store:
        yield store


@pytest.fixture
def met(monkeypatch):
    """Counts what nodes answer that is no answer, by kind."""
    met = Counter()
    settle = ClusterRedis._settle

    def note(client, command, answer, address):
        if isinstance(answer, (AskError, TryAgainError)):
            met[type(answer)] += 1
        return settle(client, command, answer, address)

    monkeypatch.setattr(ClusterRedis, "_settle", note)
    return met


def content_of(length, seed=0):
    return "".join(f"line {number} of {seed}\n" for number in range(length // 16))


def test_sessions_on_every_node_are_stored_read_listed_and_deleted(cluster, store):
    """Each session is wholly on the node of its slot, and all are found."""
    ids = [cluster.session_on(node) for node in cluster.nodes]
    for number, session_id in enumerate(ids):
        store.put(session_id, content_of(100_000, number), agent_id="a")
        store.put(session_id, content_of(120_000, number), agent_id="b", base_version="1.0.0")
    for number, session_id in enumerate(ids):
        assert store.get(session_id).content == content_of(120_000, number)
        assert store.get(session_id, "1.0.0").content == content_of(100_000, number)
        assert [each.version for each in store.history(session_id)] == ["1.0.1", "1.0.0"]
        assert store.show(session_id).version_count == 2
        assert store.find_version_by(session_id, "b") == "1.0.1"
    assert sorted(store.list()) == sorted(ids)
    store.delete(ids[0], agent_id="a")
    assert sorted(store.list()) == sorted(ids[1:])


def test_notes_of_reads_reach_every_node_and_are_drained(cluster, client, store):
    """One batch of notes is for sessions of all nodes, and one drain finds them all."""
    ids = [cluster.session_on(node, name) for node in cluster.nodes for name in ("x", "y")]
    for session_id in ids:
        store.put(session_id, "text", agent_id="writer")
        store.get(session_id, agent_id="reader")
    store.flush_notes()
    assert AccessDrain(client, store).drain_all() == len(ids)
    assert {store.show(session_id).last_accessed_by for session_id in ids} == {"reader"}


def test_scripts_that_all_nodes_forgot_are_sent_again(cluster, store):
    """SCRIPT FLUSH costs a round trip, not a write."""
    ids = [cluster.session_on(node) for node in cluster.nodes]
    for version in ("1.0.0", "1.0.1"):
        for session_id in ids:
            assert store.put(session_id, f"at {version}", agent_id="a").version == version
        for node in cluster.nodes:
            node.client.script_flush()


def test_slot_that_moves_under_a_writer_loses_and_doubles_nothing(cluster, open_client, met):
    """A writer that appends line by line goes on over ASK, TRYAGAIN and MOVED."""
    source = cluster.nodes[0]
    session_id = cluster.session_on(source, "moving")
    writer = ContextStore(open_client())
    writer.put(session_id, "line 0\n", agent_id="w")
    wanted = ["line 0"]
    stop = threading.Event()
    failures = []

    def write():
        try:
            while not stop.is_set():
                wanted.append(f"line {len(wanted)}")
                head = f"1.0.{len(wanted) - 2}"
                content = "".join(f"{line}\n" for line in wanted)
                commit = writer.put(session_id, content, agent_id="w", base_version=head)
                assert commit.action == "accepted", commit
        except BaseException as error:  # noqa: BLE001  # an assertion of another thread is lost
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for target in (cluster.nodes[1], cluster.nodes[2], source):
            met.clear()
            for step in cluster.migration(slot_of(session_id), target):
                if step == "begun":
                    until(lambda: met[AskError] and met[TryAgainError], what="refusals")
            count = len(wanted)
            until(partial(wrote, wanted, count + 2), what="writes after the move")
            assert met[MovedError]
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert writer.get(session_id).content.splitlines() == wanted
    reader = ContextStore(open_client())
    history = reader.history(session_id)
    assert len({each.version for each in history}) == len(history) == len(wanted)
    for count in (1, len(wanted) // 2, len(wanted)):
        content = reader.get(session_id, f"1.0.{count - 1}").content
        assert content.splitlines() == wanted[:count]
    writer.close()
    reader.close()


def wrote(lines, count):
    return len(lines) > count


def test_session_is_read_while_its_slot_moves(cluster, open_client, met):
    """What has left is asked for at its new node, a transaction as well, and all are answered."""
    source, target = cluster.nodes[:2]
    session_id = cluster.session_on(source, "read")
    store = ContextStore(open_client())
    store.put(session_id, "text", agent_id="a")
    steps = cluster.migration(slot_of(session_id), target)
    keys_left = source.client.execute_command("CLUSTER COUNTKEYSINSLOT", slot_of(session_id))
    for _ in range(keys_left + 1):
        next(steps)
    assert store.get(session_id).content == "text"
    assert store.show(session_id).version_count == 1
    assert met[AskError] >= 2
    assert not met[MovedError]
    list(steps)
    assert store.get(session_id).content == "text"
    assert met[MovedError]
    store.close()


TWO_WRITES = """
redis.call('SET', KEYS[1] .. ':first', 'written')
redis.call('SET', KEYS[1] .. ':second', 'written')
return 1
"""


def test_script_does_not_begin_while_the_keys_that_it_derives_may_be_gone(cluster, open_client):
    """Redis would stop it between its writes; the key that never exists makes it wait instead."""
    source, target = cluster.nodes[:2]
    base = SessionKeys.of(cluster.session_on(source, "torn")).base
    slot = slot_of(base.partition("{")[2].partition("}")[0])
    for key in (base, f"{base}:first", f"{base}:second"):
        source.client.set(key, "old", ex=600)
    steps = cluster.migration(slot, target)
    next(steps)
    source.client.execute_command("MIGRATE", HOST, target.port, f"{base}:second", 0, 5000)
    with pytest.raises(ResponseError, match="non local key"):
        source.client.eval(TWO_WRITES, 1, base)  # what would happen
    assert source.client.getset(f"{base}:first", "old") == b"written"

    hasty = open_client(redis_timeout_seconds=0.5)
    with pytest.raises(StoreRefusedError, match="takes no writes now"), redis_errors(hasty):
        hasty.eval(TWO_WRITES, 1, base)
    assert source.client.get(f"{base}:first") == b"old"
    list(steps)
    assert hasty.eval(TWO_WRITES, 1, base) == 1
    assert hasty.mget([f"{base}:first", f"{base}:second"]) == [b"written"] * 2
    hasty.delete(base)
    for key in ("first", "second"):
        hasty.delete(f"{base}:{key}")


@pytest.mark.parametrize("package", ["baton.store", "baton.handoff", "baton.swarm"])
def test_no_script_counts_its_keys_or_takes_them_all(package):
    """On a cluster each is given one more key than it asked for."""
    for script in (resources.files(package) / "lua").iterdir():
        code = re.sub(r"--.*", "", script.read_text(encoding="utf-8"))
        assert set(re.findall(r"\bKEYS\b.{0,3}", code)) <= {"KEYS[1]"}, script.name


def test_pipeline_over_many_sessions_answers_in_the_order_queued(cluster, client):
    """Whatever the nodes, with an error in its place."""
    keys = [SessionKeys.of(f"s-{number}").base for number in range(30)]
    pipeline = client.pipeline(transaction=False)
    for number, key in enumerate(keys):
        pipeline.set(key, number, ex=600)
        pipeline.append(key, "!")
        pipeline.get(key)
    assert pipeline.execute() == [
        answer for number in range(30) for answer in (True, len(f"{number}!"), b"%d!" % number)
    ]
    for key in keys[:3]:
        pipeline.llen(key) if key == keys[1] else pipeline.get(key)
    answers = pipeline.execute(raise_on_error=False)
    assert (answers[0], answers[2]) == (b"0!", b"2!")
    assert isinstance(answers[1], ResponseError)
    pipeline.get(keys[0]).llen(keys[1])
    with pytest.raises(ResponseError, match="# 2"):
        pipeline.execute()
    assert sorted(client.scan_iter(match="context:*", count=10)) == sorted(map(str.encode, keys))


def test_transaction_is_of_one_slot_and_nothing_else_is_queued_in_it(client):
    """Others are refused before anything is sent, as are WATCH and what has no key."""
    pipeline = client.pipeline(transaction=True)
    pipeline.set("{a}1", "x", ex=600).set("{a}2", "y", ex=600)
    assert pipeline.execute() == [True, True]
    pipeline.set("{a}1", "z").set("{b}1", "z")
    with pytest.raises(InvalidInputError, match="keys of one slot"):
        pipeline.execute()
    assert client.get("{a}1") == b"x"
    for call in (lambda: pipeline.watch("{a}1"), client.flushall, client.script_flush):
        with pytest.raises(InvalidInputError):
            call()


@pytest.mark.usefixtures("notes_wait")
@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_node_that_goes_is_a_transient_error_and_its_sessions_are_back_with_it(
    cluster, open_client, how
):
    """Sessions of other nodes are served meanwhile, and notes of reads wait only for the one."""
    lost, served = cluster.nodes[1:]
    ids = {node: cluster.session_on(node, how) for node in (lost, served)}
    client = open_client(redis_timeout_seconds=0.5)
    store = ContextStore(client)
    for session_id in ids.values():
        store.put(session_id, "before", agent_id="a")
        store.get(session_id, agent_id="reader")
    lost.stop() if how == "dies" else lost.signal(signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailableError):
            store.get(ids[lost])
        with pytest.raises(StoreUnavailableError):
            store.put(ids[lost], "never", agent_id="a", base_version="1.0.0")
        until(lambda: serves(store, ids[served]), what="the other node's session")
        notes = SessionKeys.of(ids[served]).access
        for _ in range(2):
            with pytest.raises(TransientError):
                store.flush_notes()
            _, *arrived = served.client.lrange(notes, 0, -1)
            assert arrived  # and none of them twice: each has a number of its own
            assert len(arrived) == len(set(arrived))
    finally:
        lost.start() if how == "dies" else lost.signal(signal.SIGCONT)
        cluster.settle()
    store.flush_notes()
    for session_id in ids.values():
        assert store.get(session_id).content in {"before", "never"}
        assert store.put(session_id, "after", agent_id="a").action == "accepted"
        assert store.get(session_id).content == "after"
    store.close()


def serves(store, session_id):
    """Whether the session is read; a node that hangs may first be asked for the slots."""
    try:
        return store.get(session_id).content == "before"
    except StoreUnavailableError:
        return False


def test_slot_of_a_dead_node_is_asked_for_where_it_was_given_to(cluster, open_client):
    """No MOVED comes from a node that is gone: the client asks another for the slots."""
    lost, heir = cluster.nodes[1:]
    session_id = cluster.session_on(lost, "heir")
    client = open_client(redis_timeout_seconds=5)
    assert not ContextStore(client).exists(session_id)
    lost.stop()
    try:
        for node in (heir, cluster.nodes[0]):
            node.client.execute_command("CLUSTER SETSLOT", slot_of(session_id), "NODE", heir.id)
        heir.client.execute_command("CLUSTER BUMPEPOCH")
        assert not ContextStore(client).exists(session_id)
    finally:
        lost.start()
    cluster.settle()
    assert cluster.owner(slot_of(session_id)) is heir


def test_handoffs_agents_and_pools_live_on_a_cluster_too(cluster, client):
    """No script of theirs leaves its slot, and their pipelines go where the keys are."""
    bench = Bench(client)
    try:
        handoff = bench.run("one", "two", "three", workers=2)
        assert handoff.outcome().state == "done"
        assert [node.state for node in handoff.nodes()] == ["ok"] * 3
        bench.engine.sweep()
        check_expiries(client)
    finally:
        bench.close()
    registry = AgentRegistry(client)
    agents = {registry.register("worker", context_capacity=1).agent_id for _ in range(12)}
    assert {agent.agent_id for agent in registry.list_active()} == agents
    board = PoolBoard(client)
    board.report("agents", "w@host", {"pid": 1})
    assert [pool.pool for pool in board.list()] == ["agents"]


def test_one_node_that_answers_is_enough_to_begin(cluster):
    """A URL may name nodes that are gone."""
    port = cluster.nodes[2].port
    url = f"redis+cluster://{HOST}:1,{HOST}:{port}"
    assert why_silent(url) is None
    with closing(connect(url, ClientSettings())) as client:
        assert [client.get(f"{{{number}}}") for number in range(10)] == [None] * 10
    assert f"{HOST}:1" in why_silent(f"redis+cluster://{HOST}:1")


def test_url_of_a_cluster_and_of_a_server_are_not_taken_for_each_other(cluster, redis_server):
    """The message says which of the two to write; redis-py's own cluster client is refused."""
    session_id = cluster.session_on(cluster.nodes[1])
    with (
        closing(connect(f"redis://{HOST}:{cluster.nodes[0].port}", ClientSettings())) as client,
        pytest.raises(UnexpectedAnswerError, match=r"must begin with redis\+cluster://"),
    ):
        ContextStore(client).exists(session_id)
    with redis.Redis.from_url(redis_server.url) as admin:
        (port,) = free_ports(1)
        admin.config_set("port", port)
        try:
            url = f"redis+cluster://{HOST}:{port}"
            with pytest.raises(InvalidInputError, match=r"without \+cluster"):
                why_silent(url)
            with (
                closing(connect(url, ClientSettings())) as client,
                pytest.raises(UnexpectedAnswerError, match="must begin with redis://"),
            ):
                ContextStore(client).exists(session_id)
        finally:
            admin.config_set("port", 0)
    with (
        redis.RedisCluster(host=HOST, port=cluster.nodes[0].port) as vendor,
        pytest.raises(InvalidInputError, match="a RedisCluster"),
    ):
        require_binary(vendor)


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://", "redis+cluster://:hunter2@", "redis+cluster://:hunter2@h/1",
        "redis+cluster://h:hunter2", "redis+cluster://h,", "redis+cluster://h?foo=hunter2",
    ],
)  # fmt: skip
def test_wrong_url_of_a_cluster_is_refused_before_the_first_command(url):
    """Also one that names a database, of which a cluster has but one."""
    with pytest.raises(InvalidInputError, match=r"^store: expected redis\+cluster://") as caught:
        connect(url, ClientSettings(), field="store")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_password_and_tls_of_a_clusters_url_hold_for_every_node():
    """They stand once, before the first node."""
    url = "rediss+cluster://me:s%40crt@a:1,[::1]:2/?ssl_cert_reqs=none"
    assert redact_url(url) == "rediss+cluster://***@a:1,[::1]:2/?ssl_cert_reqs=***"
    with closing(connect(url, ClientSettings())) as client:
        for address in (("a", 1), ("::1", 2), ("b", 3)):
            pool = client._slots.node(address).connection_pool
            assert pool.connection_class is redis.SSLConnection
            options = pool.connection_kwargs
            assert (options["host"], options["port"]) == address
            assert (options["username"], options["password"]) == ("me", "s@crt")
