"""The worker's side of a handoff: fan out, run a node, merge, sweep. Celery only calls this."""

from __future__ import annotations

import json
import logging
import time
import traceback
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from baton.agents.budget import MOST_TOKENS, MOST_USD
from baton.agents.cache_report import CACHE
from baton.agents.function import told
from baton.agents.runner import ChildResult, RunnerResult, Usage
from baton.content.secrets import redact_secrets
from baton.content.text import encode_text
from baton.errors import (
    BatonError,
    FencedError,
    HandoffNotFoundError,
    InvalidInputError,
    OverBudgetError,
    PermanentError,
    RunnerError,
    TransientError,
)
from baton.failpoints import reach
from baton.handoff.assignment import NodeAssignment
from baton.handoff.claims import Claim, Ending, Move, Refusal
from baton.handoff.leases import Lease
from baton.handoff.merging import combine, work_log
from baton.handoff.outages import through_outage
from baton.handoff.package import quorum_of
from baton.handoff.paying import Paying
from baton.handoff.sweeping import TreeSweep
from baton.ids import check_node_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from baton.agents.catalog import Runners
    from baton.handoff.accounts import Accounts
    from baton.handoff.claims import Verdict
    from baton.handoff.dispatcher import Dispatcher
    from baton.handoff.leases import LeaseKeeper
    from baton.handoff.outcome import NodeRecord, Outcome
    from baton.handoff.receiving import PackageReceiver
    from baton.handoff.tree import HandoffTree
    from baton.handoff.view import HandoffView
    from baton.store.contexts import ContextStore

logger = logging.getLogger(__name__)

MAX_RETRY_PAUSE_SECONDS: Final = 60.0
MAX_ERROR_CHARACTERS: Final = 1_000
MAX_TOLD_CHARACTERS: Final = 100_000
MAX_DETAILS_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class NodeRun:
    """What came of one message: the node's state, and the children to publish as one chord.

    Each of `children` is a chain, mostly of one. Empty where the node has none, or where they are
    more than the window holds, and have been published as far as they may.
    """

    node_id: str
    state: str
    children: tuple[tuple[str, ...], ...] = ()


class HandoffEngine:
    """Moves handoffs along. One per worker process; safe for threads.

    Nothing here raises for a task's own failure: that is recorded in the tree. What is raised is
    TransientError, where Redis does not answer; the message may then be tried again at any time.

    `run_apart(handoff, node)` runs a node that may be what kills its workers in a process of its
    own, and returns when that has ended; None: it runs here, like all others.
    """

    def __init__(  # noqa: PLR0913  # its services, all by name
        self,
        *,
        store: ContextStore,
        tree: HandoffTree,
        accounts: Accounts,
        view: HandoffView,
        receiver: PackageReceiver,
        runners: Runners,
        dispatcher: Dispatcher,
        keeper: LeaseKeeper,
        worker: str,
        max_result_bytes: int,
        run_apart: Callable[[str, str], None] | None = None,
    ) -> None:
        self._run_apart = run_apart
        self._store = store
        self._tree = tree
        self._accounts = accounts
        self._view = view
        self._receiver = receiver
        self._runners = runners
        self._sweeper = TreeSweep(tree, dispatcher)
        self._keeper = keeper
        self._worker = worker
        self._max_result_bytes = max_result_bytes

    def launch(self, handoff_id: str) -> list[str]:
        """Begin: the nodes to publish as one chord.

        Empty where it is over, or where they are more than the window holds: then as many as may
        be have been published, and each that ends publishes the next. A handoff whose package
        demands what does not hold ends here, failed, before any of its nodes.
        """
        if not self._receiver.receive(handoff_id, self._worker):
            self._tree.end_stopped(handoff_id)
            return []
        moves, first_level = self._tree.start(handoff_id)
        if len(moves) == first_level and {move.kind for move in moves} == {"run"}:
            return [move.node_id for move in moves]
        self._publish(handoff_id, moves)
        return []

    def run_node(self, handoff_id: str, node_id: str, *, chained: bool = False) -> NodeRun:
        """Claim a node, run it, and commit what came of it.

        `chained`: the message is one of a chain, so whoever brought it brings the next.
        """
        run = self._claim_and_run(handoff_id, node_id, chained=chained, apart=False)
        if run.state != "apart":
            return run
        if self._run_apart is None:
            return self._claim_and_run(handoff_id, node_id, chained=chained, apart=True)
        self._run_apart(handoff_id, node_id)
        return run

    def run_here_apart(self, handoff_id: str, node_id: str) -> NodeRun:
        """Run a node that may kill its process, in this one, which runs nothing else.

        What follows is published: nobody is there to make chords of it.
        """
        run = self._claim_and_run(handoff_id, node_id, chained=False, apart=True)
        self._publish(handoff_id, [Move("run", chain[0]) for chain in run.children])
        return run

    def hand_back(self) -> int:
        """Give back the nodes that this process runs, as it has to stop; how many.

        They wait again and are published at once, rather than when their leases lapse; what their
        runners still return here is refused.
        """
        handed_back = 0
        for lease in self._keeper.held():
            moves = self._tree.hand_back(lease.handoff_id, lease.node_id, lease.fence)
            self._publish(lease.handoff_id, moves)
            handed_back += len(moves)
        return handed_back

    def _claim_and_run(
        self, handoff_id: str, node_id: str, *, chained: bool, apart: bool
    ) -> NodeRun:
        reach("node.claiming")
        claim = self._tree.claim(handoff_id, check_node_id(node_id), self._worker, apart=apart)
        if isinstance(claim, Refusal):
            self._publish(handoff_id, claim.moves)
            return NodeRun(node_id, claim.state)
        try:
            return self._run_claimed(claim, chained=chained)
        except FencedError as error:
            logger.info("%s", error)
            return NodeRun(node_id, "fenced")

    def join(self, handoff_id: str) -> str:
        """Merge the results and end the handoff, if that is due; the state it is in, or `gone`."""
        fence = self._tree.claim_join(handoff_id, self._worker)
        if fence is None:
            return self._state(handoff_id)
        reach("join.claimed")
        outcome = self._view.outcome(handoff_id)
        lease = self._join_lease(handoff_id, fence)
        self._keeper.hold(lease)
        try:
            self._merge_and_end(outcome, fence)
        except PermanentError as error:
            fields = {"error_type": type(error).__name__, "error": _bounded(str(error))}
            self._tree.finish_join(handoff_id, fence, "failed", fields)
        finally:
            self._keeper.release(lease)
        reach("join.closing")
        self._tree.close(handoff_id)
        return self._state(handoff_id)

    def sweep(self) -> int:
        """Look after every open handoff; how many messages were published again."""
        return self._sweeper.sweep()

    def _state(self, handoff_id: str) -> str:
        try:
            return self._view.outcome(handoff_id).state
        except HandoffNotFoundError:
            return "gone"  # a message may outlive its handoff

    # --- one node ------------------------------------------------------------------------------

    def _run_claimed(self, claim: Claim, *, chained: bool) -> NodeRun:
        reach("node.claimed")
        assignment = NodeAssignment(
            claim,
            load=partial(
                self._store.get, claim.session_id, claim.context_version, agent_id=claim.agent_id
            ),
            report=partial(self._tree.progress, claim),
            paying=Paying(self._accounts, claim),
            mark=partial(self._checkpoint, claim),
            before=partial(self._result_before, claim),
            load_package=partial(self._receiver.find, claim.handoff_id),
        )
        lease = self._node_lease(claim, assignment)
        self._keeper.hold(lease)
        try:
            return self._run_and_record(claim, assignment, chained=chained)
        finally:
            self._keeper.release(lease)

    def _checkpoint(self, claim: Claim, label: str, byte_position: int | None) -> str:
        mark = self._store.checkpoint(
            claim.session_id,
            label,
            agent_id=claim.agent_id,
            version=claim.context_version,
            byte_position=byte_position,
        )
        return mark.checkpoint_id

    def _result_before(self, claim: Claim) -> str:
        if not claim.after:
            return ""
        found = self._tree.results(claim.handoff_id, [claim.after])
        if claim.after not in found:
            raise RunnerError(f"the stored result of node {claim.after} is gone")
        return found[claim.after]

    def _run_and_record(
        self, claim: Claim, assignment: NodeAssignment, *, chained: bool
    ) -> NodeRun:
        verdict: Verdict = "ok"
        content = None
        try:
            result = self._run(claim, assignment)
            reach("node.ran")
            if assignment.spawned:
                reach("node.suspending")
                return self._suspend(claim, assignment, result)
            ending, content = _ending(result), result.content
        except FencedError:
            raise
        except TransientError as error:
            pause = min(2.0**claim.attempt, MAX_RETRY_PAUSE_SECONDS)
            verdict, ending = "retry", _failure(error, retry_after_seconds=pause)
        except OverBudgetError as error:
            verdict, ending = "over_budget", _failure(error)
        except BatonError as error:
            verdict, ending = "failed", _failure(error)
        ending = replace(ending, refused_children=assignment.refused_children)
        return self._commit(claim, verdict, ending, content, chained=chained)

    def _run(self, claim: Claim, assignment: NodeAssignment) -> RunnerResult:
        if claim.step:
            draft = self._tree.draft(claim.handoff_id, claim.node_id)
            assignment.resume(self._children(claim), draft)
            reach("node.resumed")
        if claim.step and not claim.then:
            result = RunnerResult(combine(assignment.draft, assignment.children))
        else:
            result = self._call_runner(claim, assignment)
        size_bytes = len(encode_text(result.content, "result"))
        if size_bytes > self._max_result_bytes:
            raise InvalidInputError(
                "result", f"at most {self._max_result_bytes} bytes", f"<{size_bytes} bytes>"
            )
        return result

    def _call_runner(self, claim: Claim, assignment: NodeAssignment) -> RunnerResult:
        runner = self._runners.get(claim.runner)
        try:
            result = runner.run(assignment)
        except BatonError:
            raise
        # A runner is the user's code: anything comes, and sys.exit() must not end the worker.
        except (Exception, SystemExit) as error:
            raise RunnerError(f"runner {claim.runner} failed: {told(error)}") from error
        if not isinstance(result, RunnerResult) or not isinstance(result.content, str):
            raise RunnerError(
                f"runner {claim.runner}: expected a RunnerResult with text, "
                f"got {type(result).__name__}"
            )
        return result

    def _children(self, claim: Claim) -> list[ChildResult]:
        nodes = self._view.siblings(claim.handoff_id, claim.node_id, claim.child_count)
        results = self._tree.results(claim.handoff_id, [node.node_id for node in nodes])
        return [_child_result(node, results.get(node.node_id, "")) for node in nodes]

    def _suspend(self, claim: Claim, assignment: NodeAssignment, result: RunnerResult) -> NodeRun:
        spent = replace(
            _ending(result),
            details=_kept_details(result),
            refused_children=assignment.refused_children,
        )
        suspension = through_outage(
            f"node {claim.node_id}",
            lambda: self._tree.suspend(
                claim, assignment.spawned, assignment.then, result.content, spent
            ),
        )
        reach("node.suspended")
        chains = _chains_of(claim, [len(chain) for chain in assignment.spawned])
        published = {move.node_id for move in suspension.moves}
        if suspension.state != "suspended" or not published >= {chain[0] for chain in chains}:
            self._publish(claim.handoff_id, suspension.moves)
            return NodeRun(claim.node_id, suspension.state)
        own = {chain[0] for chain in chains}
        others = [move for move in suspension.moves if move.node_id not in own]
        self._publish(claim.handoff_id, others)
        return NodeRun(claim.node_id, "suspended", tuple(chains))

    def _commit(
        self,
        claim: Claim,
        verdict: Verdict,
        ending: Ending,
        content: str | None = None,
        *,
        chained: bool = False,
    ) -> NodeRun:
        reach("node.committing")
        state, moves = through_outage(
            f"node {claim.node_id}", lambda: self._tree.finish(claim, verdict, ending, content)
        )
        reach("node.committed")
        if chained:
            moves = tuple(move for move in moves if move.kind != "next")
        self._publish(claim.handoff_id, moves)
        reach("node.published")
        return NodeRun(claim.node_id, state)

    def _node_lease(self, claim: Claim, assignment: NodeAssignment) -> Lease:
        verdict, ending = _overrun(claim)
        return Lease(
            claim.handoff_id,
            claim.node_id,
            claim.fence,
            claim.lease_seconds,
            deadline=time.monotonic() + claim.timeout_seconds,
            stop=assignment.stop,
            overrun=partial(self._commit, claim, verdict, ending),
        )

    # --- the join ------------------------------------------------------------------------------

    def _join_lease(self, handoff_id: str, fence: int) -> Lease:
        return Lease(
            handoff_id,
            "join",
            fence,
            self._tree.lease_seconds(handoff_id),
            deadline=float("inf"),
            stop=lambda: None,
            overrun=lambda: None,
        )

    def _merge_and_end(self, outcome: Outcome, fence: int) -> None:
        census = outcome.census
        first_level = self._view.siblings(outcome.handoff_id, None, outcome.first_level)
        ended_well = [node.node_id for node in first_level if node.state == "ok"]
        enough = len(ended_well) >= quorum_of(outcome.policy, outcome.first_level)
        every = census["ok"] == census.total
        # A node may end ok over a child that failed: `all` means the whole tree.
        met = every or (enough and outcome.policy not in ("all", "fail_fast"))
        state = "done" if every else "degraded" if met else "failed"
        results = self._tree.results(outcome.handoff_id, ended_well)
        lost = [node_id for node_id in ended_well if node_id not in results]
        if lost:
            raise RunnerError(f"the stored result of node {lost[0]} is gone")
        section = work_log(outcome.handoff_id, outcome.agent_id, first_level, results)
        fields = {}
        reach("join.merged")
        if not met:
            fields["error"] = (
                f"the policy is {outcome.policy}: {census['ok']} of {census.total} nodes are ok, "
                f"{len(ended_well)} of {outcome.first_level} on the first level"
            )
        elif outcome.merge == "append":
            news = _since_last_merge(outcome, first_level)
            text = work_log(outcome.handoff_id, outcome.agent_id, news, results)
            fields["merged_version"] = self._append(outcome, text)
            reach("join.appended")
        self._tree.finish_join(outcome.handoff_id, fence, state, fields, section)
        reach("join.finished")
        self._unpin(outcome)

    def _unpin(self, outcome: Outcome) -> None:
        """Let the version go that the nodes read. A pin that stays ends with the retention."""
        try:
            self._store.unpin(outcome.session_id, outcome.handoff_id, agent_id=outcome.agent_id)
        except BatonError as error:
            logger.info("handoff %s: its pin stays: %s", outcome.handoff_id, error)

    def _append(self, outcome: Outcome, section: str) -> str:
        """Append to the newest head; the version. Once for each round, however often asked."""
        commit = self._store.append(
            outcome.session_id,
            section,
            agent_id=outcome.agent_id,
            blank_line=True,
            must_exist=True,
            operation_id=outcome.handoff_id + (f".{outcome.round}" if outcome.round else ""),
        )
        return commit.version

    # --- messages ------------------------------------------------------------------------------

    def _publish(self, handoff_id: str, moves: Sequence[Move]) -> None:
        """Publish what follows. What the broker does not take, the sweep publishes."""
        self._sweeper.publish(handoff_id, moves)


def _since_last_merge(outcome: Outcome, nodes: list[NodeRecord]) -> list[NodeRecord]:
    """The nodes whose ends no version tells of yet: of a retry, those that went again."""
    if outcome.version is None:
        return nodes
    return [node for node in nodes if node.round == outcome.round]


def _chains_of(claim: Claim, lengths: Sequence[int]) -> list[tuple[str, ...]]:
    """The ids of the children that a claim spawns, in chains of these lengths."""
    chains, slot = [], claim.child_count
    for length in lengths:
        chains.append(tuple(f"{claim.node_id}.{each}" for each in range(slot, slot + length)))
        slot += length
    return chains


def _overrun(claim: Claim) -> tuple[Verdict, Ending]:
    """What becomes of a node that runs past its time."""
    if claim.by_deadline:
        late = "the handoff's deadline passed while it ran"
        return "over_budget", Ending("OverBudgetError", late)
    late = f"it ran longer than its timeout of {claim.timeout_seconds:g} s"
    return "failed", Ending("TimeoutError", late)


def _ending(result: RunnerResult) -> Ending:
    """What the tree keeps of a result besides its text.

    Raises:
        RunnerError: figures or details that could not be counted or stored.
    """
    return Ending(
        usage=_usage(result.usage),
        cost_usd=_cost(result.cost_usd),
        details=_details(result),
        size_bytes=len(result.content.encode()),
    )


def _usage(usage: object) -> dict[str, int]:
    counts: dict[str, Any] = asdict(usage) if isinstance(usage, Usage) else {"usage": usage}
    for name, count in counts.items():
        if not isinstance(count, int) or not 0 <= count <= MOST_TOKENS:
            raise RunnerError(f"expected {name} as a number of tokens from 0, got {count!r:.80}")
    return {name: count for name, count in counts.items() if count}


def _cost(cost: object) -> float:
    # A comparison, so that neither NaN nor a whole number beyond all floats comes through.
    if not isinstance(cost, int | float) or not 0 <= cost <= MOST_USD:
        raise RunnerError(f"expected cost_usd as a number of dollars from 0, got {cost!r:.80}")
    return float(cost)


def _kept_details(result: RunnerResult) -> str:
    """What of a run that goes on with children counts with the node's end: its cache report."""
    kept = {name: value for name, value in result.details.items() if name == CACHE}
    return _details(replace(result, details=kept))


def _details(result: RunnerResult) -> str:
    """The details as JSON text; empty if there are none."""
    try:
        details = json.dumps(dict(result.details), allow_nan=False) if result.details else ""
    except (TypeError, ValueError, RecursionError) as error:
        raise RunnerError(f"expected details that JSON can hold: {told(error)}") from None
    if len(details) > MAX_DETAILS_BYTES:
        raise RunnerError(f"expected details of {MAX_DETAILS_BYTES} bytes, got {len(details)}")
    return details


def _failure(error: BatonError, retry_after_seconds: float = 0.0) -> Ending:
    """The error as it may be stored: the type of what the runner's code raised, a bounded text."""
    source = error.__cause__ if isinstance(error, RunnerError) and error.__cause__ else error
    # As told by the traceback module, which survives an exception whose `str()` fails.
    said = str(traceback.TracebackException(type(source), source, None))
    return Ending(
        error_type=_bounded(type(source).__name__),
        error=_bounded(said or str(error)),
        retry_after_seconds=retry_after_seconds,
    )


def _bounded(text: str) -> str:
    """One bounded line that any terminal and UTF-8 can bear, without what looks like a secret."""
    line = " ".join(redact_secrets(text[:MAX_TOLD_CHARACTERS]).split())
    if len(line) > MAX_ERROR_CHARACTERS:
        line = f"{line[: MAX_ERROR_CHARACTERS - 1]}…"
    return "".join(char if char.isprintable() else "?" for char in line)


def _child_result(node: NodeRecord, content: str) -> ChildResult:
    error = ": ".join(part for part in (node.error_type, node.error) if part)
    return ChildResult(node.node_id, node.instruction, node.state, content, error)
