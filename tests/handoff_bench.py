"""Workers over a real tree without Celery: a queue of messages, and faults in it on demand."""

from __future__ import annotations

import threading
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from baton.agents.catalog import RunnerCatalog
from baton.agents.function import FunctionRunner
from baton.agents.runner import ChildTask, RunnerResult
from baton.handoff.accounts import Accounts
from baton.handoff.checks import PackageChecks
from baton.handoff.claims import Claim
from baton.handoff.engine import HandoffEngine
from baton.handoff.keys import OPEN, HandoffKeys
from baton.handoff.leases import LeaseKeeper
from baton.handoff.outcome import NODE_STATES, TERMINAL_NODE_STATES
from baton.handoff.packages import HandoffPackages
from baton.handoff.receiving import PackageReceiver
from baton.handoff.request import Limits
from baton.handoff.submission import Handoffs
from baton.handoff.tree import HandoffTree
from baton.handoff.view import HandoffView
from baton.store.contexts import ContextStore

if TYPE_CHECKING:
    import random

SESSION = "session_1"
AGENT = "sonnet_1"
CONTEXT = "The shared context.\n"
LIMITS = Limits(lease_seconds=30, node_timeout_seconds=60)
WIDE = LIMITS.model_copy(update={"window": 10_000})


class Killed(BaseException):
    """What a runner raises where its worker is to die: nothing of the engine handles it."""


@dataclass
class Chord:
    """Counts as Celery's does, also wrongly: a message that runs twice counts twice."""

    left: int
    callback: Message

    def count(self):
        self.left -= 1
        return self.left == 0


@dataclass
class Message:
    """`start`, `run` or `join` on its way to a worker."""

    kind: str
    handoff_id: str
    node_id: str = ""
    chord: Chord | None = None
    chain: tuple[str, ...] = ()


@dataclass
class Queue:
    """A broker and a `Dispatcher`. `copies` of each message arrive; `drops` says which never do."""

    copies: int = 1
    shuffle: random.Random | None = None
    drops: object = None
    messages: deque = field(default_factory=deque)
    published: list = field(default_factory=list)
    reported_backlog: int | None = None
    down: type[Exception] | None = None

    def __post_init__(self):
        self.lock = threading.Lock()

    def put(self, message):
        with self.lock:
            self.published.append(message)
            if self.drops is not None and self.drops(message):
                return
            for _ in range(self.copies):
                if self.shuffle is None:
                    self.messages.append(message)
                else:
                    self.messages.insert(self.shuffle.randint(0, len(self.messages)), message)

    def take(self):
        with self.lock:
            return self.messages.popleft() if self.messages else None

    def kinds(self):
        return Counter(message.kind for message in self.published)

    def start(self, handoff_id):
        self._check()
        self.put(Message("start", handoff_id))

    def run(self, handoff_id, node_ids):
        self._check()
        for node_id in node_ids:
            self.put(Message("run", handoff_id, node_id))

    def join(self, handoff_id):
        self._check()
        self.put(Message("join", handoff_id))

    def backlog(self):
        return len(self.messages) if self.reported_backlog is None else self.reported_backlog

    def close(self):
        pass

    def _check(self):
        if self.down is not None:
            raise self.down("the broker is down")


class Bench:
    """A client, an engine and a queue over one Redis, with one session in the store.

    Args:
        client: a binary client.
        runners: name -> function of an assignment; `work` echoes the instruction.
        queue: the broker.
        limits: of submitted handoffs.
    """

    def __init__(self, client, runners=None, *, queue=None, limits=LIMITS, **options):
        self.client = client
        self.queue = queue or Queue()
        self.store = ContextStore(client)
        self.tree = HandoffTree(client)
        self.accounts = Accounts(client)
        self.view = HandoffView(client)
        self.stuck = threading.Event()
        self.keeper = LeaseKeeper(
            self.tree, max_stuck=options.pop("max_stuck", 10), on_stuck=self.stuck.set
        )
        functions = {"work": echo, **(runners or {})}
        self.engine = HandoffEngine(
            store=self.store,
            tree=self.tree,
            accounts=self.accounts,
            view=self.view,
            receiver=PackageReceiver(HandoffPackages(client), PackageChecks(client, self.store)),
            runners=RunnerCatalog(
                {name: partial(_runner, name, function) for name, function in functions.items()}
            ),
            dispatcher=self.queue,
            keeper=self.keeper,
            worker="worker_1",
            max_result_bytes=options.pop("max_result_bytes", 1 << 20),
            run_apart=options.pop("run_apart", None),
        )
        self.handoffs = Handoffs(
            client, self.store, self.queue, limits=limits, default_runner="work"
        )
        self.after = None
        self.deaths = 0
        if not self.store.exists(SESSION):
            self.store.put(SESSION, CONTEXT, agent_id=AGENT)

    def close(self):
        self.keeper.close()
        self.store.close()

    def submit(self, *tasks, **options):
        return self.handoffs.submit(SESSION, list(tasks), agent_id=AGENT, **options)

    def handle(self, message):
        """What tasks/handoff.py does with a message; a runner may kill its worker."""
        try:
            getattr(self, f"_{message.kind}")(message)
        except Killed:
            self.deaths += 1
            return
        if self.after is not None:
            self.after()

    def pump(self, workers=1):
        """Handle messages until none is left."""
        if workers == 1:
            while (message := self.queue.take()) is not None:
                self.handle(message)
            return
        while self.queue.messages:
            with ThreadPoolExecutor(workers) as pool:
                for one in [pool.submit(self.pump) for _ in range(workers)]:
                    one.result()

    def run(self, *tasks, workers=1, **options):
        """Submit, pump, and return the handle."""
        handoff = self.submit(*tasks, **options)
        self.pump(workers)
        return handoff

    def recover(self, handoff, rounds=40, workers=1):
        """Let time pass and the sweep run until the handoff has ended; its outcome."""
        for _ in range(rounds):
            if handoff.outcome().ended:
                break
            self.pass_time(handoff)
            self.engine.sweep()
            self.pump(workers)
        assert handoff.outcome().ended
        return handoff.outcome()

    def pass_time(self, handoff, *members):
        """Make leases lapse and waits end, as time would."""
        due = HandoffKeys.of(handoff.handoff_id).due
        for member, _ in self.client.zrange(due, 0, -1, withscores=True):
            if not members or member.decode() in members:
                self.client.zadd(due, {member: 1}, xx=True)
        self.client.hset(HandoffKeys.of(handoff.handoff_id).base, "join_until", 1)

    def claim(self, handoff, node_id="0", worker="worker_2"):
        claim = self.tree.claim(handoff.handoff_id, node_id, worker)
        assert isinstance(claim, Claim), claim
        return claim

    def is_open(self, handoff):
        return self.client.zscore(OPEN, handoff.handoff_id) is not None

    def _start(self, message):
        nodes = self.engine.launch(message.handoff_id)
        if nodes:
            chains = [(node,) for node in nodes]
            self._chord(message.handoff_id, chains, Message("join", message.handoff_id))

    def _run(self, message):
        outcome = self.engine.run_node(
            message.handoff_id, message.node_id, chained=bool(message.chain)
        )
        if outcome.children:
            callback = Message(
                "run", message.handoff_id, message.node_id, message.chord, message.chain
            )
            self._chord(message.handoff_id, outcome.children, callback)
        elif message.chain:
            first, *rest = message.chain
            self.queue.put(Message("run", message.handoff_id, first, message.chord, tuple(rest)))
        elif message.chord is not None and message.chord.count():
            self.queue.put(message.chord.callback)

    def _join(self, message):
        self.engine.join(message.handoff_id)

    def _chord(self, handoff_id, chains, callback):
        chord = Chord(len(chains), callback)
        for first, *rest in chains:
            self.queue.put(Message("run", handoff_id, first, chord, tuple(rest)))


def each_alone(tasks):
    """Children as the tree takes them: none in a chain with another."""
    return [(ChildTask(task) if isinstance(task, str) else task,) for task in tasks]


def published(suspension):
    """The nodes that are to be published."""
    assert suspension.state == "suspended"
    return [move.node_id for move in suspension.moves]


def echo(assignment):
    return f"{assignment.instruction}: done"


def states(handoff):
    return {node.node_id: node.state for node in handoff.nodes()}


def node_of(handoff, node_id="0"):
    return next(node for node in handoff.nodes() if node.node_id == node_id)


def endings(handoff, limit=100_000):
    """How often each node was seen to end."""
    final = set(TERMINAL_NODE_STATES)
    return Counter(
        event.node_id
        for event in list(handoff.events())[:limit]
        if event.type == "node" and event.state in final
    )


def check_census(client, handoff_id):
    """The counters add up, and they are those of the nodes."""
    outcome_nodes = HandoffView(client).nodes(handoff_id)
    census = HandoffView(client).outcome(handoff_id).census
    counted = Counter(node.state for node in outcome_nodes)
    assert sum(census[state] for state in NODE_STATES) == census.total == len(outcome_nodes)
    assert {state: census[state] for state in NODE_STATES if census[state]} == dict(counted)


def check_expiries(client):
    """No key of a handoff is without an expiry, at this very moment."""
    immortal = [key for key in client.scan_iter(match="handoff*", count=1000)
                if client.pttl(key) == -1]  # fmt: skip
    assert immortal == []


def _runner(name, function):
    return function if hasattr(function, "run") else FunctionRunner(name, function)


@dataclass
class RawRunner:
    """A runner of one's own, whose results nothing has checked."""

    result: object
    name: str = "raw"

    def run(self, _assignment):
        return self.result() if callable(self.result) else self.result


def result_of(text, **fields):
    return RunnerResult(text, **fields)
