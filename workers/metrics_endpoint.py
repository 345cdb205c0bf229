"""Each pool's metrics on a port of its own: served by one of its processes, of all of them."""

from __future__ import annotations

import logging
import socket
import threading
from functools import partial
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from celery import bootsteps

from baton import routes
from baton.metrics.tally import CLIENTS, read_sums, scope_of
from baton.redis_client import connect
from workers.deployment_metrics import DeploymentMetrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from config.settings import AppSettings
    from workers.metrics_page import PoolPage

logger = logging.getLogger(__name__)

# Another process of the pool has the port, or a former one still: it is tried again.
RETRY_SECONDS: Final = 5.0
# Within Prometheus' own patience of 10 s.
REDIS_SECONDS: Final = 4.0


class MetricsEndpoint(bootsteps.StartStopStep):
    """Worker step: serves the pool's metrics where `BATON_METRICS_PORT` is set.

    Each process of a pool tries; the one that gets the port serves the sums of all, and another
    takes over where it ends.
    """

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        """Begin, once in a process' life."""
        app = parent.app
        pool = pool_of(app)
        port = metrics_port(app.settings, pool)
        if port is None or self._thread is not None:
            return
        if not _can_serve():
            logger.warning("no metrics are served: `pip install baton[monitor]`")
            return
        self._thread = threading.Thread(
            target=_serve_when_free, args=(app, pool, port), name="baton-metrics", daemon=True
        )
        self._thread.start()


def metrics_port(settings: AppSettings, pool: str) -> int | None:
    """Where a pool's endpoint listens; None: nowhere."""
    if settings.metrics_port is None or pool not in routes.QUEUES:
        return None
    return settings.metrics_port + routes.QUEUES.index(pool)


def with_metrics(settings: AppSettings, first_port: int) -> AppSettings:
    """With endpoints from `first_port` on, where settings name no port; 0, or no library: none."""
    if not first_port or settings.metrics_port is not None or not _can_serve():
        return settings
    return settings.model_copy(update={"metrics_port": first_port})


def metrics_places(settings: AppSettings) -> str | None:
    """Where all pools' endpoints are, for people; None: nowhere."""
    if settings.metrics_port is None:
        return None
    last = settings.metrics_port + len(routes.QUEUES) - 1
    return f"http://{settings.metrics_address}:{settings.metrics_port}/metrics to :{last}"


def _can_serve() -> bool:
    return find_spec("prometheus_client") is not None


def pool_of(app: Any) -> str:
    """The pool that this process belongs to, by the one queue it reads."""
    queues = list(app.amqp.queues.consume_from)
    return queues[0] if len(queues) == 1 else routes.AGENTS


def pool_scope(pool: str) -> str:
    """Where the processes of a pool on this machine add up their counts."""
    return scope_of(pool, socket.gethostname())


def make_page(app: Any, pool: str) -> PoolPage:
    """The page of a pool. The lifecycle pool's shows clients' counts and the deployment too."""
    from workers.metrics_page import PoolPage  # noqa: PLC0415  # its library may not be installed

    settings = app.settings.model_copy(update={"redis_timeout_seconds": REDIS_SECONDS})
    client = connect(app.settings.redis_url.get_secret_value(), settings)
    own = pool_scope(pool)
    if pool != routes.LIFECYCLE:
        return PoolPage(partial(read_sums, client, own))
    deployment = DeploymentMetrics(
        client, app, dead_after_seconds=settings.agent_dead_after_seconds
    )
    return PoolPage(
        lambda: _added([read_sums(client, own), read_sums(client, CLIENTS)]), deployment.samples
    )


def _added(sums: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for series, value in chain.from_iterable(each.items() for each in sums):
        total[series] = total.get(series, 0) + value
    return total


def _serve_when_free(app: Any, pool: str, port: int) -> None:
    from workers.metrics_page import serve  # noqa: PLC0415  # as above

    page, told = make_page(app, pool), False
    while True:
        try:
            serve(page, address=app.settings.metrics_address, port=port)
        except OSError as error:
            if not told:
                logger.info("port %d is not to be had yet for metrics: %s", port, error)
                told = True
            threading.Event().wait(RETRY_SECONDS)
        else:
            logger.info("metrics of the pool %s are served on port %d", pool, port)
            return
