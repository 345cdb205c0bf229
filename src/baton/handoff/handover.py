"""Packages that one agent hands to another: prepared, validated, handed over, acknowledged."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from baton.agents.handoff_package import make_package
from baton.handoff.packages import HandoffPackages
from baton.handoff.receiving import PackageReceiver
from baton.handoff.validation import configured_validator
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from baton.agents.handoff_package import HandoffPackage, TaskContext
    from baton.agents.preconditions import Precondition
    from baton.handoff.packages import Acknowledgement
    from baton.handoff.validation import HandoffReport, HandoffValidator
    from baton.settings import ClientSettings
    from baton.store.contexts import ContextStore
    from baton.swarm.registry import AgentRegistry


class PackageHandover:
    """What a coordinator does with packages. See `RedisSwarmCoordinator`."""

    redis: redis.Redis
    registry: AgentRegistry
    store: ContextStore
    _settings: ClientSettings

    def prepare_handoff(
        self,
        agent_id: str,
        to_agent: str,
        *,
        task: TaskContext | dict[str, Any],
        available_tokens: int,
        preconditions: Sequence[Precondition] = (),
        model: str | None = None,
        user_language: str | None = None,
    ) -> HandoffPackage:
        """A package from an agent, over its session as it is now. Nothing is written.

        Args:
            agent_id: who hands over.
            to_agent: an agent's id, or a role.
            task: what is handed over; `next_step` at least.
            available_tokens: what is left of the sender's window.
            preconditions: what must hold when the receiver begins (`baton.agents.preconditions`).
            model: the sender's.
            user_language: a language tag such as `ko`.

        Raises:
            AgentNotFoundError: no such agent.
            ContextNotFoundError: its session holds no context.
            InvalidInputError: a field is wrong; names it by its path in the package.
        """
        agent = self.registry.get(agent_id)
        version = self.store.resolve_version(agent.session_id)
        checkpoints = self.store.checkpoints(agent.session_id)
        return make_package(
            from_agent=agent_id,
            to_agent=to_agent,
            session_context={
                "session_id": agent.session_id,
                "version": version,
                "model": model,
                "context_position": _position(available_tokens, agent.context_capacity),
                "available_tokens": available_tokens,
                "user_language": user_language,
            },
            task_context=task,
            recovery_info={
                "last_checkpoint": checkpoints[-1].checkpoint_id if checkpoints else None,
                "session_fork_available": True,
            },
            preconditions=tuple(preconditions),
        )

    def validate_handoff(self, package: HandoffPackage) -> HandoffReport:
        """Whether the package may be handed over; the one to hand over is in the report.

        It may be condensed there: if the sender has fewer than `handoff_buffer_tokens` left.

        Raises:
            AgentCompatibilityError: the one role may not hand over to the other.
            StaleHandoffError: something that the package demands does not hold.
        """
        return self._validator.validate(package)

    def hand_over(self, package: HandoffPackage) -> HandoffReport:
        """Hand a package to another agent, which takes it over with `acknowledge_handoff`.

        For work that an agent of its own does; `hand_off` gives tasks to the workers. Repeated with
        the same package, it does nothing more.

        Raises:
            InvalidInputError: another package has its id.
            what `validate_handoff` raises.
        """
        report = self._validator.validate(package)
        kept = self._packages.put(
            report.package,
            source_digest=package.digest,
            retention_seconds=self._settings.handoff_retention_seconds,
        )
        return replace(report, package=kept)

    def acknowledge_handoff(self, handoff_id: str, agent_id: str) -> HandoffPackage:
        """Take over, for an agent, what was handed over to it or to its role: the package.

        Everything is checked again, and what was found is recorded beside the handoff. The first
        agent that acknowledges has it; asked again, it gets the same answer.

        Raises:
            HandoffNotFoundError: there is no such package.
            AgentNotFoundError: no such agent.
            AgentCompatibilityError: it is for another; nothing was recorded.
            StaleHandoffError: something does not hold any more, or another has taken it over.
        """
        receiver = PackageReceiver(self._packages, self._validator.checks)
        receiver.acknowledge(handoff_id, agent_id)
        return receiver.get(handoff_id)

    def find_acknowledgement(self, handoff_id: str) -> Acknowledgement | None:
        """What the receiver of a package found; None while it has not acknowledged it."""
        return self._packages.find_acknowledgement(handoff_id)

    @cached_property
    def _packages(self) -> HandoffPackages:
        return HandoffPackages(self.redis)

    @cached_property
    def _validator(self) -> HandoffValidator:
        return configured_validator(self.redis, self.store, self._settings)


def _position(available_tokens: int, capacity_tokens: int) -> float:
    """The percentage of a window that is in use."""
    used = 1 - check_whole_number(available_tokens, "available_tokens") / capacity_tokens
    return round(max(0.0, 100 * used), 1)
