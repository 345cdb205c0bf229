"""A Redis transport whose worker outlives a restart of Redis.

`docs/decisions/0002-transport-that-survives-a-redis-restart.md` tells the fault and when this
module can go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kombu
from celery.app.amqp import AMQP
from kombu.transport import redis

if TYPE_CHECKING:
    from kombu.transport.base import Transport


class ResilientChannel(redis.Channel):
    """A channel that can still reach Redis when it is closed after its connection was dropped.

    Celery drops the connection (`Connection.collect`) and then closes it once more; that second
    close restores unacknowledged messages and would build a pool from a connection that is gone.
    """

    _pool: Any

    def _disconnect_pools(self) -> None:
        pool = self._pool
        super()._disconnect_pools()  # type: ignore[misc]  # private, so not in the stubs
        # A disconnected redis-py pool connects again when it is used.
        self._pool = pool


class ResilientTransport(redis.Transport):
    """kombu's Redis transport with `ResilientChannel`s."""

    Channel = ResilientChannel


class ResilientConnection(kombu.Connection):
    """A broker connection that uses `ResilientTransport` wherever kombu would use its Redis one.

    The setting `broker_transport` alone is not enough: kombu ignores it for `redis+socket://`
    and after a failover, and with it `rediss://` loses its default of using TLS.
    """

    def get_transport_cls(self) -> type[Transport]:
        """The transport of this connection's URL scheme."""
        found = super().get_transport_cls()
        return ResilientTransport if found is redis.Transport else found


class ResilientAMQP(AMQP):
    """What a Celery app connects with: `Celery(amqp=ResilientAMQP)`."""

    Connection = ResilientConnection
