"""The accounts of a handoff's budget in Redis: permits for paid calls, and what was spent."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from baton.agents.budget import MOST_TOKENS, MOST_USD, to_nano, to_usd
from baton.agents.permits import Permit
from baton.errors import (
    BatonError,
    FencedError,
    InvalidInputError,
    NodeCancelledError,
    OverBudgetError,
    RunnerError,
)
from baton.handoff.keys import HandoffKeys
from baton.ids import new_operation_id
from baton.redis_client import redis_errors, require_binary
from baton.scripts import Script
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    import redis

    from baton.agents.runner import Usage
    from baton.handoff.claims import Claim

_RESERVE: Final = Script("baton.handoff", "reserve")
_SETTLE: Final = Script("baton.handoff", "settle")

SEND_WITHIN_SECONDS: Final = 5.0
SETTLE_GRACE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Account:
    """What a handoff has spent for good, and what outstanding calls hold; caps None: unbounded."""

    cap_tokens: int | None
    cap_usd: Decimal | None
    spent_tokens: int
    spent_usd: Decimal
    held_tokens: int
    held_usd: Decimal


class Accounts:
    """Reserves and settles. Safe for threads; raises StoreUnavailableError without Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._redis = require_binary(redis_client)

    def reserve(self, claim: Claim, tokens: int, usd: Decimal, *, seconds: float) -> Permit | None:
        """A permit for one call, or None while others hold what is left.

        Raises:
            InvalidInputError: a figure is negative, not finite, or beyond what a budget may have.
            OverBudgetError, NodeCancelledError, FencedError, RunnerError: see
                `Assignment.reserve`.
        """
        _check_figures({"tokens": tokens}, usd)
        permit_id = new_operation_id()
        hold_ms = round((max(seconds, 0.0) + SETTLE_GRACE_SECONDS) * 1000)
        args: list[str | float] = [
            claim.node_id, claim.fence, permit_id, tokens, to_nano(usd), hold_ms,
            round(SEND_WITHIN_SECONDS * 1000),
        ]  # fmt: skip
        # From before the script, so that the worker's time to send ends before the tree's.
        send_by = time.monotonic() + SEND_WITHIN_SECONDS
        with redis_errors(self._redis):
            kind, *rest = _RESERVE(self._redis, [HandoffKeys.of(claim.handoff_id).base], args)
        if kind == b"granted":
            return Permit(permit_id, send_by)
        if kind == b"wait":
            return None
        raise _refusal(claim, kind.decode(), [str(_text(each)) for each in rest], tokens, usd)

    def settle(self, handoff_id: str, permit: Permit, usage: Usage, usd: Decimal) -> None:
        """Replace what a permit holds by what its call used. Idempotent.

        Raises:
            InvalidInputError: as `reserve`; the permit counts as spent when its time is over.
        """
        _check_figures(counted(usage), usd)
        args: list[str | float] = [
            permit.permit_id, json.dumps(counted(usage)), to_nano(usd),
        ]  # fmt: skip
        with redis_errors(self._redis):
            _SETTLE(self._redis, [HandoffKeys.of(handoff_id).base], args)

    def account(self, handoff_id: str, node_id: str = "") -> Account:
        """What was spent of a handoff's budget, or of the share of a node's part of the tree."""
        prefix = f"{node_id}:" if node_id else ""
        names = ("cap_tokens", "cap_nano", "spent_tokens", "spent_nano", "held_tokens", "held_nano")
        with redis_errors(self._redis):
            values = self._redis.hmget(
                HandoffKeys.of(handoff_id).budget, [prefix + name for name in names]
            )
        found = [None if value is None else int(value) for value in values]
        return Account(
            cap_tokens=found[0],
            cap_usd=None if found[1] is None else to_usd(found[1]),
            spent_tokens=found[2] or 0,
            spent_usd=to_usd(found[3] or 0),
            held_tokens=found[4] or 0,
            held_usd=to_usd(found[5] or 0),
        )


def _check_figures(counts: Mapping[str, int], usd: Decimal) -> None:
    for name, count in counts.items():
        if check_whole_number(count, name) > MOST_TOKENS:
            raise InvalidInputError(name, f"at most {MOST_TOKENS}", count)
    if not usd.is_finite() or not 0 <= usd <= MOST_USD:
        raise InvalidInputError("usd", f"dollars from 0 to {MOST_USD}", usd)


def counted(usage: Usage) -> dict[str, int]:
    """The kinds of tokens of which there are any."""
    return {kind: count for kind, count in asdict(usage).items() if count}


def _refusal(claim: Claim, kind: str, rest: list[str], tokens: int, usd: Decimal) -> BatonError:
    where = f"handoff {claim.handoff_id} node {claim.node_id}"
    if kind == "over":
        account, what, cap, spent = rest
        whose = f"the share of node {account}" if account else "the handoff's budget"
        left = max(0, int(cap) - int(spent))
        if what == "tokens":
            asked, bound, rest_of_it = f"{tokens} tokens", f"{cap} tokens", f"{left}"
        else:
            asked, bound, rest_of_it = f"${usd}", f"${to_usd(int(cap))}", f"${to_usd(left)}"
        return OverBudgetError(
            f"{where}: {whose} of {bound} has {rest_of_it} left, and the next call may take {asked}"
        )
    if kind == "late":
        return OverBudgetError(f"{where}: the handoff's deadline has passed")
    if kind == "cancelled":
        return NodeCancelledError(f"{where} was cancelled; stop and return")
    if kind == "broken":
        return RunnerError(f"{where}: no more calls are sent for this handoff: {rest[0]}")
    return FencedError(f"{where}: claim {claim.fence} is no longer valid (the node is {rest[0]})")


def _text(value: bytes | int) -> str | int:
    return value.decode() if isinstance(value, bytes) else value
