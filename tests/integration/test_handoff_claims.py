"""Claims, leases and fences: dead workers, late workers, lost messages, lost answers."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from baton.agents.runner import ChildTask
from baton.errors import FencedError
from baton.handoff.claims import Claim, Ending, Refusal
from baton.handoff.keys import HandoffKeys
from baton.handoff.request import Limits, TaskSpec, make_request
from handoff_bench import WIDE, Killed, Queue, check_census, each_alone, endings, node_of, states
from waiting import until

SHORT = Limits(lease_seconds=0.5, node_timeout_seconds=30)


class StutteringRedis(redis.Redis):
    """Sends every script twice and gives the second answer: a reply was lost, and repeated."""

    def execute_command(self, *args, **options):
        if args[0] in ("EVALSHA", "EVAL"):
            super().execute_command(*args, **options)
        return super().execute_command(*args, **options)

    def pipeline(self, transaction=True, shard_hint=None):
        made = super().pipeline(transaction, shard_hint)
        execute = made.execute

        def twice(raise_on_error=True):
            again = list(made.command_stack)
            execute(raise_on_error=False)
            made.command_stack.extend(again)
            return execute(raise_on_error=raise_on_error)

        made.execute = twice
        return made


def by(runner, *instructions):
    return [TaskSpec(instruction=text, runner=runner) for text in instructions or ("it",)]


def kill_first(times):
    """A runner that takes its worker down with it, `times` times."""
    left = [times]

    def run(assignment):
        if left[0] > 0:
            left[0] -= 1
            raise Killed
        return f"done in attempt {assignment.attempt}"

    return run


def test_node_of_a_dead_worker_runs_again(make_bench):
    """Its lease lapses, the sweep publishes it, another worker commits it once."""
    bench = make_bench({"fatal": kill_first(2)})
    handoff = bench.run(*by("fatal"), "other")
    assert (bench.deaths, states(handoff)) == (1, {"0": "leased", "1": "ok"})
    assert bench.engine.sweep() == 0
    outcome = bench.recover(handoff)
    assert (outcome.state, bench.deaths) == ("done", 2)
    assert handoff.node_result("0") == "done in attempt 3"
    assert endings(handoff) == {"0": 1, "1": 1}


def test_node_that_kills_every_worker_is_lost_after_its_attempts(make_bench):
    """A poison task ends as lost; the others are not held up."""
    bench = make_bench({"fatal": kill_first(100)}, limits=Limits(max_attempts=3))
    handoff = bench.run(*by("fatal"), "other")
    outcome = bench.recover(handoff)
    assert (outcome.state, outcome.census["lost"], bench.deaths) == ("degraded", 1, 3)
    node = node_of(handoff)
    assert (node.state, node.error_type) == ("lost", "LostError")
    assert node.error == "its worker was lost in each of 3 attempts"


def test_node_whose_worker_died_long_ago_is_not_taken_for_timed_out(make_bench):
    """After a night without sweeps, a node whose lease lapsed early still runs again."""
    bench = make_bench(limits=Limits(lease_seconds=0.5, node_timeout_seconds=0.7))
    handoff = bench.submit("a")
    bench.tree.start(handoff.handoff_id)
    claim = bench.claim(handoff)
    deadline_ms = bench.client.zscore(HandoffKeys.of(handoff.handoff_id).due, "0") + 300
    until(lambda: redis_ms(bench.client) > deadline_ms)
    assert bench.engine.sweep() == 1
    assert states(handoff) == {"0": "waiting"}
    bench.pump()
    assert handoff.outcome().state == "done"
    with pytest.raises(FencedError):
        bench.tree.finish(claim, "ok", Ending(), "late")


def test_late_worker_is_refused_everything(bench):
    """After its claim has passed on: no result, no failure, no children, no progress, no lease."""
    handoff = bench.submit("a")
    late = bench.claim(handoff, worker="frozen")
    bench.pass_time(handoff)
    bench.engine.sweep()
    second = bench.claim(handoff, worker="quick")
    assert (second.fence, second.attempt) == (late.fence + 1, 2)
    before = bench.client.xlen(HandoffKeys.of(handoff.handoff_id).events)
    for verdict in ("ok", "failed", "retry"):
        with pytest.raises(FencedError, match="no longer valid"):
            bench.tree.finish(late, verdict, Ending(), "late" if verdict == "ok" else None)
    with pytest.raises(FencedError):
        bench.tree.suspend(late, each_alone(["child"]), "", "draft")
    bench.tree.progress(late, "still here")
    lease = (handoff.handoff_id, "0")
    assert bench.tree.renew([(*lease, late.fence), (*lease, second.fence)]) == ["lost", "held"]
    assert bench.client.xlen(HandoffKeys.of(handoff.handoff_id).events) == before
    assert states(handoff) == {"0": "leased"}
    assert bench.tree.finish(second, "ok", Ending(), "right")[0] == "ok"
    with pytest.raises(FencedError):
        bench.tree.finish(late, "ok", Ending(), "late")
    assert handoff.node_result("0") == "right"


def test_frozen_worker_that_comes_back_reports_itself_fenced(make_bench):
    """The engine takes the refusal as the end of the matter; the quick worker's result stays."""
    frozen, thaw = threading.Event(), threading.Event()

    def freeze(assignment):
        if assignment.attempt == 1:
            frozen.set()
            assert thaw.wait(30)
        return f"attempt {assignment.attempt}"

    bench = make_bench({"freeze": freeze})
    handoff = bench.submit(*by("freeze"))
    bench.queue.messages.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(bench.engine.run_node, handoff.handoff_id, "0")
        assert frozen.wait(30)
        bench.pass_time(handoff)
        bench.engine.sweep()
        bench.pump()
        assert handoff.node_result("0") == "attempt 2"
        thaw.set()
        assert first.result().state == "fenced"
    assert handoff.node_result("0") == "attempt 2"
    assert endings(handoff) == {"0": 1}


def test_renewals_keep_a_long_node_alive(make_bench):
    """Twice as long as its lease and swept all the time, it runs once."""
    release = threading.Event()
    bench = make_bench({"slow": lambda _: release.wait(30) and "done"}, limits=SHORT)
    handoff = bench.submit(*by("slow"))
    worker = threading.Thread(target=bench.pump)
    worker.start()
    until(lambda: states(handoff)["0"] == "leased")
    end_ms = redis_ms(bench.client) + 1_200
    until(lambda: bench.engine.sweep() or redis_ms(bench.client) > end_ms)
    release.set()
    worker.join()
    bench.pump()
    assert (node_of(handoff).attempt, handoff.outcome().state) == (1, "done")


def test_renewals_keep_the_keys_of_a_long_node_alive(bench):
    """A node may run longer than its handoff is kept after its end."""
    handoff = bench.submit("a", limits=Limits(retention_seconds=60, node_timeout_seconds=600))
    claim = bench.claim(handoff)
    base = HandoffKeys.of(handoff.handoff_id).base
    for suffix in ("", ":plan", ":nodes", ":events", ":due"):
        assert bench.client.pexpire(base + suffix, 5_000)
    bench.tree.renew([(handoff.handoff_id, "0", claim.fence)])
    for suffix in ("", ":plan", ":nodes", ":events", ":due"):
        assert bench.client.pttl(base + suffix) > 50_000


def test_claim_is_given_once_to_many_racers(bench):
    """Of sixteen workers one gets the node; the fence rises by one."""
    handoff = bench.submit("a")
    barrier = threading.Barrier(16)

    def race(number):
        barrier.wait()
        return bench.tree.claim(handoff.handoff_id, "0", f"worker_{number}")

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(race, range(16)))
    claims = [answer for answer in answers if isinstance(answer, Claim)]
    assert [claim.fence for claim in claims] == [1]
    assert {answer.state for answer in answers if isinstance(answer, Refusal)} == {"leased"}


def test_message_that_the_broker_lost_is_published_again(make_bench):
    """Start, run and join: each lost once, each found by the sweep."""
    lost = set()

    def drops(message):
        known = (message.kind, message.node_id) in lost
        lost.add((message.kind, message.node_id))
        return not known

    bench = make_bench(queue=Queue(drops=drops))
    handoff = bench.run("a", "b", "c")
    assert states(handoff) == dict.fromkeys("012", "waiting")
    outcome = bench.recover(handoff)
    assert (outcome.state, outcome.census["ok"]) == ("done", 3)
    assert lost == {("start", ""), ("join", ""), *(("run", str(slot)) for slot in range(3))}
    assert [node.attempt for node in handoff.nodes()] == [1, 1, 1]


def test_half_of_all_messages_lost_and_the_rest_doubled_still_ends(make_bench):
    """Any mix of loss, duplication and order drives the handoff to its one end."""
    for seed in range(4):
        rng = random.Random(seed)
        queue = Queue(copies=2, shuffle=rng, drops=lambda _message, rng=rng: rng.random() < 0.5)
        bench = make_bench({"fatal": kill_first(3)}, queue=queue)
        handoff = bench.run("a", "b", *by("fatal", "c", "d", "e"), "f")
        outcome = bench.recover(handoff)
        assert (outcome.state, outcome.census["ok"]) == ("done", 6)
        assert set(endings(handoff).values()) == {1}
        assert bench.store.get("session_1").content.count(handoff.handoff_id) == 1
        check_census(bench.client, handoff.handoff_id)


def test_waiting_node_is_postponed_while_messages_queue_but_not_for_ever(bench):
    """A long queue is borne with for a while, then twice as long: its messages may be in it."""
    handoff = bench.submit("a")
    bench.tree.start(handoff.handoff_id)
    bench.queue.messages.clear()
    bench.queue.reported_backlog = 10
    published = []
    for _ in range(20):
        bench.pass_time(handoff)
        published.append(bench.engine.sweep())
    assert published == [0, 0, 0, 0, 1] + [0] * 8 + [1] + [0] * 6
    bench.queue.reported_backlog = 0
    bench.pass_time(handoff)
    assert bench.engine.sweep() == 1


def test_lapsed_lease_is_found_behind_a_thousand_waiting_nodes(bench):
    """Those who only wait their turn do not hide a node whose worker was lost."""
    handoff = bench.submit(*[f"task {n}" for n in range(1_000)], limits=WIDE)
    bench.tree.start(handoff.handoff_id)
    bench.claim(handoff, "999")
    bench.pass_time(handoff)
    bench.client.zadd(HandoffKeys.of(handoff.handoff_id).due, {"999": 2})
    bench.queue.reported_backlog = 10
    bench.queue.published.clear()
    assert bench.engine.sweep() == 1
    assert [message.node_id for message in bench.queue.published] == ["999"]


def test_sweep_publishes_a_bounded_number_at_once(bench):
    """Hundreds of lost messages come back in portions, not as a storm."""
    handoff = bench.submit(*[f"task {n}" for n in range(450)], limits=WIDE)
    bench.tree.start(handoff.handoff_id)
    bench.queue.messages.clear()
    bench.pass_time(handoff)
    assert bench.engine.sweep() in range(200, 264)
    assert bench.recover(handoff).state == "done"


def test_handoff_under_repeated_commands_counts_everything_once(make_bench, redis_server):
    """Every answer lost and every script asked twice: one attempt, one end, one version."""
    client = StutteringRedis.from_url(redis_server.url)
    bench = make_bench({"parent": parent}, client=client)
    handoff = bench.submit("a", *by("parent"), "b")
    bench.after = lambda: check_census(bench.client, handoff.handoff_id)
    bench.pump()
    outcome = handoff.outcome()
    assert (outcome.state, outcome.version) == ("done", "1.0.1")
    assert [node.attempt for node in handoff.nodes()] == [1] * 5
    assert set(endings(handoff).values()) == {1}
    assert bench.store.get("session_1").content.count(handoff.handoff_id) == 1
    assert bench.queue.kinds()["start"] == 1
    client.close()


def test_cancel_under_repeated_commands_ends_every_node(make_bench, redis_server):
    """As above, for cancelling."""
    client = StutteringRedis.from_url(redis_server.url)
    bench = make_bench(client=client)
    handoff = bench.submit(*[f"task {n}" for n in range(600)])
    assert handoff.cancel() == "cancelled"
    assert handoff.outcome().census["cancelled"] == 600
    check_census(bench.client, handoff.handoff_id)
    client.close()


def test_open_twice_is_once(bench):
    """A repeated opening changes nothing, whatever has happened since."""
    request = make_request(
        session_id="session_1",
        context_version="1.0.0",
        agent_id="a",
        tasks=[{"instruction": "x"}],
    )
    bench.tree.open("handoff_1", request, "work")
    handoff = bench.handoffs.find("handoff_1")
    claim = bench.claim(handoff)
    bench.tree.open("handoff_1", request, "work")
    assert states(handoff) == {"0": "leased"}
    assert bench.tree.finish(claim, "ok", Ending(), "x")[0] == "ok"
    assert bench.tree.finish(claim, "ok", Ending(), "x")[0] == "ok"
    assert handoff.outcome().census["ok"] == 1
    bench.pump()
    assert bench.recover(handoff).state == "done"


def test_finish_asked_twice_tells_again_what_follows(bench):
    """If the first answer was lost, the second carries the same messages."""
    handoff = bench.submit("a")
    claim = bench.claim(handoff)
    first = bench.tree.finish(claim, "ok", Ending(), "x")
    assert bench.tree.finish(claim, "ok", Ending(), "x") == first
    assert [move.kind for move in first[1]] == ["join"]


def parent(assignment):
    """Two children, then their results."""
    if not assignment.children:
        assignment.spawn([ChildTask("x", "work"), ChildTask("y", "work")], then="collect")
        return "draft"
    return " and ".join(child.content for child in assignment.children)


def redis_ms(client):
    seconds, microseconds = client.time()
    return seconds * 1000 + microseconds / 1000
