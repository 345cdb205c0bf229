"""Whether what a handoff package demands holds now: roles, context, checkpoint, preconditions.

Sender and receiver run the same checks. They read; nothing is held, so what held a moment ago may
not hold when the work begins. That is why the receiver runs them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, assert_never

from baton.agents.preconditions import (
    BudgetLeft,
    CheckpointExists,
    ContextAtVersion,
    LockHeld,
    NotAfter,
)
from baton.clock import iso_utc, utc_from_seconds
from baton.errors import AgentCompatibilityError, PermanentError
from baton.handoff.accounts import Accounts
from baton.handoff.keys import HandoffKeys
from baton.redis_client import redis_errors, redis_seconds, require_binary
from baton.swarm.cooperation import DEFAULT_TABLE, require_cooperation
from baton.swarm.locks import Locks
from baton.swarm.registry import AgentRegistry

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import redis

    from baton.agents.budget import Budget
    from baton.agents.handoff_package import HandoffPackage
    from baton.agents.preconditions import Precondition
    from baton.agents.view import View
    from baton.store.contexts import ContextStore
    from baton.swarm.cooperation import CooperationTable


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    `name` is its place in the package, such as `preconditions[0]`; `kind` is what it is about:
    `roles`, `context`, or a precondition's. `reason` says why it does not hold, or is empty.
    """

    name: str
    kind: str
    holds: bool
    reason: str = ""


class _UnmetError(PermanentError):
    """<how it is>, not <what was demanded>; becomes a check that does not hold."""


class PackageChecks:
    """Holds packages to what is so in Redis. Safe for threads.

    Args:
        redis_client: a binary client.
        store: where the sessions live.
        table: which role may hand to which.
    """

    def __init__(
        self,
        redis_client: redis.Redis,
        store: ContextStore,
        *,
        table: CooperationTable = DEFAULT_TABLE,
    ) -> None:
        self._redis = require_binary(redis_client)
        self._store = store
        self._registry = AgentRegistry(redis_client)
        self._locks = Locks(redis_client)
        self._accounts = Accounts(redis_client)
        self._table = table

    def run(
        self, package: HandoffPackage, *, to_agent: str | None = None, budget: Budget | None = None
    ) -> tuple[Check, ...]:
        """Look at everything, also behind what does not hold.

        Args:
            package: what is handed over.
            to_agent: the agent that receives it; None: whom the package names.
            budget: what the package's own handoff is to get, where that is not what is recorded.

        Raises:
            StoreUnavailableError: Redis did not answer, so nothing was found out.
        """
        receiver = to_agent or package.to_agent
        context = package.session_context
        checks = [
            _checked("roles", "roles", partial(self._require_roles, package, receiver)),
            _checked(
                "session_context",
                "context",
                partial(self._store.resolve_version, context.session_id, context.version),
            ),
        ]
        if context.view is not None:
            require = partial(self._require_original, package, context.view)
            checks.append(_checked("session_context.view", "context", require))
        for name, wanted in _demands(package):
            require_one = partial(self._require, wanted, package, budget)
            checks.append(_checked(name, wanted.kind, require_one))
        return tuple(checks)

    def require_addressee(self, package: HandoffPackage, agent_id: str) -> None:
        """Return if the package is for an agent of that id or role, to which its sender may hand.

        Raises:
            AgentCompatibilityError: it is for another.
            AgentNotFoundError: there is no such agent.
        """
        agent = self._registry.get(agent_id)
        if package.to_agent not in (agent_id, agent.role):
            raise AgentCompatibilityError(
                f"{agent_id} may not take over {package.handoff_id}: it is for {package.to_agent}."
            )
        self._require_roles(package, agent_id)

    def require_sender(self, package: HandoffPackage, agent_id: str) -> None:
        """Return if the package is from that agent, or from its role.

        Raises:
            AgentCompatibilityError: it is from another.
        """
        if agent_id == package.from_agent:
            return
        agent = self._registry.find(agent_id)
        if agent is None or agent.role != package.from_agent:
            raise AgentCompatibilityError(
                f"{agent_id} may not hand over {package.handoff_id}: it is from "
                f"{package.from_agent}."
            )

    def _require_roles(self, package: HandoffPackage, receiver: str) -> None:
        require_cooperation(package.from_agent, receiver, self._registry, self._table)

    def _require_original(self, package: HandoffPackage, view: View) -> None:
        """A view that came with the package is of the context; its summaries are the sender's."""
        source = view.source
        found = self._store.get(source.session_id, source.version, agent_id=package.from_agent)
        if found.content_hash != source.content_hash:
            raise _UnmetError(f"it is a view of {source.content_hash}, not {found.content_hash}")

    def _require(
        self, wanted: Precondition, package: HandoffPackage, budget: Budget | None
    ) -> None:
        here = package.session_context.session_id
        match wanted:
            case ContextAtVersion():
                self._require_version(wanted, wanted.session_id or here)
            case CheckpointExists():
                self._require_checkpoint(wanted, wanted.session_id or here)
            case LockHeld():
                self._require_lock(wanted, wanted.session_id or here)
            case BudgetLeft():
                self._require_budget(wanted, package.handoff_id, budget)
            case NotAfter():
                self._require_time(wanted)
            case _:
                assert_never(wanted)

    def _require_version(self, wanted: ContextAtVersion, session_id: str) -> None:
        head = self._store.resolve_version(session_id)
        if head != wanted.version:
            raise _UnmetError(f"session {session_id} is at {head}, not at {wanted.version}")

    def _require_checkpoint(self, wanted: CheckpointExists, session_id: str) -> None:
        known = {each.checkpoint_id for each in self._store.checkpoints(session_id)}
        if wanted.checkpoint_id not in known:
            raise _UnmetError(f"session {session_id} has no checkpoint {wanted.checkpoint_id}")

    def _require_lock(self, wanted: LockHeld, session_id: str) -> None:
        lock = self._locks.find(session_id, wanted.name)
        where = f"session {session_id}: lock {wanted.name}"
        if lock is None:
            raise _UnmetError(f"{where} is not held")
        if wanted.agent_id not in (None, lock.agent_id):
            raise _UnmetError(f"{where} is held by {lock.agent_id}, not by {wanted.agent_id}")
        if wanted.fence not in (None, lock.fence):
            raise _UnmetError(f"{where} is held under {lock.fence}, no longer under {wanted.fence}")

    def _require_budget(self, wanted: BudgetLeft, own_id: str, budget: Budget | None) -> None:
        handoff_id = wanted.handoff_id or own_id
        if handoff_id == own_id and budget is not None:
            tokens = budget.tokens
            usd = None if budget.usd is None else Decimal(budget.usd)
        else:
            tokens, usd = self._left(handoff_id)
        if wanted.tokens is not None and tokens is not None and tokens < wanted.tokens:
            raise _UnmetError(f"handoff {handoff_id} has {tokens} tokens left, not {wanted.tokens}")
        if wanted.usd is not None and usd is not None and usd < wanted.usd:
            raise _UnmetError(f"handoff {handoff_id} has ${usd} left, not ${wanted.usd}")

    def _left(self, handoff_id: str) -> tuple[int | None, Decimal | None]:
        """What the next call could reserve: neither spent nor held by others; None: no cap."""
        with redis_errors(self._redis):
            exists = self._redis.hexists(HandoffKeys.of(handoff_id).base, "state")
        if not exists:
            raise _UnmetError(f"handoff {handoff_id} does not exist or has expired")
        account = self._accounts.account(handoff_id)
        tokens, usd = account.cap_tokens, account.cap_usd
        return (
            None if tokens is None else tokens - account.spent_tokens - account.held_tokens,
            None if usd is None else usd - account.spent_usd - account.held_usd,
        )

    def _require_time(self, wanted: NotAfter) -> None:
        now = self._now()
        if now > wanted.at:
            raise _UnmetError(f"it is {iso_utc(now)}, later than {iso_utc(wanted.at)}")

    def _now(self) -> datetime:
        with redis_errors(self._redis):
            return utc_from_seconds(redis_seconds(self._redis))


def failures(checks: tuple[Check, ...]) -> tuple[tuple[str, str], ...]:
    """Those that do not hold, as (name, reason)."""
    return tuple((check.name, check.reason) for check in checks if not check.holds)


def _demands(package: HandoffPackage) -> list[tuple[str, Precondition]]:
    """What the package demands, each under its place in it."""
    demands: list[tuple[str, Precondition]] = []
    checkpoint_id = package.recovery_info.checkpoint_id
    if checkpoint_id is not None:
        wanted = CheckpointExists(checkpoint_id=checkpoint_id)
        demands.append(("recovery_info.last_checkpoint", wanted))
    for index, each in enumerate(package.preconditions):
        demands.append((f"preconditions[{index}]", each))
    return demands


def _checked(name: str, kind: str, require: Callable[[], object]) -> Check:
    """Whatever is permanently in the way, such as a session that is gone, is the reason."""
    try:
        require()
    except PermanentError as error:
        return Check(name, kind, holds=False, reason=str(error))
    return Check(name, kind, holds=True)
