"""A process is killed, or frozen and thawed, at each failpoint; what it did is done once, not lost.

`BATON_FAILPOINT_REPEATS` repeats each with other counts and deliveries (`make failpoints`).
"""

from __future__ import annotations

import json
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import redis
from nodes import RedisProcess
from runner_functions import NAMES
from stack import Stack

from baton import ChildTask, ClientSettings, RedisSwarmCoordinator
from baton.failpoints import FAILPOINTS
from baton.handoff.keys import OPEN, HandoffKeys
from baton.handoff.view import HandoffView
from baton.store.contexts import ContextStore
from handoff_invariants import (
    check_appended_once,
    check_budget,
    check_ended,
    check_paid_once,
    check_results,
)
from handoff_processes import (
    AGENT,
    BROKEN,
    CALL_TOKENS,
    CALLS,
    CONTEXT,
    LEDGER,
    MENDED,
    RESULTS,
    SESSION,
    ListBroker,
    Nursery,
    rounds,
    submit,
)
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from baton import Handoff
    from handoff_processes import Child

pytestmark = pytest.mark.acceptance

REPEATS = int(os.environ.get("BATON_FAILPOINT_REPEATS", "1"))
AT_ONCE = 4
STATES = {**dict.fromkeys(RESULTS, "ok"), BROKEN: "failed"}
MENDED_RESULTS = {**RESULTS, BROKEN: "weak, mended"}

# How often a worker reaches it in one handoff, at the least; elsewhere once.
REACHED = {
    "node.claiming": 7, "node.claimed": 7, "node.loaded": 2, "node.ran": 6, "node.committing": 6,
    "node.committed": 6, "node.published": 6, "lease.renewing": 2, "lease.renewed": 2,
}  # fmt: skip
# Where Celery or its adapter stands between: those are killed in the real pools, below.
IN_POOLS = ("dispatch.", "start.", "run.", "join.received", "join.returned")
# The archive's: test_archive_failpoints.py; the audit's: tests/integration/test_audit_carry.py.
ELSEWHERE = ("archive.", "restore.", "purge.", "audit.")
BY_PROCESSES = sorted(name for name in FAILPOINTS if not name.startswith(IN_POOLS + ELSEWHERE))


@dataclass(frozen=True)
class Case:
    """One failpoint in one repeat: `kill` or `stop`, and what becomes of unanswered messages."""

    name: str
    action: str
    repeat: int

    def armed(self) -> str:
        """The setting: the first reaching in the first repeat, any later."""
        most = REACHED.get(self.name, 1)
        at = 1 if self.repeat == 0 else random.Random(repr(self)).randint(1, most)
        return f"{self.name}={self.action}@{at}"

    @property
    def redelivers(self) -> bool:
        """Whether the broker delivers again what the worker took, or has lost it."""
        return (BY_PROCESSES.index(self.name) + self.repeat) % 2 == 0


class Scene:
    """One database of one Redis, with a session, and processes that work on it."""

    def __init__(self, nursery: Nursery, url: str, case: Case) -> None:
        self.nursery, self.url, self.case = nursery, url, case
        self.client = redis.Redis.from_url(url)
        self.client.flushdb()
        self.children: list[Child] = []
        self.store = ContextStore(self.client)
        self.store.put(SESSION, CONTEXT, agent_id=AGENT)

    def close(self) -> None:
        for child in self.children:
            self.nursery.kill(child)
        self.store.close()
        self.client.close()

    def start(self, part: str, armed: str = "", **fields: str) -> Child:
        child = self.nursery.start(part, self.url, armed=armed, **fields)
        self.children.append(child)
        return child

    def fail(self, part: str, **fields: str) -> Child:
        """Play `part` until its process meets its end, or its freeze, at the case's failpoint."""
        victim = self.start(part, self.case.armed(), **fields)
        self.nursery.wait(victim, "ended", "stopped")
        expected = ("stopped", None) if self.case.action == "stop" else ("ended", -9)
        assert (victim.state, victim.exit_code) == expected, self.case
        self.let_go(victim)
        return victim

    def let_go(self, victim: Child) -> None:
        """What the broker does with the messages that the victim had taken."""
        broker = ListBroker(self.client, victim.name)
        if self.case.redelivers:
            broker.deliver_again()

    def thaw(self, victim: Child) -> None:
        """Let a frozen worker go on, until it has said all that it had to say."""
        if victim.state == "ended":
            return
        os.kill(victim.pid, signal.SIGCONT)
        if not victim.name.startswith("worker"):
            self.nursery.wait(victim)
            return
        begun = rounds(self.client, victim.name)
        until(lambda: rounds(self.client, victim.name) > begun + 1, what="the thawed worker's end")

    def wait_ended(self, handoff_id: str) -> None:
        view = HandoffView(self.client)
        until(lambda: view.outcome(handoff_id).ended, 60, f"the end of a handoff ({self.case})")
        until(lambda: self.client.zscore(OPEN, handoff_id) is None, what="its leaving the list")

    def check(self, handoff_id: str) -> None:
        check_ended(self.client, handoff_id, STATES)
        check_results(self.client, handoff_id, RESULTS)
        check_appended_once(self.client, self.store, SESSION, handoff_id, CONTEXT)
        check_paid_once(self.client, handoff_id, LEDGER)
        check_budget(self.client, handoff_id, self.client.llen(CALLS) * CALL_TOKENS)
        assert len(self.store.history(SESSION)) == 2


def a_worker(scene: Scene) -> None:
    """It meets its end in the middle of a handoff; another does the rest, and it comes back."""
    handoff_id = submit(scene.client, scene.store, "key")
    victim = scene.fail("worker")
    scene.start("worker")
    scene.wait_ended(handoff_id)
    scene.check(handoff_id)
    scene.thaw(victim)
    scene.check(handoff_id)


def a_sweep(scene: Scene) -> None:
    """It meets its end while it publishes a start again that the broker had lost."""
    handoff_id = submit(scene.client, scene.store, "key")
    ListBroker(scene.client).lose_all()
    due = HandoffKeys.of(handoff_id).due
    until(lambda: _is_due(scene.client, due), what="the sweep's turn")
    if scene.case.name == "sweep.closing":
        scene.start("worker")
        scene.wait_ended(handoff_id)
        scene.nursery.kill(scene.children.pop())
        scene.client.zadd(OPEN, {handoff_id: 1})  # as one that died at join.closing leaves it
    victim = scene.fail("worker")
    scene.start("worker")
    scene.wait_ended(handoff_id)
    scene.check(handoff_id)
    scene.thaw(victim)
    scene.check(handoff_id)


def a_submission(scene: Scene) -> None:
    """It meets its end; asked again under its key, it is one handoff, and done once."""
    scene.start("worker")
    victim = scene.fail("submit", key="key")
    handoff_id = submit(scene.client, scene.store, "key")
    scene.wait_ended(handoff_id)
    scene.check(handoff_id)
    scene.thaw(victim)
    scene.wait_ended(handoff_id)
    scene.check(handoff_id)


def a_cancellation(scene: Scene) -> None:
    """It meets its end half-way: the handoff is cancelled, and no node of it runs."""
    handoff_id = submit(scene.client, scene.store, "key")
    victim = scene.fail("cancel", handoff_id=handoff_id)
    scene.start("worker")
    scene.wait_ended(handoff_id)
    scene.thaw(victim)
    check_ended(scene.client, handoff_id, dict.fromkeys("01234", "cancelled"))
    check_results(scene.client, handoff_id, {})
    assert scene.client.llen(LEDGER) == 0
    assert scene.store.get(SESSION).content == CONTEXT


def a_retry(scene: Scene) -> None:
    """It meets its end; the failed node goes again once, and those that were ok never do."""
    handoff_id = submit(scene.client, scene.store, "key")
    scene.start("worker")
    scene.wait_ended(handoff_id)
    scene.client.delete(LEDGER)
    scene.client.set(MENDED, "1")
    victim = scene.fail("retry", handoff_id=handoff_id)
    scene.wait_ended(handoff_id)
    if HandoffView(scene.client).outcome(handoff_id).state != "done":
        scene.nursery.wait(scene.start("retry", handoff_id=handoff_id))
        scene.wait_ended(handoff_id)
    scene.thaw(victim)
    scene.wait_ended(handoff_id)
    assert HandoffView(scene.client).outcome(handoff_id).state == "done"
    check_results(scene.client, handoff_id, MENDED_RESULTS)
    assert scene.client.llen(LEDGER) == 1
    content = scene.store.get(SESSION).content
    assert (content.count("weak, mended"), content.count("plain, 20")) == (1, 1)
    assert len(scene.store.history(SESSION)) == 3


PLAYS: dict[str, Callable[[Scene], None]] = {
    "submit": a_submission, "sweep": a_sweep, "cancel": a_cancellation, "retry": a_retry,
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Any]:
    """The chosen cases, played several at once, each in a database of its own."""
    wanted = [item.callspec.params["case"] for item in request.session.items
              if "case" in getattr(getattr(item, "callspec", None), "params", {})]  # fmt: skip
    log = tmp_path_factory.mktemp("nursery") / "nursery.log"
    server = RedisProcess()
    server.start()
    try:
        with Nursery(log) as nursery, ThreadPoolExecutor(AT_ONCE) as pool:
            databases = list(range(AT_ONCE))

            def play(case: Case) -> None:
                database = databases.pop()
                try:
                    url = f"unix://{server.socket}?db={database}"
                    with closing(Scene(nursery, url, case)) as scene:
                        PLAYS.get(case.name.split(".")[0], a_worker)(scene)
                finally:
                    databases.append(database)

            futures: dict[Case, Future[None]] = {case: pool.submit(play, case) for case in wanted}
            yield futures
            pool.shutdown(cancel_futures=True)
    finally:
        server.teardown()


CASES = [
    Case(name, action, repeat)
    for repeat in range(REPEATS)
    for name in BY_PROCESSES
    for action in ("kill", "stop")
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.action}-{case.repeat}")
def test_process_that_fails_at_a_failpoint_loses_and_doubles_nothing(outcomes, case):
    """Ended, counted exactly, each node committed and paid once, merged once, every key expires."""
    outcomes[case].result(timeout=250)


# --- the real pools ------------------------------------------------------------------------------

POOL_ENV = {
    "BATON_RUNNER_FUNCTIONS": json.dumps({name: f"runner_functions:{name}" for name in NAMES}),
    "BATON_NODE_SWEEP_SECONDS": "0.5",
    "BATON_AGENTS_THREADS": "4",
    # An hour, so that what is recovered was recovered by the tree.
    "BATON_VISIBILITY_TIMEOUT_SECONDS": "3600",
    "BATON_WARM_SHUTDOWN_SECONDS": "1",
}
# Both processes of a pair die in one handoff.
PAIRS = [
    ("run.received", "start.received"),
    ("run.returned", "start.launched"),
    ("dispatch.publishing", "start.published"),
    ("dispatch.published", "join.received"),
    ("run.returned", "join.returned"),
]
POOL_RESULTS = {"0": "0(0.0:20 0.1:20)", "0.0": "0.0:20", "0.1": "0.1:20", "1": "PLAIN", "2": "20"}


@pytest.fixture(scope="module")
def pools(tmp_path_factory) -> Iterator[Stack]:
    """The sweeps, running; the two pools that are to die, known and not."""
    server = RedisProcess()
    server.start()
    made = Stack(server, tmp_path_factory.mktemp("pools"), POOL_ENV)
    try:
        made.start("lifecycle", beat=True)
        yield made
    finally:
        made.teardown()
        server.teardown()


@pytest.mark.parametrize(("agents", "context"), PAIRS)
def test_pools_that_die_at_failpoints_lose_and_double_nothing(pools, agents, context):
    """One process of each pool is killed where it stands; their supervisor starts others."""
    armed = {"agents": f"{agents}=kill@1", "context": f"{context}=kill@1"}
    _launch(pools, armed)
    with swarm_of(pools) as swarm:
        handoff = hand_off(swarm, [("family 1", "family"), ("plain", "shout"), ("x", "length")])
        until(lambda: _revive_dead(pools, armed), what="the death of both pools")
        outcome = handoff.wait(timeout_seconds=60)
    client = pools.client()
    check_ended(client, handoff.handoff_id, dict.fromkeys(POOL_RESULTS, "ok"))
    check_results(client, handoff.handoff_id, POOL_RESULTS)
    with closing(ContextStore(client)) as store:
        check_appended_once(client, store, outcome.session_id, handoff.handoff_id, CONTEXT)


def _launch(pools: Stack, armed: dict[str, str]) -> None:
    """Start both pools with what they are armed with; both at once, as starting takes seconds."""
    for name in ("agents", "context"):
        if name in pools.processes:
            pools.kill(name)
        else:
            pools.start_without_waiting(name)
            pools.kill(name)
        pools.processes[name].env["BATON_FAILPOINTS"] = armed.get(name, "")
        pools.processes[name].launch()


def _revive_dead(pools: Stack, armed: dict[str, str]) -> bool:
    """Start those again that have met their end, not armed; whether all have, and are back."""
    for name in list(armed):
        process = pools.processes[name]
        if process.status == "exited":
            assert process.attrs["State"]["ExitCode"] == -9, process.life_log()[-2000:]
            process.env.pop("BATON_FAILPOINTS")
            process.launch()
            del armed[name]
    return not armed


def test_messages_that_come_twice_by_their_visibility_timeout_do_nothing_twice(stack, tmp_path):
    """A frozen worker's messages are delivered again; thawed, it has them twice."""
    env = {**POOL_ENV, "BATON_VISIBILITY_TIMEOUT_SECONDS": "2"}
    running = stack("agents", "context", "lifecycle", beat=True, env=env)
    broker = running.broker_client()
    with swarm_of(running) as swarm:
        handoff = hand_off(swarm, [(str(tmp_path), "gated")] * 3)
        until(lambda: len(list(tmp_path.glob("starts-*"))) == 3, what="the start of all nodes")
        running.kill("agents", "SIGSTOP")
        until(lambda: broker.llen("agents") >= 3, what="messages being delivered again")
        running.kill("agents", "SIGCONT")
        until(lambda: not broker.llen("agents"), what="their being taken once more")
        (tmp_path / "gate").touch()
        assert handoff.wait(timeout_seconds=60).state == "done"
    check_ended(running.client(), handoff.handoff_id, dict.fromkeys("012", "ok"))


def test_result_keys_that_vanish_keep_no_handoff_from_its_end(pools, tmp_path):
    """Whatever Celery counts with is deleted while nodes run: the tree decides who joins."""
    _launch(pools, {})
    broker = pools.broker_client()
    with swarm_of(pools) as swarm:
        handoff = hand_off(swarm, [("family 1", "family"), *[(str(tmp_path), "gated")] * 3])
        until(lambda: len(list(tmp_path.glob("starts-*"))) == 3, what="the start of all nodes")
        counted = list(broker.scan_iter("celery-task*"))
        if counted:
            broker.delete(*counted)
        (tmp_path / "gate").touch()
        assert handoff.wait(timeout_seconds=60).state == "done"
    states = dict.fromkeys(("0", "0.0", "0.1", "1", "2", "3"), "ok")
    check_ended(pools.client(), handoff.handoff_id, states)


def swarm_of(running: Stack) -> RedisSwarmCoordinator:
    settings = ClientSettings(lease_seconds=1.0, node_timeout_seconds=30.0)
    return RedisSwarmCoordinator(redis_url=running.url, settings=settings)


def hand_off(swarm: RedisSwarmCoordinator, tasks: list[tuple[str, str]]) -> Handoff:
    agent = swarm.register_agent("sonnet_coordinator", 200_000)
    swarm.update_context(CONTEXT, agent)
    return swarm.hand_off(agent, [ChildTask(text, runner) for text, runner in tasks])


def test_every_failpoint_is_met_by_a_process():
    """What is declared is killed at: by itself over the tree, or in the pools."""
    in_pools = {name for pair in PAIRS for name in pair}
    here = {name for name in FAILPOINTS if not name.startswith(ELSEWHERE)}
    assert in_pools | set(BY_PROCESSES) == here


def _is_due(client: redis.Redis, due: str) -> bool:
    seconds, _ = client.time()
    return bool(client.zcount(due, "-inf", seconds * 1000))
