"""The two mends to Celery 5.7.0, and stock Celery beside them, to say when a mend can go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kombu
import pytest
from celery import Celery
from kombu.transport import redis as kombu_redis
from nodes import WorkerPlan

from waiting import until
from workers.transport import ResilientAMQP, ResilientConnection, ResilientTransport
from workers.visibility import renew

if TYPE_CHECKING:
    from nodes import RedisProcess
    from pytest_celery import CeleryTestSetup, CeleryTestWorker

pytestmark = pytest.mark.acceptance

VISIBILITY_SECONDS = 2
SHORT = {"VISIBILITY_SECONDS": str(VISIBILITY_SECONDS)}
BEATING = {**SHORT, "HEARTBEAT": "1"}


def plans(pool: str, names: str, *, slots: int = 2, **options: str) -> list[WorkerPlan]:
    """One worker of `mend_app` for each of `names`, all with the same options of `mend_app`."""
    env = {f"MEND_{key}": value for key, value in options.items()}
    return [WorkerPlan(name, env, ("-P", pool, "-c", str(slots))) for name in names.split()]


def with_workers(**cases: list[WorkerPlan]) -> pytest.MarkDecorator:
    """Run the test once for each case, with its workers."""
    return pytest.mark.parametrize("worker_plans", list(cases.values()), ids=list(cases))


@with_workers(threads=plans("threads", "stock"))
def test_stock_worker_dies_when_redis_restarts(celery_setup: CeleryTestSetup) -> None:
    """A stock worker that runs a task and has a free slot exits with 1 when Redis restarts.

    When this fails, `workers/transport.py` has lost its reason.
    """
    _submit(celery_setup, "gate")
    celery_setup.broker.restart()
    until(lambda: "'hostname'" in celery_setup.worker.logs(), what="the stock worker's death")
    _open(celery_setup, "gate")
    until(lambda: _exit_code(celery_setup.worker) == 1, what="exit code 1")


@with_workers(
    threads=plans("threads", "mended", slots=4, TRANSPORT="1"),
    prefork=plans("prefork", "mended", slots=4, TRANSPORT="1"),
)
def test_resilient_worker_outlives_restarts_of_redis(celery_setup: CeleryTestSetup) -> None:
    """A worker with our transport lives through two restarts, takes new tasks, ends the old one."""
    _submit(celery_setup, "old")
    for new in ("after one", "after two"):
        celery_setup.broker.restart()
        _submit(celery_setup, new)
        _open(celery_setup, new)
        until(lambda new=new: _said(celery_setup, f"{new} passed"), what=f"the end of {new}")
    _open(celery_setup, "old")
    until(lambda: _said(celery_setup, "old passed"), what="the end of the old task")
    until(lambda: not _unacked(celery_setup), what="the acks")
    assert celery_setup.worker.container.status == "running"


@with_workers(threads=plans("threads", "one two", **SHORT))
def test_stock_workers_repeat_a_task_longer_than_the_visibility_timeout(
    celery_setup: CeleryTestSetup,
) -> None:
    """Stock workers start a task again while it runs.

    When this fails, `workers/visibility.py` has lost its reason.
    """
    _submit(celery_setup, "gate")
    until(lambda: _said(celery_setup, "gate started") > 1, what="a second start")
    _open(celery_setup, "gate")


@with_workers(
    threads=plans("threads", "one two", **BEATING),
    prefork_with_key_prefix=plans("prefork", "one two", **BEATING, KEYPREFIX="mine:"),
)
def test_heartbeat_keeps_a_long_task_from_being_repeated(
    celery_setup: CeleryTestSetup, worker_plans: list[WorkerPlan]
) -> None:
    """A task of more than three visibility timeouts is started once, and no entry is left."""
    prefix = worker_plans[0].env.get("MEND_KEYPREFIX", "")
    celery_setup.app.conf.broker_transport_options = {"global_keyprefix": prefix}
    _submit(celery_setup, "gate")
    _outlast(celery_setup, prefix=prefix)
    _open(celery_setup, "gate")
    until(lambda: _said(celery_setup, "gate passed"), what="the end of the task")
    until(lambda: not _unacked(celery_setup, prefix), what="the ack")
    assert _said(celery_setup, "gate started") == 1


@with_workers(threads=plans("threads", "one", slots=1, **BEATING, PREFETCH="2"))
def test_heartbeat_covers_a_message_that_waits_in_its_worker(
    celery_setup: CeleryTestSetup,
) -> None:
    """A message prefetched behind a long task is not delivered again while it waits."""
    _submit(celery_setup, "running")
    celery_setup.app.send_task("hold", args=("waiting",))
    until(lambda: len(_unacked(celery_setup)) == 2, what="the prefetch of the second message")
    _outlast(celery_setup)
    assert _said(celery_setup, "waiting started") == 0
    for gate in ("running", "waiting"):
        _open(celery_setup, gate)
        until(lambda gate=gate: _said(celery_setup, f"{gate} passed"), what=f"the end of {gate}")
    until(lambda: not _unacked(celery_setup), what="the acks")
    assert _said(celery_setup, "running started") == _said(celery_setup, "waiting started") == 1


@with_workers(threads=plans("threads", "one two", **BEATING))
def test_heartbeat_goes_on_while_a_worker_shuts_down_warmly(celery_setup: CeleryTestSetup) -> None:
    """A worker that was told to stop keeps the message of the task it still finishes."""
    _submit(celery_setup, "gate")
    [busy] = [each for each in celery_setup.worker_cluster if "gate started" in each.logs()]
    busy.kill("SIGTERM")
    until(lambda: "Warm shutdown" in busy.logs(), what="the warm shutdown")
    _outlast(celery_setup)
    _open(celery_setup, "gate")
    until(lambda: _exit_code(busy) == 0, what="the end of the worker")
    assert "gate passed" in busy.logs()
    assert _unacked(celery_setup) == {}
    assert _said(celery_setup, "gate started") == 1


@with_workers(threads=plans("threads", "one two", **BEATING))
def test_message_of_a_killed_worker_goes_to_another(celery_setup: CeleryTestSetup) -> None:
    """SIGKILL ends the beat: the message outlives its worker, and another one runs it."""
    _submit(celery_setup, "gate")
    _outlast(celery_setup)
    [busy] = [each for each in celery_setup.worker_cluster if "gate started" in each.logs()]
    [other] = [each for each in celery_setup.worker_cluster if each is not busy]
    assert "gate started" not in other.logs()
    busy.kill()
    until(lambda: "gate started" in other.logs(), what="the start in the other worker")
    _open(celery_setup, "gate")
    until(lambda: "gate passed" in other.logs(), what="the end of the task")
    until(lambda: not _unacked(celery_setup), what="the ack")


@with_workers(threads=plans("threads", "one", **BEATING, TRANSPORT="1"))
def test_heartbeat_outlives_a_restart_of_redis(celery_setup: CeleryTestSetup) -> None:
    """Beats that find no Redis are logged, and those after its restart renew again."""
    _submit(celery_setup, "gate")
    celery_setup.broker.kill("SIGTERM")
    until(lambda: _said(celery_setup, "not renewed"), what="a beat without Redis")
    celery_setup.broker.restart()
    _outlast(celery_setup)
    _open(celery_setup, "gate")
    until(lambda: _said(celery_setup, "gate passed"), what="the end of the task")


def test_renew_leaves_acknowledged_messages_gone(redis_process: RedisProcess) -> None:
    """Renewing moves the score of what is unacknowledged and adds nothing else."""
    app = Celery(broker=redis_process.celery_url(1), amqp=ResilientAMQP)
    with redis_process.client as client:
        client.zadd("unacked_index", {"held": 1.0, "another worker's": 1.0})
        renew(app, {"held", "acknowledged"}, timeout_seconds=5)
        scores = dict(client.zrange("unacked_index", 0, -1, withscores=True))
    assert scores.keys() == {"held", "another worker's"}
    assert scores["held"] > scores["another worker's"] == 1.0


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost/1",
        "rediss://localhost/1?ssl_cert_reqs=CERT_REQUIRED",
        "redis+socket:///some/redis.sock?virtual_host=1",
        "redis://one/1;redis://two/1",
    ],
)
def test_resilient_connection_serves_every_redis_url(url: str) -> None:
    """Whatever the form of a Redis URL, and after a failover, the transport is ours."""
    connection = ResilientConnection(url)
    assert connection.get_transport_cls() is ResilientTransport
    connection.maybe_switch_next()
    assert connection.get_transport_cls() is ResilientTransport
    assert connection.clone().get_transport_cls() is ResilientTransport


def test_kombu_ignores_a_named_transport_for_unix_sockets() -> None:
    """The reason for a connection class of our own; when this fails, `broker_transport` may do."""
    stock = kombu.Connection(
        "redis+socket:///some/redis.sock", transport="workers.transport:ResilientTransport"
    )
    assert stock.get_transport_cls() is kombu_redis.Transport


def _submit(setup: CeleryTestSetup, gate: str) -> None:
    """Send a task that runs until `gate` is opened, and wait until it runs."""
    setup.app.send_task("hold", args=(gate,))
    until(lambda: _said(setup, f"{gate} started"), what=f"the start of {gate}")


def _open(setup: CeleryTestSetup, gate: str) -> None:
    with setup.broker.container.client as client:
        client.set(gate, 1)


def _outlast(setup: CeleryTestSetup, *, prefix: str = "") -> None:
    """Wait until every unacknowledged message was renewed for over three visibility timeouts."""
    first = max(until(lambda: _unacked(setup, prefix), what="an unacknowledged message").values())
    until(
        lambda: min(_unacked(setup, prefix).values(), default=0) > first + 3.5 * VISIBILITY_SECONDS,
        what="renewals",
    )


def _unacked(setup: CeleryTestSetup, prefix: str = "") -> dict[str, float]:
    """Delivery tags of unacknowledged messages with their scores, which are Unix times."""
    with setup.broker.container.client as client:
        found: dict[str, float] = dict(
            client.zrange(f"{prefix}unacked_index", 0, -1, withscores=True)
        )
        return found


def _said(setup: CeleryTestSetup, what: str) -> int:
    """How often the workers wrote `what`."""
    return sum(worker.logs().count(what) for worker in setup.worker_cluster)


def _exit_code(worker: CeleryTestWorker) -> int | None:
    worker.container.reload()
    code: int | None = worker.container.attrs["State"]["ExitCode"]
    return code
