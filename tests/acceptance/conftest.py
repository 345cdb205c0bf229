"""pytest-celery's clusters over local processes or Docker, and Baton's own pools as processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import mend_app
import pytest
from nodes import (
    HERE,
    ROOT,
    RedisProcess,
    WorkerPlan,
    WorkerProcess,
    docker_wanted,
)
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestBackend,
    CeleryTestBroker,
    CeleryTestWorker,
    CeleryWorkerCluster,
    CeleryWorkerContainer,
    RedisContainer,
)
from stack import Stack

from workers import transport, visibility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import ModuleType

    from celery import Celery


@pytest.fixture
def redis_process() -> Iterator[RedisProcess]:
    """A private Redis with AOF that can be restarted."""
    process = RedisProcess()
    process.start()
    yield process
    process.teardown()


@pytest.fixture
def worker_plans() -> list[WorkerPlan]:
    """The workers of `celery_setup`; a test gives its own by parametrizing this name."""
    return [WorkerPlan()]


@pytest.fixture
def celery_broker_cluster(request: pytest.FixtureRequest) -> CeleryBrokerCluster:
    """One Redis; pytest-celery's own matrix of brokers does not concern us."""
    if docker_wanted():
        return CeleryBrokerCluster(request.getfixturevalue("celery_redis_broker"))
    return CeleryBrokerCluster(CeleryTestBroker(request.getfixturevalue("redis_process")))


@pytest.fixture
def celery_backend_cluster(request: pytest.FixtureRequest) -> CeleryBackendCluster:
    """The broker's own server, as in a default Baton (with Docker: a second container)."""
    if docker_wanted():
        return CeleryBackendCluster(request.getfixturevalue("celery_redis_backend"))
    return CeleryBackendCluster(CeleryTestBackend(request.getfixturevalue("redis_process")))


@pytest.fixture
def celery_worker_cluster(
    request: pytest.FixtureRequest,
    worker_plans: list[WorkerPlan],
    celery_worker_cluster_config: dict[str, Any],
    celery_setup_app: Celery,
    tmp_path: Path,
) -> Iterator[CeleryWorkerCluster]:
    """Workers of `mend_app`, one for each plan, all of them ready."""
    if docker_wanted():
        if len(worker_plans) > 1:
            pytest.skip("pytest-celery has one worker container")
        yield CeleryWorkerCluster(request.getfixturevalue("celery_setup_worker"))
        return
    env = CeleryWorkerContainer.initial_env(celery_worker_cluster_config)
    env["PYTHONPATH"] = os.pathsep.join((str(HERE), str(ROOT)))
    processes = [WorkerProcess("mend_app", plan, tmp_path, env) for plan in worker_plans]
    try:
        for process in processes:
            process.launch()
        for process in processes:
            process.wait_ready()
        yield CeleryWorkerCluster(*(CeleryTestWorker(each, celery_setup_app) for each in processes))
    finally:
        for process in processes:
            process.teardown()


@pytest.fixture
def celery_setup_app(celery_setup_app: Celery) -> Iterator[Celery]:
    """pytest-celery's app, closed after use: it leaves its connections open."""
    yield celery_setup_app
    celery_setup_app.backend.client.close()
    celery_setup_app.close()


# What pytest-celery's containers are made of, where `docker_wanted`; requested by them alone, so a
# run without Docker says nothing about them.


@pytest.fixture
def default_redis_broker_command() -> list[str]:
    return RedisContainer.command("--appendonly", "yes")


@pytest.fixture
def default_worker_app_module() -> ModuleType:
    return mend_app


@pytest.fixture
def default_worker_tasks() -> set[ModuleType]:
    return {transport, visibility}


@pytest.fixture
def default_worker_command(worker_plans: list[WorkerPlan]) -> list[str]:
    return CeleryWorkerContainer.command(*worker_plans[0].arguments)


@pytest.fixture
def default_worker_env(
    worker_plans: list[WorkerPlan], celery_worker_cluster_config: dict[str, Any]
) -> dict[str, str]:
    return CeleryWorkerContainer.initial_env(
        celery_worker_cluster_config, initial=dict(worker_plans[0].env)
    )


@pytest.fixture
def stack(redis_process: RedisProcess, tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """A factory of Baton's own pools over one private Redis: `stack("agents", env={...})`."""
    started: list[Stack] = []

    def start(*pools: str, beat: bool = False, env: dict[str, str] | None = None) -> Stack:
        made = Stack(redis_process, tmp_path, env or {})
        started.append(made)
        made.start(*pools, beat=beat)
        return made

    yield start
    for made in started:
        made.teardown()
