"""The last step of a handoff: its results are merged, and it ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from baton.errors import BatonError, HandoffNotFoundError, PermanentError, RunnerError
from baton.failpoints import reach
from baton.handoff.endings import bounded
from baton.handoff.leases import JOIN, Lease
from baton.handoff.merging import work_log
from baton.handoff.package import quorum_of

if TYPE_CHECKING:
    from baton.handoff.leases import LeaseKeeper
    from baton.handoff.outcome import NodeRecord, Outcome
    from baton.handoff.tree import HandoffTree
    from baton.handoff.view import HandoffView
    from baton.store.contexts import ContextStore

logger = logging.getLogger(__name__)


class HandoffJoin:
    """Joins handoffs; see `HandoffEngine` for its services. Safe for threads."""

    def __init__(
        self,
        store: ContextStore,
        tree: HandoffTree,
        view: HandoffView,
        keeper: LeaseKeeper,
        worker: str,
    ) -> None:
        self._store = store
        self._tree = tree
        self._view = view
        self._keeper = keeper
        self._worker = worker

    def join(self, handoff_id: str) -> str:
        """Merge the results and end the handoff, if that is due; the state it is in, or `gone`."""
        fence = self._tree.claim_join(handoff_id, self._worker)
        if fence is None:
            return self._state(handoff_id)
        reach("join.claimed")
        outcome = self._view.outcome(handoff_id)
        lease = self._lease(handoff_id, fence)
        self._keeper.hold(lease)
        try:
            self._merge_and_end(outcome, fence)
        except PermanentError as error:
            fields = {"error_type": type(error).__name__, "error": bounded(str(error))}
            self._tree.finish_join(handoff_id, fence, "failed", fields)
        finally:
            self._keeper.release(lease)
        reach("join.closing")
        self._tree.close(handoff_id)
        return self._state(handoff_id)

    def _state(self, handoff_id: str) -> str:
        try:
            return self._view.outcome(handoff_id).state
        except HandoffNotFoundError:
            return "gone"  # a message may outlive its handoff

    def _lease(self, handoff_id: str, fence: int) -> Lease:
        return Lease(
            handoff_id,
            JOIN,
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


def _since_last_merge(outcome: Outcome, nodes: list[NodeRecord]) -> list[NodeRecord]:
    """The nodes whose ends no version tells of yet: of a retry, those that went again."""
    if outcome.version is None:
        return nodes
    return [node for node in nodes if node.round == outcome.round]
