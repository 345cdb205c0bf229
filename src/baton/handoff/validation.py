"""Validates a handoff package before it is handed over: roles, preconditions, token buffer."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from baton.agents.condensing import DEFAULT_SHARE, condense
from baton.agents.configured import configured_summariser
from baton.agents.token_counting import estimate_text_tokens
from baton.errors import (
    AgentCompatibilityError,
    ModelUnavailableError,
    RunnerError,
    StaleHandoffError,
)
from baton.handoff.checks import PackageChecks, failures
from baton.swarm.cooperation import CooperationTable
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    import redis

    from baton.agents.budget import Budget
    from baton.agents.handoff_package import HandoffPackage
    from baton.agents.summariser import Summariser
    from baton.agents.token_counting import TokenCounter
    from baton.agents.view import View
    from baton.handoff.checks import Check
    from baton.settings import ClientSettings
    from baton.store.contexts import ContextStore

logger = logging.getLogger(__name__)

BUFFER_TOKENS: Final = 30_000
MAX_VIEW_TOKENS: Final = 60_000  # what 30 % of a window of 200,000 are


@dataclass(frozen=True, slots=True)
class TokenBuffer:
    """What the sender's window had left, and what condensing the context saves.

    `summariser` is who condensed it; empty where nobody did. `note` says why not, though the
    buffer was short.
    """

    wanted_tokens: int
    available_tokens: int
    saved_tokens: int = 0
    summariser: str = ""
    note: str = ""

    @property
    def short(self) -> bool:
        """Whether less was left than wanted, before anything was condensed."""
        return self.available_tokens < self.wanted_tokens

    @property
    def restored(self) -> bool:
        """Whether as much as wanted is left now."""
        return self.available_tokens + self.saved_tokens >= self.wanted_tokens


@dataclass(frozen=True, slots=True)
class HandoffReport:
    """What validation found.

    `package` is the one to hand over: its version known, and its context condensed if the buffer
    was short. Where something does not hold, it is the one that was given.
    """

    package: HandoffPackage = field(repr=False)
    checks: tuple[Check, ...]
    buffer: TokenBuffer

    @property
    def ok(self) -> bool:
        """Whether it may be handed over. A short buffer does not stop a handoff."""
        return all(check.holds for check in self.checks)

    def require_ok(self) -> None:
        """Return if it may be handed over.

        Raises:
            AgentCompatibilityError: the one role may not hand to the other.
            StaleHandoffError: something else does not hold; carries all of that.
        """
        for check in self.checks:
            if check.kind == "roles" and not check.holds:
                raise AgentCompatibilityError(check.reason)
        if not self.ok:
            raise StaleHandoffError(self.package.handoff_id, failures(self.checks))


class HandoffValidator:
    """Validates packages. Safe for threads, if its summariser is.

    Args:
        store: where the sessions live.
        checks: what is looked at.
        buffer_tokens: a sender with fewer tokens left has its context condensed first.
        summariser: condenses; None: the extractive one, which needs no model, and which also
            takes the place of a model that gives no answer.
        count_tokens: counts what it makes; the estimate by default.
    """

    def __init__(
        self,
        store: ContextStore,
        checks: PackageChecks,
        *,
        buffer_tokens: int = BUFFER_TOKENS,
        summariser: Summariser | None = None,
        count_tokens: TokenCounter = estimate_text_tokens,
    ) -> None:
        self._store = store
        self.checks = checks
        self._buffer_tokens = check_whole_number(buffer_tokens, "buffer_tokens")
        self._summariser = summariser
        self._count_tokens = count_tokens

    def examine(self, package: HandoffPackage, budget: Budget | None = None) -> HandoffReport:
        """What is so, without refusing. Writes nothing but the note of a read, where it condenses.

        `budget` is what the package's own handoff is to get, while that is not recorded yet.

        Raises:
            StoreUnavailableError: Redis did not answer.
            what the summariser raises.
        """
        checks = self.checks.run(package, budget=budget)
        available = package.session_context.available_tokens
        buffer = TokenBuffer(self._buffer_tokens, available)
        if not all(check.holds for check in checks):
            return HandoffReport(package, checks, buffer)
        package = self._at_version(package)
        if not buffer.short or package.session_context.view is not None:
            return HandoffReport(package, checks, buffer)
        return self._condensed(package, checks)

    def validate(self, package: HandoffPackage, budget: Budget | None = None) -> HandoffReport:
        """As `examine`, but refuses what does not hold.

        Raises:
            AgentCompatibilityError: the one role may not hand to the other.
            StaleHandoffError: something else does not hold; carries all of that.
            StoreUnavailableError: Redis did not answer.
        """
        report = self.examine(package, budget)
        report.require_ok()
        return report

    def _at_version(self, package: HandoffPackage) -> HandoffPackage:
        context = package.session_context
        version = self._store.resolve_version(context.session_id, context.version)
        return _with_context(package, version=version)

    def _condensed(self, package: HandoffPackage, checks: tuple[Check, ...]) -> HandoffReport:
        context = package.session_context
        if "encrypted" in self._store.show(context.session_id).flags:
            note = "the session is sealed, and a view of it would not be"
            buffer = TokenBuffer(self._buffer_tokens, context.available_tokens, note=note)
            return HandoffReport(package, checks, buffer)
        try:
            view = self._view_of(package, self._summariser)
        except (ModelUnavailableError, RunnerError) as error:
            # Whoever runs out of tokens must be able to hand over, model or no model.
            logger.warning("condensed without a model: %s", error)
            view = self._view_of(package, None)
        buffer = TokenBuffer(
            self._buffer_tokens,
            context.available_tokens,
            saved_tokens=view.saved_tokens,
            summariser=view.summariser,
        )
        return HandoffReport(_with_context(package, view=view), checks, buffer)

    def _view_of(self, package: HandoffPackage, summariser: Summariser | None) -> View:
        context = package.session_context
        found = self._store.get(context.session_id, context.version, agent_id=package.from_agent)
        size_tokens = max(1, self._count_tokens(found.content))
        return condense(
            found.content,
            session_id=found.session_id,
            version=found.version,
            share=min(DEFAULT_SHARE, MAX_VIEW_TOKENS / size_tokens),
            count_tokens=self._count_tokens,
            summariser=summariser,
        )


def configured_validator(
    redis_client: redis.Redis, store: ContextStore, settings: ClientSettings
) -> HandoffValidator:
    """A validator as the deployment's settings have it: role rules, buffer.

    Raises:
        SettingsError: a role rule is none.
    """
    table = CooperationTable.configured(settings)
    checks = PackageChecks(redis_client, store, table=table)
    return HandoffValidator(
        store,
        checks,
        buffer_tokens=settings.handoff_buffer_tokens,
        summariser=configured_summariser(settings),
    )


def _with_context(package: HandoffPackage, **fields: object) -> HandoffPackage:
    context = package.session_context.model_copy(update=fields)
    return package.model_copy(update={"session_context": context})
