"""Clients and workers as processes over a real tree, with lists in Redis as their broker.

Run as a script it is the nursery: it has everything imported and forks a process for each line of
JSON on its standard input, so that a process costs milliseconds. It says on its standard output
who ended how, and kills all of them when its input ends.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from baton import failpoints
from baton.agents.budget import Budget
from baton.agents.catalog import RunnerCatalog
from baton.agents.function import FunctionRunner
from baton.agents.runner import ChildChain, ChildTask, Usage
from baton.handoff.accounts import Accounts
from baton.handoff.checks import PackageChecks
from baton.handoff.engine import HandoffEngine
from baton.handoff.leases import LeaseKeeper
from baton.handoff.packages import HandoffPackages
from baton.handoff.receiving import PackageReceiver
from baton.handoff.request import Limits, TaskSpec
from baton.handoff.submission import Handoffs
from baton.handoff.tree import HandoffTree
from baton.handoff.view import HandoffView
from baton.redis_client import connect
from baton.settings import ClientSettings
from baton.store.contexts import ContextStore
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import redis

SESSION = "session_1"
AGENT = "sonnet_1"
CONTEXT = "The shared context.\n"
LIMITS = Limits(lease_seconds=0.5, node_timeout_seconds=30, max_attempts=6)
LEDGER = "test:ledger"
CALLS = "test:calls"
MENDED = "test:mended"

_QUEUE = "test:queue"
_SWEEP_SECONDS = 0.2
_IDLE_SECONDS = 0.01


class ListBroker:
    """A `Dispatcher`, and a queue with late acks: what a dead worker took can come again."""

    def __init__(self, client: redis.Redis, worker: str = "") -> None:
        self._redis = client
        self._taken = f"test:taken:{worker}"

    def start(self, handoff_id: str) -> None:
        self._put("start", handoff_id)

    def run(self, handoff_id: str, node_ids: list[str]) -> None:
        for node_id in node_ids:
            self._put("run", handoff_id, node_id)

    def run_chains(self, handoff_id: str, chains: Iterable[tuple[str, ...]]) -> None:
        """As Celery's: whoever has handled a message of a chain publishes the next."""
        for chain in chains:
            self._put("run", handoff_id, *chain)

    def join(self, handoff_id: str) -> None:
        self._put("join", handoff_id)

    def backlog(self) -> int:
        return self._redis.llen(_QUEUE)

    def close(self) -> None:
        """Nothing of it is its own."""

    def take(self) -> bytes | None:
        return self._redis.lmove(_QUEUE, self._taken, "LEFT", "RIGHT")

    def acknowledge(self, message: bytes) -> None:
        self._redis.lrem(self._taken, 1, message)

    def deliver_again(self) -> None:
        """What the worker of this name took and did not acknowledge."""
        while self._redis.lmove(self._taken, _QUEUE, "LEFT", "LEFT"):
            pass

    def lose_all(self) -> None:
        """Every message that nobody has taken."""
        self._redis.delete(_QUEUE)

    def _put(self, *message: str) -> None:
        self._redis.rpush(_QUEUE, json.dumps(message))


class Worker:
    """Takes messages, and sweeps in between, as the pools and beat do together."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self.client = client
        self.name = name
        self.broker = ListBroker(client, name)
        tree = HandoffTree(client)
        store = ContextStore(client)
        self.engine = HandoffEngine(
            store=store,
            receiver=PackageReceiver(HandoffPackages(client), PackageChecks(client, store)),
            tree=tree,
            accounts=Accounts(client),
            view=HandoffView(client),
            runners=RunnerCatalog(
                {name: lambda name=name: FunctionRunner(name, self._noted(RUNNERS[name]))
                 for name in RUNNERS}
            ),
            dispatcher=self.broker,
            keeper=LeaseKeeper(tree, max_stuck=100, on_stuck=lambda: None),
            worker=name,
            max_result_bytes=1 << 20,
        )  # fmt: skip
        self._sweep_at = 0.0

    def run_for_ever(self) -> None:
        parent = os.getppid()
        while os.getppid() == parent:
            self.client.incr(_rounds_key(self.name))
            if time.monotonic() >= self._sweep_at:
                self.engine.sweep()
                self._sweep_at = time.monotonic() + _SWEEP_SECONDS
            message = self.broker.take()
            if message is None:
                time.sleep(_IDLE_SECONDS)
                continue
            self._handle(*json.loads(message))
            self.broker.acknowledge(message)

    def _handle(self, kind: str, handoff_id: str, node_id: str = "", *chain: str) -> None:
        """What tasks/handoff.py does, without Celery's chords: the tree needs none."""
        if kind == "start":
            self.broker.run_chains(handoff_id, [(n,) for n in self.engine.launch(handoff_id)])
        elif kind == "join":
            self.engine.join(handoff_id)
        else:
            outcome = self.engine.run_node(handoff_id, node_id, chained=bool(chain))
            if outcome.children:
                self.broker.run_chains(handoff_id, outcome.children)
            elif chain:
                self.broker.run_chains(handoff_id, [chain])

    def _noted(self, function: Callable[..., str]) -> Callable[..., str]:
        """Each execution stands in a ledger of its own: what a model would have been paid for."""

        def run(task: Any) -> str:
            step = 1 if task.children else 0
            entry = [task.handoff_id, task.node_id, step, task.attempt]
            self.client.rpush(LEDGER, json.dumps(entry))
            return function(self.client, task)

        return run


def work(_client: redis.Redis, task: Any) -> str:
    return f"{task.instruction}, {len(task.context)} characters"


def slow(_client: redis.Redis, task: Any) -> str:
    """Longer than a renewal of its lease."""
    threading.Event().wait(LIMITS.lease_seconds * 0.8)
    return f"{task.instruction}, slowly"


def family(_client: redis.Redis, task: Any) -> str:
    if task.children:
        return f"{task.draft} + {' + '.join(child.content for child in task.children)}"
    chain = ChildChain([ChildTask("one", "work"), ChildTask("two", "follow")])
    task.spawn([ChildTask("child", "work"), chain, ChildTask("child", "slow")], then="gather")
    return f"{task.instruction}: draft"


def follow(_client: redis.Redis, task: Any) -> str:
    return f"{task.instruction} behind {task.previous}"


def paid(client: redis.Redis, task: Any) -> str:
    """One call of a model, noted where it is paid."""
    permit = task.reserve(CALL_TOKENS, CALL_USD, seconds=1)
    permit.check_usable()
    client.rpush(CALLS, f"{task.handoff_id} {task.attempt}")
    task.settle(permit, Usage(input_tokens=CALL_TOKENS - 10, output_tokens=10), CALL_USD)
    return f"{task.instruction}, paid"


def broken(client: redis.Redis, task: Any) -> str:
    if not client.exists(MENDED):
        raise ValueError("not mended yet")
    return f"{task.instruction}, mended"


RUNNERS = {
    "work": work, "slow": slow, "family": family, "follow": follow, "paid": paid, "broken": broken,
}  # fmt: skip
TASKS = (
    ("parent", "family"), ("plain", "work"), ("long", "slow"), ("call", "paid"), ("weak", "broken"),
)  # fmt: skip
BROKEN = "4"
CHILDREN = {
    "0.0": "child, 20 characters",
    "0.1": "one, 20 characters",
    "0.2": "two behind one, 20 characters",
    "0.3": "child, slowly",
}
RESULTS = {
    "0": " + ".join(["parent: draft", *CHILDREN.values()]),
    **CHILDREN,
    "1": "plain, 20 characters",
    "2": "long, slowly",
    "3": "call, paid",
}
CALL_TOKENS = 100
CALL_USD = Decimal("0.01")
# Room for as many calls as a node has attempts.
BUDGET = Budget(tokens=6 * CALL_TOKENS, usd=6 * CALL_USD)


def rounds(client: redis.Redis, worker: str) -> int:
    """How often a worker has come back for a message."""
    return int(client.get(_rounds_key(worker)) or 0)


def _rounds_key(worker: str) -> str:
    return f"test:rounds:{worker}"


def handoffs_of(client: redis.Redis, store: ContextStore) -> Handoffs:
    return Handoffs(client, store, ListBroker(client), limits=LIMITS)


def submit(client: redis.Redis, store: ContextStore, key: str) -> str:
    tasks = [TaskSpec(instruction=text, runner=runner) for text, runner in TASKS]
    handoff = handoffs_of(client, store).submit(
        SESSION, tasks, agent_id=AGENT, budget=BUDGET, idempotency_key=key
    )
    return handoff.handoff_id


def _play(job: dict[str, Any]) -> None:
    """The part of one forked process."""
    client = connect(job["url"], ClientSettings(redis_url=job["url"]))
    failpoints.arm(job["failpoints"])
    if job["part"] == "worker":
        Worker(client, job["name"]).run_for_ever()
    elif job["part"] == "submit":
        submit(client, ContextStore(client), job["key"])
    elif job["part"] == "cancel":
        handoffs_of(client, ContextStore(client)).find(job["handoff_id"]).cancel()
    elif job["part"] == "retry":
        handoffs_of(client, ContextStore(client)).retry(job["handoff_id"])


# --- the nursery, and how a test asks it ---------------------------------------------------------


@dataclass
class Child:
    """A forked process, as the test sees it."""

    name: str
    pid: int = 0
    state: str = "asked for"
    exit_code: int | None = None


@dataclass
class Nursery:
    """The nursery's process. Safe for threads."""

    log: Path
    children: dict[str, Child] = field(default_factory=dict)

    def __enter__(self) -> Self:
        here = Path(__file__)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(here)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._reader.join(20)
        self._process.stdout.close()

    def start(self, part: str, url: str, *, armed: str = "", **fields: str) -> Child:
        """Fork a process that plays `part`; returns once it is there."""
        with self._lock:
            child = Child(f"{part}_{len(self.children)}")
            self.children[child.name] = child
            job = {"part": part, "name": child.name, "url": url, "failpoints": armed, **fields}
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        until(lambda: child.pid, what=f"the start of {child.name}")
        return child

    def wait(self, child: Child, *states: str) -> None:
        """Until it has `ended`, or `stopped` itself."""
        wanted = states or ("ended",)
        until(lambda: child.state in wanted, what=f"{child.name} being {' or '.join(wanted)}")

    def kill(self, child: Child) -> None:
        if child.state != "ended":
            os.kill(child.pid, signal.SIGKILL)
            self.wait(child)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            child = self.children[told["name"]]
            child.exit_code = told.get("exit_code")
            child.state = told["state"]
            child.pid = told["pid"]


def tend() -> None:
    """The nursery's loop: fork on each line, tell of each change, until the input ends."""
    names: dict[int, str] = {}
    buffer = b""
    while True:
        if select.select([0], [], [], 0.01)[0]:
            received = os.read(0, 1 << 16)
            if not received:
                break
            *lines, buffer = (buffer + received).split(b"\n")
            for line in lines:
                job = json.loads(line)
                pid = _fork(job)
                names[pid] = job["name"]
                _tell(name=job["name"], pid=pid, state="running")
        _tell_changes(names)
    for pid in names:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _tell_changes(names: dict[int, str]) -> None:
    while names:
        pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        if not pid:
            return
        if os.WIFSTOPPED(status):
            _tell(name=names[pid], pid=pid, state="stopped")
        elif os.WIFCONTINUED(status):
            _tell(name=names[pid], pid=pid, state="running")
        else:
            code = os.waitstatus_to_exitcode(status)
            _tell(name=names.pop(pid), pid=pid, state="ended", exit_code=code)


def _fork(job: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _play(job)
        code = 0
    except BaseException as error:  # noqa: BLE001  # a fork must not go on as its parent
        sys.stderr.write(f"{job['name']}: {error!r}\n")
    finally:
        sys.stderr.flush()
        os._exit(code)


def _tell(**fields: object) -> None:
    os.write(1, (json.dumps(fields) + "\n").encode())


if __name__ == "__main__":
    tend()
