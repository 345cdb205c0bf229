"""A tree and accounts that are counted: ends of handoffs and nodes, tokens and dollars."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from baton.agents.budget import to_nano
from baton.agents.metered import count_tokens
from baton.errors import BatonError
from baton.handoff.accounts import Accounts
from baton.handoff.keys import HandoffKeys
from baton.handoff.outcome import TERMINAL_NODE_STATES
from baton.handoff.tree import HandoffTree
from baton.metrics import catalog
from baton.redis_client import redis_errors, require_binary
from baton.scripts import Script

if TYPE_CHECKING:
    from decimal import Decimal

    import redis

    from baton.agents.permits import Permit
    from baton.agents.runner import Usage
    from baton.metrics.meter import Meter

logger = logging.getLogger(__name__)

_COUNT_ENDS: Final = Script("baton.handoff", "count_ends")


class MeteredTree(HandoffTree):
    """`HandoffTree`, with the census of each handoff that ends told to a meter.

    It is told when the handoff leaves the sweep's list, by whoever takes it off: so the counts
    agree with the trees, whichever process ended them, a client's cancel included. Each end is
    counted at most once.
    """

    def __init__(self, redis_client: redis.Redis, meter: Meter) -> None:
        super().__init__(redis_client)
        self._client = require_binary(redis_client)
        self._meter = meter

    def close(self, handoff_id: str) -> None:
        """See `HandoffTree.close`."""
        super().close(handoff_id)
        try:
            self._count(handoff_id)
        except BatonError as error:
            logger.info("handoff %s is not counted: %s", handoff_id, error)

    def _count(self, handoff_id: str) -> None:
        keys = [HandoffKeys.of(handoff_id).base]
        with redis_errors(self._client):
            state, took_ms, *ends = _COUNT_ENDS(self._client, keys, TERMINAL_NODE_STATES)
        for node_state, count in zip(TERMINAL_NODE_STATES, ends, strict=False):
            self._meter.count(catalog.NODES, int(count), state=node_state)
        if state:
            self._meter.count(catalog.HANDOFFS, state=state.decode())
        if took_ms >= 0:
            self._meter.observe(catalog.HANDOFF_DURATION, took_ms / 1000, state=state.decode())


class MeteredAccounts(Accounts):
    """`Accounts`, with what paid calls used told to a meter as they are settled."""

    def __init__(self, redis_client: redis.Redis, meter: Meter) -> None:
        super().__init__(redis_client)
        self._meter = meter

    def settle(self, handoff_id: str, permit: Permit, usage: Usage, usd: Decimal) -> None:
        """See `Accounts.settle`."""
        super().settle(handoff_id, permit, usage, usd)
        count_tokens(self._meter, usage)
        self._meter.count(catalog.COST, to_nano(usd))
