"""The last step of a handoff: its results are merged, and it ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from baton.errors import BatonError, HandoffNotFoundError, PermanentError, RunnerError
from baton.failpoints import reach
from baton.handoff.endings import bounded
from baton.handoff.leases import JOIN, Lease
from baton.handoff.merging import work_log
from baton.handoff.request import quorum_of

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
        first_level = self._view.siblings(outcome.handoff_id, None, outcome.first_level)
        ended_well = [node.node_id for node in first_level if node.state == "ok"]
        state = _end_of(outcome, len(ended_well))
        results = self._results(outcome.handoff_id, ended_well)
        section = work_log(outcome.handoff_id, outcome.agent_id, first_level, results)
        fields = {}
        reach("join.merged")
        if state == "failed":
            fields["error"] = _shortfall(outcome, len(ended_well))
        elif outcome.merge == "append":
            news = _since_last_merge(outcome, first_level)
            text = work_log(outcome.handoff_id, outcome.agent_id, news, results)
            fields["merged_version"] = self._append(outcome, text)
            reach("join.appended")
        self._tree.finish_join(outcome.handoff_id, fence, state, fields, section)
        reach("join.finished")
        self._unpin(outcome)

    def _results(self, handoff_id: str, node_ids: list[str]) -> dict[str, str]:
        found = self._tree.results(handoff_id, node_ids)
        lost = next((node_id for node_id in node_ids if node_id not in found), None)
        if lost is not None:
            raise RunnerError(f"the stored result of node {lost} is gone")
        return found

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


def _end_of(outcome: Outcome, ended_well: int) -> str:
    """The state that the handoff ends in, `ended_well` nodes of its first level being ok."""
    if outcome.census["ok"] == outcome.census.total:
        return "done"
    # A node may end ok over a child that failed: `all` means the whole tree.
    if outcome.policy in ("all", "fail_fast"):
        return "failed"
    enough = ended_well >= quorum_of(outcome.policy, outcome.first_level)
    return "degraded" if enough else "failed"


def _shortfall(outcome: Outcome, ended_well: int) -> str:
    census = outcome.census
    return (
        f"the policy is {outcome.policy}: {census['ok']} of {census.total} nodes are ok, "
        f"{ended_well} of {outcome.first_level} on the first level"
    )


def _since_last_merge(outcome: Outcome, nodes: list[NodeRecord]) -> list[NodeRecord]:
    """The nodes whose ends no version tells of yet: of a retry, those that went again."""
    if outcome.version is None:
        return nodes
    return [node for node in nodes if node.round == outcome.round]
