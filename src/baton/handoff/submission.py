"""The client's side of a handoff: submit, follow, cancel, collect."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING

from baton.agents.runner import ChildTask
from baton.errors import BrokerUnavailableError, InvalidInputError
from baton.failpoints import reach
from baton.handoff.accounts import Accounts
from baton.handoff.checks import PackageChecks
from baton.handoff.package import Limits, TaskSpec, make_request
from baton.handoff.packages import HandoffPackages
from baton.handoff.receiving import PackageReceiver
from baton.handoff.tree import HandoffTree
from baton.handoff.validation import HandoffValidator
from baton.handoff.view import HandoffView
from baton.ids import check_id, check_node_id, new_handoff_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis

    from baton.agents.budget import Budget
    from baton.agents.handoff_package import HandoffPackage
    from baton.handoff.accounts import Account
    from baton.handoff.claims import Move
    from baton.handoff.dispatcher import Dispatcher
    from baton.handoff.outcome import NodeRecord, Outcome
    from baton.handoff.package import HandoffRequest, MergePolicy, OutcomePolicy
    from baton.handoff.packages import Acknowledgement
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
        max_open: while so many handoffs of the deployment have not ended, no more are taken.
        validator: of packages; None: one with the default rules.
    """

    def __init__(
        self,
        redis_client: redis.Redis,
        store: ContextStore,
        dispatcher: Dispatcher,
        *,
        limits: Limits | None = None,
        default_runner: str = "offline",
        max_open: int = 10_000,
        validator: HandoffValidator | None = None,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._tree = HandoffTree(redis_client)
        self._view = HandoffView(redis_client)
        self._accounts = Accounts(redis_client)
        self._limits = limits or Limits()
        self._default_runner = default_runner
        self._max_open = max_open
        checks = PackageChecks(redis_client, store)
        self.validator = validator or HandoffValidator(store, checks)
        self.packages = HandoffPackages(redis_client)
        self._receiver = PackageReceiver(self.packages, self.validator.checks)

    def submit(  # noqa: PLR0913  # all by name but two
        self,
        session_id: str,
        tasks: Sequence[str | TaskSpec | ChildTask],
        *,
        agent_id: str,
        context_version: str | None = None,
        merge: MergePolicy = "append",
        policy: OutcomePolicy = "best_effort",
        limits: Limits | None = None,
        budget: Budget | None = None,
        idempotency_key: str | None = None,
        package: HandoffPackage | None = None,
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
            budget: what its whole tree may spend, each attempt included; None: no bound.
            idempotency_key: what is submitted again over the session under its key, by whichever
                agent, is the same handoff as long as that is kept, and nothing is written. None: a
                new one.
            package: what the sender says of it, over the same session. It is validated before
                anything is written, condensed where the sender has few tokens left, and checked
                again by the worker that begins. The handoff has its id, which is its idempotency
                key too; the nodes read its version.

        Raises:
            InvalidInputError: a field is wrong, or the key, or the package's id, was another
                request's; nothing was written.
            AgentCompatibilityError: the package is from another agent, or its role may not hand
                over to the receiver's.
            StaleHandoffError: the package demands what does not hold.
            ContextNotFoundError, VersionNotFoundError: there is nothing to hand off.
            HandoffBacklogError: too many are open; nothing was written.
            StoreUnavailableError: Redis did not answer.
        """
        agent_id = check_id(agent_id, "agent_id")
        if package is None:
            handoff_id = _id_of(session_id, idempotency_key)
        else:
            handoff_id = _id_of_package(package, session_id, context_version, idempotency_key)
        repeatable = idempotency_key is not None or package is not None
        known = self._tree.find_request(handoff_id) if repeatable else None
        source_digest = "" if package is None else package.digest
        if known is None:
            if package is not None:
                package = self._validated(package, agent_id, budget)
                context_version = package.session_context.version
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
            budget=budget,
            package=source_digest,
        )
        if known is not None:
            known.check_same(request)
            return self.find(handoff_id)
        self._tree.require_room(self._max_open)
        reach("submit.resolved")
        if package is not None:
            request = self._keep(package, request)
        self._record(handoff_id, request)
        return self.find(handoff_id)

    def _record(self, handoff_id: str, request: HandoffRequest) -> None:
        """Pin the version, record the handoff, and publish its start."""
        # Its nodes read that version for as long as it runs, however many are written meanwhile.
        self._store.pin(
            request.session_id,
            handoff_id,
            request.context_version,
            agent_id=request.agent_id,
            seconds=request.limits.retention_seconds,
        )
        reach("submit.pinned")
        self._tree.open(handoff_id, request, self._default_runner)
        reach("submit.recorded")
        try:
            self._dispatcher.start(handoff_id)
        except BrokerUnavailableError as error:
            logger.warning(
                "handoff %s is recorded and starts with the sweep: %s", handoff_id, error
            )
        reach("submit.published")

    def _validated(
        self, package: HandoffPackage, agent_id: str, budget: Budget | None
    ) -> HandoffPackage:
        self.validator.checks.require_sender(package, agent_id)
        return self.validator.validate(package, budget).package

    def _keep(self, package: HandoffPackage, request: HandoffRequest) -> HandoffRequest:
        """Store the package before its handoff, lest a worker finds the one without the other.

        Of a submission that died behind this, the repeat goes on with the package of the first.
        """
        kept = self.packages.put(
            package,
            source_digest=request.package,
            retention_seconds=request.limits.retention_seconds,
        )
        return request.model_copy(update={"context_version": kept.session_context.version})

    def _require_mergeable(self, session_id: str, merge: MergePolicy) -> None:
        """Rather than to find out when the work has been done and paid."""
        if merge == "append" and self._store.show(session_id).content_type != "text/plain":
            raise InvalidInputError("merge", "none, as the session holds a JSON document", merge)

    def retry(
        self, handoff_id: str, node_id: str | None = None, *, budget: Budget | None = None
    ) -> Handoff:
        """Have an ended handoff go on with what has not ended ok; results that are stored stay.

        A node over children that go again goes on with their new results, from its continuation.
        What was cancelled or skipped goes again too, each node with all its attempts. What the
        earlier rounds merged stays merged; this one adds what it brings.

        Args:
            handoff_id: the handoff.
            node_id: only this node, what is below it, and what follows it in a chain; None: all.
            budget: bounds that replace those of the handoff, whose spending goes on counting; None:
                they stay. Its deadline, if it had one, begins anew.

        Raises:
            HandoffNotFoundError: it does not exist or has expired.
            InvalidInputError: it has not ended, or there is nothing to do again.
            StaleHandoffError: its package was refused by its receiver, and still would be.
            ContextNotFoundError, VersionNotFoundError: what its nodes read is gone.
        """
        handoff = self.find(handoff_id)
        if node_id is not None:
            check_node_id(node_id)
        outcome = handoff.outcome()
        if not outcome.ended:
            raise InvalidInputError("handoff_id", "one that has ended", f"<{outcome.state}>")
        self._receiver.receive_again(handoff_id, outcome.agent_id, budget)
        retention_seconds = self._tree.retention_seconds(handoff_id)
        self._store.pin(
            outcome.session_id,
            handoff_id,
            outcome.base_version,
            agent_id=outcome.agent_id,
            seconds=retention_seconds,
        )
        reach("retry.pinned")
        try:
            self._tree.reopen(handoff_id, node_id, budget)
        except InvalidInputError:
            self._store.unpin(outcome.session_id, handoff_id, agent_id=outcome.agent_id)
            raise
        reach("retry.reopened")
        try:
            self._dispatcher.start(handoff_id)
        except BrokerUnavailableError as error:
            logger.warning("handoff %s goes on with the sweep: %s", handoff_id, error)
        reach("retry.published")
        return handoff

    def find(self, handoff_id: str) -> Handoff:
        """A handle on a handoff, whoever submitted it. Asks nothing of Redis."""
        handoff_id = check_id(handoff_id, "handoff_id")
        return Handoff(handoff_id, self._tree, self._view, self._accounts, self._dispatcher)

    def close(self) -> None:
        """Close the connections to the broker."""
        self._dispatcher.close()

    def newest(self, limit: int = 20) -> list[Outcome]:
        """The newest handoffs, newest first."""
        return self._view.newest(limit)


class Handoff:
    """A handle on one handoff. Every method may raise HandoffNotFoundError once it has expired."""

    def __init__(
        self,
        handoff_id: str,
        tree: HandoffTree,
        view: HandoffView,
        accounts: Accounts,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        self.handoff_id = handoff_id
        self._tree = tree
        self._view = view
        self._accounts = accounts
        self._dispatcher = dispatcher

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

    def package(self) -> HandoffPackage | None:
        """The package that was handed over; None if it has none.

        Raises:
            ContextCorruptError: it is not what was stored.
        """
        return self._view.packages.find(self.handoff_id)

    def acknowledgement(self) -> Acknowledgement | None:
        """What its receiver found when it took the package over; None if it has not yet."""
        return self._view.packages.find_acknowledgement(self.handoff_id)

    def account(self, node_id: str = "") -> Account:
        """What was spent of its budget, and what outstanding calls hold.

        `node_id`: of the share that this node was given instead.
        """
        return self._accounts.account(self.handoff_id, node_id)

    def cancel(self, node_id: str | None = None) -> str:
        """Cancel it: no node starts from now on, and no paid call is sent after the return.

        That is why it may take as long as a permit to send a call lasts, 5 s. (A worker that the
        system froze between its last look at the clock and sending remains.)

        Args:
            node_id: only this node, and all below it; the others go on. None: all of it.

        Returns:
            The handoff's state: `cancelled`; `running` while workers have yet to notice, or where
            others go on; `joining` if all nodes have ended; or what it had ended in before.

        Raises:
            InvalidInputError: it has no such node.
        """
        if node_id is not None:
            check_node_id(node_id)
        state, moves = self._tree.cancel(self.handoff_id, node_id)
        try:
            self._follow(moves)
        except BrokerUnavailableError as error:
            logger.warning("handoff %s goes on with the sweep: %s", self.handoff_id, error)
        return state

    def _follow(self, moves: Sequence[Move]) -> None:
        """Publish what goes on beside what was cancelled; without a broker, the sweep does."""
        if self._dispatcher is None:
            return
        nodes = [move.node_id for move in moves if move.kind in ("run", "next")]
        if nodes:
            self._dispatcher.run(self.handoff_id, nodes)
        if any(move.kind == "join" for move in moves):
            self._dispatcher.join(self.handoff_id)


def _id_of(session_id: str, idempotency_key: str | None) -> str:
    if idempotency_key is None:
        return new_handoff_id()
    named = [session_id, check_id(idempotency_key, "idempotency_key")]
    return f"handoff_{hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]}"


def _id_of_package(
    package: HandoffPackage,
    session_id: str,
    context_version: str | None,
    idempotency_key: str | None,
) -> str:
    """The package's id, if the other arguments say nothing else.

    Raises:
        InvalidInputError: they do.
    """
    context = package.session_context
    if idempotency_key is not None:
        expected = "none beside a package, whose handoff_id is the key"
        raise InvalidInputError("idempotency_key", expected, idempotency_key)
    if session_id != context.session_id:
        raise InvalidInputError("session_id", f"the package's, {context.session_id}", session_id)
    if context_version not in (None, context.version):
        expected = f"the package's, {context.version or 'or none'}"
        raise InvalidInputError("context_version", expected, context_version)
    return package.handoff_id


def _task(task: str | TaskSpec | ChildTask) -> object:
    if isinstance(task, TaskSpec):
        return task
    if isinstance(task, ChildTask):
        return {"instruction": task.instruction, "runner": task.runner}
    return {"instruction": task}
