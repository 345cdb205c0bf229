"""Faults of the list that no other file shows of handoffs; each test names its row."""

from __future__ import annotations

import json
import random
import secrets
import shutil
import signal
import tempfile
import threading
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
import redis

from baton.agents.breakers import BreakerPolicy, ModelBreakers
from baton.agents.budget import Budget
from baton.agents.runner import ChildTask
from baton.dispatch import client_dispatcher
from baton.errors import BrokerUnavailableError, HandoffBacklogError, TransientError
from baton.handoff.keys import HandoffKeys
from baton.handoff.request import Limits
from baton.handoff.submission import Handoffs
from baton.redis_client import connect
from baton.settings import ClientSettings, load_settings
from baton.store.contexts import ContextStore
from baton.testing.fake_anthropic import Cut, Reply, ToolCall, overloaded, rate_limited
from cutting_proxy import CuttingProxy
from handoff_bench import AGENT, CONTEXT, SESSION, Killed, check_census, node_of, states
from link_proxy import LinkProxy
from waiting import until

SLOW_BYTES_PER_SECOND = 125_000  # 1 Mbit/s


@pytest.fixture
def folder():
    """A folder whose path is short enough for a unix socket."""
    made = Path(tempfile.mkdtemp(prefix="baton-link-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def link(redis_client, redis_server, folder):
    """Makes a proxy before the test's server."""
    made = []

    def make(kind=LinkProxy, **options):
        made.append(kind(redis_server.socket, folder, **options))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def own_server(redis_server, folder):
    """A server of the test's own, of the same kind, which it may freeze or starve."""
    server = type(redis_server)(redis_server.binary, folder)
    server.start()
    yield server
    server.stop(signal.SIGKILL)


def settings_of(url, *, broker=None, **fields):
    return load_settings(ClientSettings, redis_url=url, broker_url=broker, **fields)


def through(proxy):
    return f"unix://{proxy.path}?db=0"


# --- A: processes that die -----------------------------------------------------------------------


@pytest.mark.parametrize("sent", [1, 50, 99])
def test_spawner_killed_amid_its_children_leaves_each_of_a_hundred_once(make_bench, sent):
    """A8: they are written at once, so those that were not published come by the sweep."""
    runs = []

    def lead(assignment):
        if assignment.children:
            return f"{len(assignment.children)} children"
        assignment.spawn([ChildTask(f"child {n}", "child") for n in range(100)], then="count")
        return "draft"

    def child(assignment):
        runs.append(assignment.node_id)
        return assignment.instruction

    bench = make_bench({"lead": lead, "child": child})
    put, left = bench.queue.put, sent

    def dying_put(message):
        nonlocal left
        if message.node_id.startswith("0."):
            if left == 0:
                left = -1
                raise Killed
            left -= 1
        put(message)

    bench.queue.put = dying_put
    handoff = bench.run(ChildTask("x", "lead"))
    bench.queue.put = put
    assert bench.deaths == 1
    assert bench.recover(handoff).state == "done"
    assert handoff.node_result("0") == "100 children"
    assert sorted(runs) == sorted(f"0.{n}" for n in range(100))
    check_census(bench.client, handoff.handoff_id)


# --- B: Redis ------------------------------------------------------------------------------------


def test_frozen_redis_is_an_error_for_whoever_submits_and_the_repeat_is_one_handoff(
    own_server, monkeypatch
):
    """B9: store and broker stand still; nobody hangs, and the key makes asking again safe."""
    monkeypatch.setattr("baton.dispatch.PUBLISH_RETRY", {"max_retries": 1, "interval_start": 0.01})
    broker = f"redis+socket://{own_server.socket}?virtual_host=1"
    settings = settings_of(own_server.url, broker=broker, redis_timeout_seconds=0.5)
    dispatcher = client_dispatcher(own_server.url, settings)
    with closing(connect(own_server.url, settings)) as client, closing(dispatcher):
        store = ContextStore(client)
        store.put(SESSION, CONTEXT, agent_id=AGENT)
        handoffs = Handoffs(client, store, dispatcher)
        open_one = handoffs.submit(SESSION, ["a"], agent_id=AGENT)

        def submit():
            return handoffs.submit(SESSION, ["b"], agent_id=AGENT, idempotency_key="b")

        own_server.process.send_signal(signal.SIGSTOP)
        try:
            for ask in (submit, open_one.outcome, open_one.cancel):
                with pytest.raises(TransientError):
                    ask()
            with pytest.raises(BrokerUnavailableError):
                dispatcher.start(open_one.handoff_id)
        finally:
            own_server.process.send_signal(signal.SIGCONT)
        assert submit().handoff_id == submit().handoff_id
        assert len(handoffs.newest()) == 2
        store.close()


def test_more_threads_than_connections_wait_for_one_another(make_bench, redis_server):
    """B14: the pool is bounded, and who finds it empty queues; the server sees no more clients."""
    settings = settings_of(redis_server.url, redis_max_connections=4)
    with closing(connect(redis_server.url, settings)) as client:
        bench = make_bench(client=client)
        handoff = bench.run(*[f"task {n}" for n in range(100)], workers=24)
        assert bench.recover(handoff).state == "done"
        assert len(client.connection_pool._connections) <= 4
    check_census(bench.client, handoff.handoff_id)


def test_server_without_a_place_for_another_client_is_a_typed_error(own_server):
    """B14: `maxclients` is reached; what is refused is told, and goes on when there is room."""
    crowd = [redis.Redis.from_url(own_server.url, single_connection_client=True) for _ in range(20)]
    settings = settings_of(own_server.url, redis_timeout_seconds=0.3)
    with closing(connect(own_server.url, settings)) as client:
        store = ContextStore(client)
        crowd[0].config_set("maxclients", len(crowd))
        with pytest.raises(TransientError):
            store.put(SESSION, CONTEXT, agent_id=AGENT)
        crowd.pop().close()
        until(lambda: store.put(SESSION, CONTEXT, agent_id=AGENT), what="a place")
        store.close()
    for each in crowd:
        each.close()


# --- C: the network ------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "sent"), [("after", 2), ("amid", 1)])
def test_publishing_whose_connection_is_cut_may_double_a_message_and_not_its_effect(
    make_bench, link, redis_server, how, sent
):
    """C5: published again, as nobody knows whether it was; the second finds the node ended."""
    proxy = link(CuttingProxy)
    broker_url = f"redis+socket://{proxy.path}?virtual_host=1"
    dispatcher = client_dispatcher(
        redis_server.url, settings_of(redis_server.url, broker=broker_url)
    )
    runs = []
    bench = make_bench({"note": lambda assignment: str(runs.append(assignment.node_id))})
    handoff = bench.submit(ChildTask("x", "note"))
    bench.tree.start(handoff.handoff_id)
    with (
        closing(dispatcher),
        redis.Redis(unix_socket_path=str(redis_server.socket), db=1) as broker,
    ):
        dispatcher.run("handoff_before", ["0"])
        broker.delete("agents")
        proxy.cut(1, how)
        dispatcher.run(handoff.handoff_id, ["0"])
        assert proxy.has_cut
        messages = [json.loads(raw)["headers"] for raw in broker.lrange("agents", 0, -1)]
    assert {each["argsrepr"] for each in messages} == {f"('{handoff.handoff_id}', '0')"}
    assert len(messages) == sent
    for _ in messages:
        bench.engine.run_node(handoff.handoff_id, "0")
    assert runs == ["0"]


def test_link_of_a_megabit_slows_a_handoff_and_repeats_nothing(make_bench, link, redis_server):
    """C7: nodes wait for their bytes, within their leases; none runs twice, none piles up."""
    proxy = link(bytes_per_second=SLOW_BYTES_PER_SECOND)
    with closing(connect(through(proxy), settings_of(redis_server.url))) as client:
        bench = make_bench({"long": lambda _: secrets.token_hex(3_000)}, client=client)
        handoff = bench.run(*[ChildTask(f"{n}", "long") for n in range(24)], workers=12)
        bench.engine.sweep()
        assert handoff.outcome().state == "done"
        assert {node.attempt for node in handoff.nodes()} == {1}


def test_orchestrator_that_is_parted_from_redis_loses_and_doubles_nothing(
    make_bench, link, redis_server
):
    """C8: it is told; the handoff under way goes on without it; asked again, each is one."""
    proxy = link()
    inside = make_bench()
    settings = settings_of(redis_server.url, redis_timeout_seconds=0.5)
    with closing(connect(through(proxy), settings)) as client:
        outside = make_bench(client=client)
        outside.queue = inside.queue
        handoffs = Handoffs(client, outside.store, inside.queue, default_runner="work")

        def submit(key):
            return handoffs.submit(SESSION, ["a", "b"], agent_id=AGENT, idempotency_key=key)

        before = submit("before")
        proxy.part()
        for ask in (lambda: submit("during"), before.outcome):
            with pytest.raises(TransientError):
                ask()
        inside.pump()
        proxy.heal()
        assert until(before.outcome).state == "done"
        during = submit("during")
        inside.pump()
        assert inside.recover(during).state == "done"
        assert submit("during").handoff_id == during.handoff_id
        assert len(handoffs.newest()) == 2
        assert inside.store.get(SESSION).version == "1.0.2"


# --- D: time -------------------------------------------------------------------------------------


def test_worker_with_a_clock_hours_ahead_changes_no_lease(make_bench, monkeypatch):
    """D1: leases, deadlines and sweeps go by Redis' clock; each node runs once."""
    runs = []
    bench = make_bench({"note": lambda assignment: str(runs.append(assignment.node_id))})
    real = bench.client.time
    monkeypatch.setattr("time.time", lambda: real()[0] + 7200.0)
    handoff = bench.submit(*[ChildTask("x", "note")] * 3, budget=Budget(deadline_seconds=60))
    bench.pump()
    bench.engine.sweep()
    bench.pump()
    assert handoff.outcome().state == "done"
    assert sorted(runs) == ["0", "1", "2"]


def test_messages_are_never_sent_for_later(redis_client, redis_server):
    """D5: no message of ours has an ETA or an expiry: what waits, waits in the tree."""
    broker = f"redis+socket://{redis_server.socket}?virtual_host=1"
    settings = settings_of(redis_server.url, broker=broker)
    with closing(client_dispatcher(redis_server.url, settings)) as dispatcher:
        dispatcher.start("handoff_1")
        dispatcher.run("handoff_1", ["0", "1"])
        dispatcher.join("handoff_1")
    with redis.Redis(unix_socket_path=str(redis_server.socket), db=1) as client:
        sent = [json.loads(raw)["headers"] for queue in ("agents", "context")
                for raw in client.lrange(queue, 0, -1)]  # fmt: skip
    assert len(sent) == 4
    assert {(each["eta"], each["expires"], each["retries"]) for each in sent} == {(None, None, 0)}


def test_deadline_that_passed_before_a_single_node_began_ends_the_handoff_at_once(make_bench):
    """Its end is published with its start, not found by the sweep half a minute later."""
    bench = make_bench()
    handoff = bench.submit("a", budget=Budget(deadline_seconds=0.001))
    until(lambda: _passed(bench, handoff), what="the deadline")
    bench.pump()
    assert states(handoff) == {"0": "over_budget"}
    assert [message for message in bench.queue.published if message.node_id == ""
            and message.kind == "run"] == []  # fmt: skip
    assert handoff.outcome().ended


def _passed(bench, handoff):
    seconds, microseconds = bench.client.time()
    due = bench.client.hget(HandoffKeys.of(handoff.handoff_id).base, "deadline_at")
    return seconds * 1000 + microseconds / 1000 > float(due)


# --- F: outcomes ---------------------------------------------------------------------------------


def test_no_more_handoffs_are_taken_while_too_many_are_open(bench):
    """F9: workers that do not keep up push back on who submits, before anything is written."""
    handoffs = Handoffs(bench.client, bench.store, bench.queue, max_open=2, default_runner="work")
    first = handoffs.submit(SESSION, ["a"], agent_id=AGENT, idempotency_key="first")
    handoffs.submit(SESSION, ["b"], agent_id=AGENT)
    before = sorted(bench.client.keys("*"))
    with pytest.raises(HandoffBacklogError, match="2 handoffs are open, and 2 may be"):
        handoffs.submit(SESSION, ["c"], agent_id=AGENT)
    assert sorted(bench.client.keys("*")) == before
    again = handoffs.submit(SESSION, ["a"], agent_id=AGENT, idempotency_key="first")
    assert again.handoff_id == first.handoff_id
    bench.pump()
    assert handoffs.submit(SESSION, ["c"], agent_id=AGENT).outcome().state == "running"


def test_error_of_a_runner_is_told_without_the_keys_in_it(make_bench):
    """What an outcome tells of an error goes to logs, events and the merged result."""
    secret = "sk-ant-api03-" + "Ab1" * 20

    def leak(assignment):
        raise ValueError(f"the API refused {secret}, sent as Bearer {secret}")

    bench = make_bench({"leak": leak})
    handoff = bench.run(ChildTask("x", "leak"), "b")
    told = [node_of(handoff).error, str(handoff.result()), str(list(handoff.events()))]
    assert "the API refused" in told[0]
    assert [text for text in told if secret in text] == []


# --- K: the model's API, through the whole engine ------------------------------------------------


@pytest.fixture
def claude(anthropic_bench, make_bench):
    """Makes a bench of handoffs whose runner `claude` is the Anthropic one over the fake."""

    def make(limits=None, **options):
        runner = anthropic_bench.runner(warms=False, **options)
        return make_bench({"claude": runner}, **({"limits": limits} if limits else {}))

    return make


def by_claude(*instructions):
    return [ChildTask(each, "claude") for each in instructions]


def test_node_that_waits_as_long_as_the_api_asks_keeps_its_lease_and_its_attempt(
    claude, anthropic_bench
):
    """K1: the wait is longer than the lease; nobody else takes the node."""
    fake = anthropic_bench.fake
    fake.fail(rate_limited(retry_after_seconds=1.5))
    bench = claude(limits=Limits(lease_seconds=0.5, node_timeout_seconds=60))
    handoff = bench.submit(*by_claude("x"))
    worker = threading.Thread(target=bench.pump)
    worker.start()
    while worker.is_alive():
        bench.engine.sweep()
        worker.join(0.1)
    refused, answered = anthropic_bench.answered()
    assert (refused.status, answered.status) == (429, 200)
    assert answered.received_at - refused.received_at >= 1.5
    assert (node_of(handoff).state, node_of(handoff).attempt) == ("ok", 1)


def test_outage_of_the_api_costs_few_calls_and_no_handoff(claude, anthropic_bench, redis_client):
    """K3: nothing but 529 for a while; then all nodes end ok, for at most 1.3 calls each."""
    policy = BreakerPolicy(failures=3, of_calls=4, open_seconds=0.2, longest_open_seconds=0.4)
    anthropic_bench.model_breakers = ModelBreakers(redis_client, policy)
    fake = anthropic_bench.fake
    fake.fail(overloaded(), times=None)
    bench = claude()
    handoff = bench.submit(*by_claude(*[f"task {n}" for n in range(80)]))
    workers = [threading.Thread(target=bench.pump) for _ in range(4)]
    for each in workers:
        each.start()
    until(lambda: sum(call.status == 529 for call in anthropic_bench.answered()) >= 6)
    fake.recover()
    for each in workers:
        each.join()
    assert bench.recover(handoff, workers=4).state == "done"
    assert len(anthropic_bench.answered()) <= 1.3 * 80


def malformed(rng):
    """An answer that is none: empty, broken off, or a wrong call of a tool."""
    arguments = rng.choice(
        ["{", "[]", "null", '"text"', "{}", {"tasks": []}, {"tasks": "x"}, {"result": ""},
         {"result": 7}, {"start": -1, "end": 10**30}, {"query": None}, {"label": "a\nb"},
         {"tasks": ["x"] * 10_000}, {"unknown": True}, {"start": "0", "end": "x"}]
    )  # fmt: skip
    tools = ("read_context", "search_context", "spawn_workers", "report", "checkpoint", "purge")
    call = ToolCall(rng.choice(tools), arguments)
    endings = ("max_tokens", "refusal", "stop_sequence", "model_context_window_exceeded", "new")
    return rng.choice(
        [Reply(""), Reply(" \n\t"), Reply("half", stop_reason=rng.choice(endings)),
         Reply("x", breaks_json=True), Reply("word " * 50, cut=Cut(rng.randint(0, 4))),
         Reply(tool_calls=[call]), Reply("and", tool_calls=[call, call])]
    )  # fmt: skip


def test_two_hundred_malformed_answers_fail_their_nodes_with_a_reason(claude, anthropic_bench):
    """K7: none is stored as a result, none spawns, none ends its worker or is asked for ever."""
    rng = random.Random(4)
    answers = {f"case {n}": malformed(rng) for n in range(200)}
    anthropic_bench.fake.reply_with(
        lambda request: answers[next(line for line in reversed(_texts(request)) if line in answers)]
    )
    bench = claude(limits=Limits(max_attempts=1), max_mistakes=2)
    handoff = bench.run(*by_claude(*answers), workers=4)
    outcome = bench.recover(handoff, workers=4)
    nodes = handoff.nodes()
    assert outcome.census.total == len(nodes) == 200
    assert {node.state for node in nodes} == {"failed"}
    assert [node for node in nodes if not node.error] == []
    assert len(anthropic_bench.answered()) <= 3 * 200


def _texts(request):
    """The lines of the task, which stand in the first turn of a request."""
    texts = []
    for block in request.body["messages"][0]["content"]:
        texts += block.get("text", "").splitlines() if isinstance(block, dict) else []
    return texts


UNTRUSTED = [
    "handoff.start", "../../etc/passwd", f"context:claude_max:{{{SESSION}}}:chunks:0", "*",
    "agents\x00", "handoff_1", "{other}:audit", "\u202egnp.exe", "'; FLUSHALL",
]  # fmt: skip


def test_what_a_model_says_names_nothing_downstream(claude, anthropic_bench, redis_client):
    """K10: as task, result or label, ids and paths are text: no key, agent or session by them."""

    def answer(request):
        if request.tool_results or "UNTRUSTED" not in request.last_text:
            return Reply(tool_calls=[ToolCall("report", {"result": "\n".join(UNTRUSTED)})])
        spawn = ToolCall("spawn_workers", {"tasks": UNTRUSTED, "then": None})
        marks = [ToolCall("checkpoint", {"label": text}) for text in UNTRUSTED]
        return Reply("draft", tool_calls=[*marks, spawn])

    anthropic_bench.fake.reply_with(answer)
    bench = claude(max_mistakes=20)
    handoff = bench.run(*by_claude("UNTRUSTED"))
    bench.recover(handoff)
    keys = {key.decode("utf-8", "backslashreplace") for key in redis_client.scan_iter()}
    ours = (f"{{handoff:{handoff.handoff_id}}}", f"handoff:{{{handoff.handoff_id}}}",
            f"{{context:claude_max:{SESSION}}}", f"context:claude_max:{{{SESSION}}}",
            "handoff", "models:")  # fmt: skip
    assert [key for key in keys if not key.startswith(ours)] == []
    assert bench.store.get(SESSION).content.startswith(CONTEXT)
    assert {mark.label for mark in bench.store.checkpoints(SESSION)} <= set(UNTRUSTED)


def test_endless_tool_loops_stop_at_the_budget(claude, anthropic_bench):
    """K11: models that search for ever, times retries, times fan-out: the bill is below."""
    fake = anthropic_bench.fake
    fake.reply_with(lambda _: Reply(tool_calls=[ToolCall("search_context", {"query": "lease"})]))
    cap = Decimal("0.004")
    bench = claude(max_turns=10_000, max_output_tokens=500)
    handoff = bench.run(*by_claude(*[f"task {n}" for n in range(6)]), workers=6,
                        budget=Budget(usd=cap))  # fmt: skip
    outcome = bench.recover(handoff, workers=6)
    account = handoff.account()
    assert fake.spent_usd <= account.spent_usd <= cap
    assert account.held_usd == 0
    assert outcome.census["over_budget"] >= 1
    assert outcome.census["over_budget"] + outcome.census["failed"] == 6
    bench.handoffs.retry(handoff.handoff_id)
    bench.pump()
    assert bench.recover(handoff).state == "failed"
    assert fake.spent_usd <= handoff.account().spent_usd <= cap
