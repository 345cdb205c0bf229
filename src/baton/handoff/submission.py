"""The client's side of a handoff: submit, have it go on, find it again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from baton.errors import BrokerUnavailableError, InvalidInputError
from baton.failpoints import reach
from baton.handoff.accounts import Accounts
from baton.handoff.admission import Admission
from baton.handoff.asked import Asked
from baton.handoff.checks import PackageChecks
from baton.handoff.handle import Handoff
from baton.handoff.packages import HandoffPackages
from baton.handoff.receiving import PackageReceiver
from baton.handoff.request import Limits
from baton.handoff.tree import HandoffTree
from baton.handoff.validation import HandoffValidator
from baton.handoff.view import HandoffView
from baton.ids import check_id, check_node_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from baton.agents.budget import Budget
    from baton.agents.handoff_package import HandoffPackage
    from baton.agents.runner import ChildTask
    from baton.handoff.dispatcher import Dispatcher
    from baton.handoff.outcome import Outcome
    from baton.handoff.request import HandoffRequest, MergePolicy, OutcomePolicy, TaskSpec
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
        memory_share: nor while Redis uses more than this share of its `maxmemory`, if it has one.
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
        memory_share: float = 0.8,
        validator: HandoffValidator | None = None,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._tree = HandoffTree(redis_client)
        self._view = HandoffView(redis_client)
        self._accounts = Accounts(redis_client)
        self._limits = limits or Limits()
        self._default_runner = default_runner
        self._admission = Admission(redis_client, max_open=max_open, memory_share=memory_share)
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
            merge: what becomes of the results; see `MergePolicy`.
            policy: what the handoff needs lest it fail; see `OutcomePolicy`.
            limits: bounds of this handoff; None: those given at construction.
            budget: what its whole tree may spend, each attempt included; None: no bound.
            idempotency_key: what is submitted again over the session under its key, by whichever
                agent, is the same handoff as long as that is kept, and nothing is written.
            package: what the sender says of it, over the same session: validated first, condensed
                where the sender has few tokens left, checked again by the worker that begins. Its
                id is the handoff's, and the idempotency key; the nodes read its version.

        Raises:
            InvalidInputError: a field is wrong, or the key or package was another request's.
            AgentCompatibilityError, StaleHandoffError: the package may not be handed over so.
            ContextNotFoundError, VersionNotFoundError: there is nothing to hand off.
            HandoffBacklogError, StoreFullError: no room; nothing was written. Try again later.
            StoreUnavailableError: Redis did not answer.
        """
        asked = Asked(
            session_id, tuple(tasks), check_id(agent_id, "agent_id"), context_version, merge,
            policy, limits or self._limits, budget, idempotency_key, package,
        )  # fmt: skip
        known = self._tree.find_request(asked.handoff_id) if asked.repeatable else None
        if known is None:
            self._begin(asked)
        else:  # over its version, as the head may have moved on since
            known.check_same(asked.request(context_version or known.context_version))
        return self.find(asked.handoff_id)

    def _begin(self, asked: Asked) -> None:
        """Find room, validate, record, publish."""
        # First: before anything else is asked of a Redis that has little left.
        self._admission.require_room(asked.handoff_id, asked.session_id)
        package, version = asked.package, asked.context_version
        if package is not None:
            package = self._validated(package, asked.agent_id, asked.budget)
            version = package.session_context.version
        version = self._store.resolve_version(asked.session_id, version)
        self._require_mergeable(asked.session_id, asked.merge)
        request = asked.request(version)
        reach("submit.resolved")
        if package is not None:
            request = self._keep(package, request)
        self._record(asked.handoff_id, request)

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
            StoreFullError: no memory for it now; nothing was changed.
        """
        handoff = self.find(handoff_id)
        if node_id is not None:
            check_node_id(node_id)
        outcome = handoff.outcome()
        if not outcome.ended:
            raise InvalidInputError("handoff_id", "one that has ended", f"<{outcome.state}>")
        self._admission.require_memory(handoff_id, outcome.session_id)
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
