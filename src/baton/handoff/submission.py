"""The client's side of a handoff: submit, follow, cancel, collect."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING

from baton.agents.runner import ChildTask
from baton.errors import BrokerUnavailableError, InvalidInputError
from baton.handoff.package import Limits, TaskSpec, make_request
from baton.handoff.tree import HandoffTree
from baton.handoff.view import HandoffView
from baton.ids import check_id, check_node_id, new_handoff_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis

    from baton.handoff.dispatcher import Dispatcher
    from baton.handoff.outcome import NodeRecord, Outcome
    from baton.handoff.package import MergePolicy, OutcomePolicy
    from baton.handoff.view import Event
    from baton.store.contexts import ContextStore

logger = logging.getLogger(__name__)


class Handoffs:
    """Submits handoffs and follows them.

    Args:
        redis_client: a binary client of the store.
        store: where the sessions live.
        dispatcher: publishes to the workers.
        limits: bounds of handoffs submitted here.
        default_runner: runner of tasks that name none.
    """

    def __init__(
        self,
        redis_client: redis.Redis,
        store: ContextStore,
        dispatcher: Dispatcher,
        *,
        limits: Limits | None = None,
        default_runner: str = "offline",
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._tree = HandoffTree(redis_client)
        self._view = HandoffView(redis_client)
        self._limits = limits or Limits()
        self._default_runner = default_runner

    def submit(
        self,
        session_id: str,
        tasks: Sequence[str | TaskSpec | ChildTask],
        *,
        agent_id: str,
        context_version: str | None = None,
        merge: MergePolicy = "append",
        policy: OutcomePolicy = "best_effort",
        limits: Limits | None = None,
        idempotency_key: str | None = None,
    ) -> Handoff:
        """Hand `tasks` over the session's context to the workers.

        The handoff is recorded before anything is published: where the broker does not answer, it
        is still accepted, and the workers' sweep starts it.

        Args:
            session_id: whose context the tasks are about.
            tasks: at least one.
            agent_id: who hands off.
            context_version: the version all nodes read; None: the head now.
            merge: `append` writes a work log behind the newest head, which must be text; `none`
                merges nothing.
            policy: what the handoff needs lest it fail, and merge nothing: `all` of its nodes ok;
                `quorum:n`, n of its first level; `best_effort`, one of them. `fail_fast` is `all`,
                and stops the others at the first that fails. It is `done` only where all are ok,
                whatever the policy; `degraded` where its policy is content with less.
            limits: bounds of this handoff; None: those given at construction.
            idempotency_key: what is submitted again over the session under its key, by whichever
                agent, is the same handoff as long as that is kept, and nothing is written. None: a
                new one.

        Raises:
            InvalidInputError: a field is wrong, or the key was another request's; nothing was
                written.
            ContextNotFoundError, VersionNotFoundError: there is nothing to hand off.
            StoreUnavailableError: Redis did not answer.
        """
        agent_id = check_id(agent_id, "agent_id")
        handoff_id = _id_of(session_id, idempotency_key)
        known = self._tree.find_request(handoff_id) if idempotency_key is not None else None
        if known is None:
            version = self._store.resolve_version(session_id, context_version)
            self._require_mergeable(session_id, merge)
        else:  # not the head, which may have moved on since
            version = context_version or known.context_version
        request = make_request(
            session_id=session_id,
            context_version=version,
            agent_id=agent_id,
            tasks=[_task(task) for task in tasks],
            merge=merge,
            policy=policy,
            limits=limits or self._limits,
        )
        if known is not None:
            known.check_same(request)
            return self.find(handoff_id)
        # Its nodes read that version for as long as it runs, however many are written meanwhile.
        self._store.pin(
            session_id,
            handoff_id,
            version,
            agent_id=agent_id,
            seconds=request.limits.retention_seconds,
        )
        self._tree.open(handoff_id, request, self._default_runner)
        try:
            self._dispatcher.start(handoff_id)
        except BrokerUnavailableError as error:
            logger.warning(
                "handoff %s is recorded and starts with the sweep: %s", handoff_id, error
            )
        return self.find(handoff_id)

    def _require_mergeable(self, session_id: str, merge: MergePolicy) -> None:
        """Rather than to find out when the work has been done and paid."""
        if merge == "append" and self._store.show(session_id).content_type != "text/plain":
            raise InvalidInputError("merge", "none, as the session holds a JSON document", merge)

    def retry(self, handoff_id: str, node_id: str | None = None) -> Handoff:
        """Have an ended handoff go on with what has not ended ok; results that are stored stay.

        A node over children that go again goes on with their new results, from its continuation.
        What was cancelled or skipped goes again too, each node with all its attempts. What the
        earlier rounds merged stays merged; this one adds what it brings.

        Args:
            handoff_id: the handoff.
            node_id: only this node, and what is below it; None: all of it.

        Raises:
            HandoffNotFoundError: it does not exist or has expired.
            InvalidInputError: it has not ended, or there is nothing to do again.
            ContextNotFoundError, VersionNotFoundError: what its nodes read is gone.
        """
        handoff = self.find(handoff_id)
        if node_id is not None:
            check_node_id(node_id)
        outcome = handoff.outcome()
        if not outcome.ended:
            raise InvalidInputError("handoff_id", "one that has ended", f"<{outcome.state}>")
        retention_seconds = self._tree.retention_seconds(handoff_id)
        self._store.pin(
            outcome.session_id,
            handoff_id,
            outcome.base_version,
            agent_id=outcome.agent_id,
            seconds=retention_seconds,
        )
        try:
            nodes = self._tree.reopen(handoff_id, node_id)
        except InvalidInputError:
            self._store.unpin(outcome.session_id, handoff_id, agent_id=outcome.agent_id)
            raise
        try:
            self._dispatcher.run(handoff_id, nodes)
        except BrokerUnavailableError as error:
            logger.warning("handoff %s goes on with the sweep: %s", handoff_id, error)
        return handoff

    def find(self, handoff_id: str) -> Handoff:
        """A handle on a handoff, whoever submitted it. Asks nothing of Redis."""
        return Handoff(check_id(handoff_id, "handoff_id"), self._tree, self._view)

    def close(self) -> None:
        """Close the connections to the broker."""
        self._dispatcher.close()

    def newest(self, limit: int = 20) -> list[Outcome]:
        """The newest handoffs, newest first."""
        return self._view.newest(limit)


class Handoff:
    """A handle on one handoff. Every method may raise HandoffNotFoundError once it has expired."""

    def __init__(self, handoff_id: str, tree: HandoffTree, view: HandoffView) -> None:
        self.handoff_id = handoff_id
        self._tree = tree
        self._view = view

    def outcome(self) -> Outcome:
        """The state now, final or not."""
        return self._view.outcome(self.handoff_id)

    def nodes(self) -> list[NodeRecord]:
        """All nodes in slot order, children behind their parents."""
        return self._view.nodes(self.handoff_id)

    def events(self, after: str = "0-0", timeout_seconds: float | None = None) -> Iterator[Event]:
        """Events from `after` on, as they happen, until the handoff has ended.

        Raises:
            TimeoutError: it had not ended in time.
        """
        return self._view.watch(self.handoff_id, after, timeout_seconds=timeout_seconds)

    def wait(
        self,
        timeout_seconds: float | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Outcome:
        """Wait until the handoff has ended; its outcome.

        Raises:
            TimeoutError: it had not ended in time; it goes on.
        """
        for event in self.events(timeout_seconds=timeout_seconds):
            if on_event is not None:
                on_event(event)
        return self.outcome()

    def result(self) -> str | None:
        """The merged result: the work log of the first level; None while there is none.

        Raises:
            ContextCorruptError: it is not what was stored.
        """
        return self._tree.merged(self.handoff_id)

    def node_result(self, node_id: str) -> str | None:
        """One node's result, or None if it has none."""
        return self._tree.results(self.handoff_id, [node_id]).get(node_id)

    def cancel(self) -> str:
        """Cancel it: no node starts from now on.

        Returns:
            The state it got: `cancelled`; `running` while workers have yet to notice; `joining`
            if it was too late, as all nodes have ended; or what it had ended in before.
        """
        return self._tree.cancel(self.handoff_id)


def _id_of(session_id: str, idempotency_key: str | None) -> str:
    if idempotency_key is None:
        return new_handoff_id()
    named = [session_id, check_id(idempotency_key, "idempotency_key")]
    return f"handoff_{hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]}"


def _task(task: str | TaskSpec | ChildTask) -> object:
    if isinstance(task, TaskSpec):
        return task
    if isinstance(task, ChildTask):
        return {"instruction": task.instruction, "runner": task.runner}
    return {"instruction": task}
