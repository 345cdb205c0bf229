"""The receiver's side of a handoff package: looks again, and says what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.errors import HandoffNotFoundError, PermanentError, StaleHandoffError
from baton.handoff.checks import Check, failures

if TYPE_CHECKING:
    from baton.agents.budget import Budget
    from baton.agents.handoff_package import HandoffPackage
    from baton.handoff.checks import PackageChecks
    from baton.handoff.packages import Acknowledgement, HandoffPackages


class PackageReceiver:
    """Acknowledges packages, for workers and for agents. Safe for threads.

    Every method raises StoreUnavailableError where Redis does not answer; nothing is recorded then.
    """

    def __init__(self, packages: HandoffPackages, checks: PackageChecks) -> None:
        self._packages = packages
        self._checks = checks

    def find(self, handoff_id: str) -> HandoffPackage | None:
        """As `get`, but None if it has none."""
        return self._packages.find(handoff_id)

    def get(self, handoff_id: str) -> HandoffPackage:
        """The handoff's package.

        Raises:
            HandoffNotFoundError: it has none, or it has expired.
            ContextCorruptError: it is not what was stored.
        """
        package = self._packages.find(handoff_id)
        if package is None:
            raise HandoffNotFoundError(f"handoff {handoff_id} has no package, or it has expired")
        return package

    def receive(self, handoff_id: str, worker: str) -> bool:
        """Whether a worker may begin a handoff: it has no package, or all that demands holds.

        Of all workers, and however often it is asked, the first answer counts.
        """
        if not self._packages.exists(handoff_id):
            return True
        known = self._packages.find_acknowledgement(handoff_id)
        if known is None:
            known = self._packages.acknowledge(handoff_id, worker, self._look(handoff_id))
        return known.accepted

    def receive_again(self, handoff_id: str, by: str, budget: Budget | None = None) -> None:
        """Return if a handoff that is retried may begin; one that was accepted has begun already.

        `budget` is what it is to get now; None: what it has.

        Raises:
            StaleHandoffError: it was refused, and something does not hold still, or again.
        """
        known = self._packages.find_acknowledgement(handoff_id)
        if known is None or known.accepted:
            return
        checks = self._look(handoff_id, budget)
        if failed := failures(checks):
            raise StaleHandoffError(handoff_id, failed)
        self._packages.acknowledge(handoff_id, by, checks, again=True)

    def acknowledge(self, handoff_id: str, agent_id: str) -> Acknowledgement:
        """Take a handoff over, for an agent: look at everything, and record what was found.

        Asked again by the same agent, answers the same.

        Raises:
            HandoffNotFoundError: there is no such package.
            AgentNotFoundError: there is no such agent.
            AgentCompatibilityError: the package is for another; nothing was recorded.
            StaleHandoffError: something does not hold, which is recorded; or another agent has
                taken it over.
        """
        package = self.get(handoff_id)
        self._checks.require_addressee(package, agent_id)
        known = self._packages.find_acknowledgement(handoff_id)
        if known is None:
            checks = self._checks.run(package, to_agent=agent_id)
            known = self._packages.acknowledge(handoff_id, agent_id, checks)
        known.require_accepted()
        if known.by != agent_id:
            taken = (("acknowledgement", f"{known.by} has taken it over"),)
            raise StaleHandoffError(handoff_id, taken)
        return known

    def _look(self, handoff_id: str, budget: Budget | None = None) -> tuple[Check, ...]:
        try:
            return self._checks.run(self.get(handoff_id), budget=budget)
        except PermanentError as error:  # damaged, or of another Baton: it can never begin
            return (Check("package", "package", holds=False, reason=str(error)),)
