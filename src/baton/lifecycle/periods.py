"""Each sweep runs once a period, however many beats fire and however late messages come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.ids import check_id
from baton.redis_client import redis_errors

if TYPE_CHECKING:
    import redis


def claim_period(client: redis.Redis, sweep: str, period_seconds: float) -> bool:
    """Take the current period of `sweep`; False if somebody has.

    The claim ends a little before the period does, so that the next tick finds it free although
    clocks and queues are never quite on time.

    Raises:
        StoreUnavailableError: Redis did not answer.
    """
    held_ms = max(1, round(period_seconds * 900))
    with redis_errors(client):
        return bool(client.set(f"sweep:{check_id(sweep, 'sweep')}", "1", nx=True, px=held_ms))
