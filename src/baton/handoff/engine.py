"""The worker's side of a handoff: fan out, run a node, merge, sweep. Celery only calls this."""

from __future__ import annotations

import json
import logging
import math
import time
import traceback
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from baton.agents.function import told
from baton.agents.runner import ChildResult, RunnerResult, Usage
from baton.content.text import encode_text
from baton.errors import (
    BatonError,
    BrokerUnavailableError,
    FencedError,
    HandoffNotFoundError,
    InvalidInputError,
    PermanentError,
    RunnerError,
    TransientError,
)
from baton.handoff.assignment import NodeAssignment
from baton.handoff.leases import Lease
from baton.handoff.merging import combine, work_log
from baton.handoff.package import quorum_of
from baton.handoff.tree import Claim, Ending, Move, Refusal
from baton.ids import check_node_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from baton.agents.catalog import RunnerCatalog
    from baton.handoff.dispatcher import Dispatcher
    from baton.handoff.leases import LeaseKeeper
    from baton.handoff.outcome import NodeRecord, Outcome
    from baton.handoff.tree import HandoffTree, Verdict
    from baton.handoff.view import HandoffView
    from baton.store.contexts import ContextStore

logger = logging.getLogger(__name__)

COMMIT_PATIENCE_SECONDS: Final = 300.0
COMMIT_PAUSE_SECONDS: Final = 1.0
MAX_RETRY_PAUSE_SECONDS: Final = 60.0
MAX_ERROR_CHARACTERS: Final = 1_000
MAX_DETAILS_BYTES: Final = 64 * 1024
SWEEP_LOOKS: Final = 64
SWEEP_BATCH: Final = 200
UNOPENED_SECONDS: Final = 600.0

_Recorded = TypeVar("_Recorded")


@dataclass(frozen=True, slots=True)
class NodeRun:
    """What came of one message: the node's state, and the children it now waits for."""

    node_id: str
    state: str
    children: tuple[str, ...] = ()


class HandoffEngine:
    """Moves handoffs along. One per worker process; safe for threads.

    Nothing here raises for a task's own failure: that is recorded in the tree. What is raised is
    TransientError, where Redis does not answer; the message may then be tried again at any time.
    """

    def __init__(
        self,
        *,
        store: ContextStore,
        tree: HandoffTree,
        view: HandoffView,
        runners: RunnerCatalog,
        dispatcher: Dispatcher,
        keeper: LeaseKeeper,
        worker: str,
        max_result_bytes: int,
    ) -> None:
        self._store = store
        self._tree = tree
        self._view = view
        self._runners = runners
        self._dispatcher = dispatcher
        self._keeper = keeper
        self._worker = worker
        self._max_result_bytes = max_result_bytes

    def launch(self, handoff_id: str) -> list[str]:
        """The first-level nodes to publish, now under the sweep's care; empty if it is over."""
        return [str(slot) for slot in range(self._tree.start(handoff_id))]

    def run_node(self, handoff_id: str, node_id: str) -> NodeRun:
        """Claim a node, run it, and commit what came of it."""
        claim = self._tree.claim(handoff_id, check_node_id(node_id), self._worker)
        if isinstance(claim, Refusal):
            self._publish(handoff_id, claim.moves)
            return NodeRun(node_id, claim.state)
        try:
            return self._run_claimed(claim)
        except FencedError as error:
            logger.info("%s", error)
            return NodeRun(node_id, "fenced")

    def join(self, handoff_id: str) -> str:
        """Merge the results and end the handoff, if that is due; the state it is in, or `gone`."""
        fence = self._tree.claim_join(handoff_id, self._worker)
        if fence is None:
            return self._state(handoff_id)
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
        self._tree.close(handoff_id)
        return self._state(handoff_id)

    def sweep(self) -> int:
        """Look after every open handoff; how many messages were published again."""
        backlog = self._dispatcher.backlog() > 0
        published = 0
        for handoff_id, age_seconds in self._tree.open_ages():
            try:
                state, moved = self._sweep_one(handoff_id, backlog=backlog)
            except PermanentError:
                logger.exception("handoff %s cannot be swept; the others are", handoff_id)
                continue
            published += moved
            ended = state not in ("running", "joining", "gone")
            if ended or (state == "gone" and age_seconds > UNOPENED_SECONDS):
                self._tree.close(handoff_id)
        return published

    def _sweep_one(self, handoff_id: str, *, backlog: bool) -> tuple[str, int]:
        """Look at all that is due in one handoff; its state, and the messages published.

        It stops at a batch of messages, so that an outage is not followed by a storm; but not at
        a number of looks, so that nodes in a long queue do not hide one whose worker was lost.
        """
        published, seen = 0, SWEEP_LOOKS
        while seen == SWEEP_LOOKS and published < SWEEP_BATCH:
            state, moves, seen = self._tree.sweep(handoff_id, limit=SWEEP_LOOKS, backlog=backlog)
            self._publish(handoff_id, moves)
            published += len(moves)
        return state, published

    def _state(self, handoff_id: str) -> str:
        try:
            return self._view.outcome(handoff_id).state
        except HandoffNotFoundError:
            return "gone"  # a message may outlive its handoff

    # --- one node ------------------------------------------------------------------------------

    def _run_claimed(self, claim: Claim) -> NodeRun:
        assignment = NodeAssignment(
            claim,
            load=partial(
                self._store.get, claim.session_id, claim.context_version, agent_id=claim.agent_id
            ),
            report=partial(self._tree.progress, claim),
        )
        lease = self._node_lease(claim, assignment)
        self._keeper.hold(lease)
        try:
            return self._run_and_record(claim, assignment)
        finally:
            self._keeper.release(lease)

    def _run_and_record(self, claim: Claim, assignment: NodeAssignment) -> NodeRun:
        verdict: Verdict = "ok"
        content = None
        try:
            result = self._run(claim, assignment)
            if assignment.spawned:
                children = self._suspend(claim, assignment, result.content)
                return NodeRun(claim.node_id, "suspended", tuple(children))
            ending, content = _ending(result), result.content
        except FencedError:
            raise
        except TransientError as error:
            pause = min(2.0**claim.attempt, MAX_RETRY_PAUSE_SECONDS)
            verdict, ending = "retry", _failure(error, retry_after_seconds=pause)
        except BatonError as error:
            verdict, ending = "failed", _failure(error)
        return self._commit(claim, verdict, ending, content)

    def _run(self, claim: Claim, assignment: NodeAssignment) -> RunnerResult:
        if claim.step:
            draft = self._tree.draft(claim.handoff_id, claim.node_id)
            assignment.resume(self._children(claim), draft)
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

    def _suspend(self, claim: Claim, assignment: NodeAssignment, draft: str) -> list[str]:
        return _through_outage(
            claim,
            lambda: self._tree.suspend(claim, assignment.spawned, assignment.then, draft),
        )

    def _commit(
        self, claim: Claim, verdict: Verdict, ending: Ending, content: str | None = None
    ) -> NodeRun:
        state, moves = _through_outage(
            claim, lambda: self._tree.finish(claim, verdict, ending, content)
        )
        self._publish(claim.handoff_id, moves)
        return NodeRun(claim.node_id, state)

    def _node_lease(self, claim: Claim, assignment: NodeAssignment) -> Lease:
        overrun = f"it ran longer than its timeout of {claim.timeout_seconds:g} s"
        return Lease(
            claim.handoff_id,
            claim.node_id,
            claim.fence,
            claim.lease_seconds,
            deadline=time.monotonic() + claim.timeout_seconds,
            stop=assignment.stop,
            overrun=partial(self._commit, claim, "failed", Ending("TimeoutError", overrun)),
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
        if not met:
            fields["error"] = (
                f"the policy is {outcome.policy}: {census['ok']} of {census.total} nodes are ok, "
                f"{len(ended_well)} of {outcome.first_level} on the first level"
            )
        elif outcome.merge == "append":
            news = _since_last_merge(outcome, first_level)
            text = work_log(outcome.handoff_id, outcome.agent_id, news, results)
            fields["merged_version"] = self._append(outcome, text)
        self._tree.finish_join(outcome.handoff_id, fence, state, fields, section)
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
        nodes = [move.node_id for move in moves if move.kind == "run"]
        kinds = {move.kind for move in moves}
        try:
            if nodes:
                self._dispatcher.run(handoff_id, nodes)
            if "start" in kinds:
                self._dispatcher.start(handoff_id)
            if "join" in kinds:
                self._dispatcher.join(handoff_id)
            if "cancel" in kinds:
                self._tree.cancel(handoff_id)
        except BrokerUnavailableError as error:
            logger.warning("handoff %s: left to the sweep: %s", handoff_id, error)


def _since_last_merge(outcome: Outcome, nodes: list[NodeRecord]) -> list[NodeRecord]:
    """The nodes whose ends no version tells of yet: of a retry, those that went again."""
    if outcome.version is None:
        return nodes
    return [node for node in nodes if node.round == outcome.round]


def _through_outage(claim: Claim, record: Callable[[], _Recorded]) -> _Recorded:
    """`record()`, through an outage of Redis if need be: the work is done, and may have cost."""
    give_up_at = time.monotonic() + COMMIT_PATIENCE_SECONDS
    while True:
        try:
            return record()
        except TransientError:
            if time.monotonic() > give_up_at:
                raise
            logger.warning("node %s has ended; waiting for Redis to record it", claim.node_id)
            time.sleep(COMMIT_PAUSE_SECONDS)


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
        if not isinstance(count, int) or count < 0:
            raise RunnerError(f"expected {name} as a number of tokens from 0, got {count!r:.80}")
    return {name: count for name, count in counts.items() if count}


def _cost(cost: object) -> float:
    if not isinstance(cost, int | float) or not math.isfinite(cost) or cost < 0:
        raise RunnerError(f"expected cost_usd as a number of dollars from 0, got {cost!r:.80}")
    return float(cost)


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
    """One bounded line that any terminal and UTF-8 can bear."""
    line = " ".join(text.split())
    if len(line) > MAX_ERROR_CHARACTERS:
        line = f"{line[: MAX_ERROR_CHARACTERS - 1]}…"
    return "".join(char if char.isprintable() else "?" for char in line)


def _child_result(node: NodeRecord, content: str) -> ChildResult:
    error = ": ".join(part for part in (node.error_type, node.error) if part)
    return ChildResult(node.node_id, node.instruction, node.state, content, error)
