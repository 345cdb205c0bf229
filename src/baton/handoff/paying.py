"""One node's paid calls: waits for room in the budget, and through outages with what was paid."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final, Protocol

from baton.errors import OverBudgetError
from baton.failpoints import reach
from baton.handoff.outages import through_outage

if TYPE_CHECKING:
    from decimal import Decimal

    from baton.agents.permits import Permit
    from baton.agents.runner import Usage
    from baton.handoff.accounts import Accounts
    from baton.handoff.claims import Claim

FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 1.0

# Not the shared generator, whose state is the application's.
_spread: Final = random.SystemRandom()


class Work(Protocol):
    """What is asked while waiting; an assignment is one."""

    @property
    def seconds_left(self) -> float:
        """Until the node's own timeout."""

    def raise_if_cancelled(self) -> None:
        """Raise NodeCancelledError if it was."""


class Paying:
    """Reserves and settles for the holder of one claim."""

    def __init__(self, accounts: Accounts, claim: Claim) -> None:
        self._accounts = accounts
        self._claim = claim

    def reserve(self, tokens: int, usd: Decimal, *, seconds: float, work: Work) -> Permit:
        """See `Assignment.reserve`."""
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            work.raise_if_cancelled()
            permit = self._accounts.reserve(self._claim, tokens, usd, seconds=seconds)
            if permit is not None:
                reach("budget.reserved")
                return permit
            if work.seconds_left <= pause_seconds:
                raise OverBudgetError(
                    f"handoff {self._claim.handoff_id} node {self._claim.node_id}: other calls "
                    "held what is left of the budget for as long as the node may run"
                )
            time.sleep(pause_seconds * _spread.uniform(0.5, 1))
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)

    def settle(self, permit: Permit, usage: Usage, usd: Decimal) -> None:
        """See `Assignment.settle`."""
        claim = self._claim
        reach("budget.settling")
        through_outage(
            f"a paid call of node {claim.node_id}",
            lambda: self._accounts.settle(claim.handoff_id, permit, usage, usd),
        )
        reach("budget.settled")
