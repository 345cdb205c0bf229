"""The worker's side of a handoff: fan out, run a node, merge, sweep. Celery only calls this."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from baton.agents.function import told
from baton.agents.runner import ChildResult, RunnerResult
from baton.content.text import encode_text
from baton.errors import (
    BatonError,
    FencedError,
    InvalidInputError,
    OverBudgetError,
    RunnerError,
    TransientError,
)
from baton.failpoints import reach
from baton.handoff.assignment import NodeAssignment
from baton.handoff.claims import Claim, Ending, Move, Refusal
from baton.handoff.endings import ending_of, failure_of, kept_details, overrun_of
from baton.handoff.joining import HandoffJoin
from baton.handoff.leases import Lease
from baton.handoff.merging import combine
from baton.handoff.outages import through_outage
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
    from baton.handoff.outcome import NodeRecord
    from baton.handoff.receiving import PackageReceiver
    from baton.handoff.tree import HandoffTree
    from baton.handoff.view import HandoffView
    from baton.store.contexts import ContextStore

logger = logging.getLogger(__name__)

MAX_RETRY_PAUSE_SECONDS: Final = 60.0


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
        self._join = HandoffJoin(store, tree, view, keeper, worker)
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
        return self._join.join(handoff_id)

    def sweep(self) -> int:
        """Look after every open handoff; how many messages were published again."""
        return self._sweeper.sweep()

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
            ending, content = ending_of(result), result.content
        except FencedError:
            raise
        except TransientError as error:
            pause = min(2.0**claim.attempt, MAX_RETRY_PAUSE_SECONDS)
            verdict, ending = "retry", failure_of(error, retry_after_seconds=pause)
        except OverBudgetError as error:
            verdict, ending = "over_budget", failure_of(error)
        except BatonError as error:
            verdict, ending = "failed", failure_of(error)
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
            ending_of(result),
            details=kept_details(result),
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
        verdict, ending = overrun_of(claim)
        return Lease(
            claim.handoff_id,
            claim.node_id,
            claim.fence,
            claim.lease_seconds,
            deadline=time.monotonic() + claim.timeout_seconds,
            stop=assignment.stop,
            overrun=partial(self._commit, claim, verdict, ending),
        )

    # --- messages ------------------------------------------------------------------------------

    def _publish(self, handoff_id: str, moves: Sequence[Move]) -> None:
        """Publish what follows. What the broker does not take, the sweep publishes."""
        self._sweeper.publish(handoff_id, moves)


def _chains_of(claim: Claim, lengths: Sequence[int]) -> list[tuple[str, ...]]:
    """The ids of the children that a claim spawns, in chains of these lengths."""
    chains, slot = [], claim.child_count
    for length in lengths:
        chains.append(tuple(f"{claim.node_id}.{each}" for each in range(slot, slot + length)))
        slot += length
    return chains


def _child_result(node: NodeRecord, content: str) -> ChildResult:
    error = ": ".join(part for part in (node.error_type, node.error) if part)
    return ChildResult(node.node_id, node.instruction, node.state, content, error)
