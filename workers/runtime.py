"""The composition root: settings -> clients -> services, once per process."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

from baton import routes
from baton.agents.anthropic.loading import open_runner
from baton.agents.breakers import HandoffBreakers, ModelBreakers
from baton.agents.catalog import load_runners
from baton.agents.configured import anthropic_options
from baton.agents.metered import MeteredCatalog
from baton.agents.prices import PriceTable
from baton.agents.rate_limits import RateLimit, RateLimits
from baton.agents.warming import Warming
from baton.archive.audit_carry import AuditCarry
from baton.archive.audit_file import AuditFile
from baton.archive.opening import audit_path, ledger_path, open_archive
from baton.archive.requests import RequestDesk, perform_waiting
from baton.dispatch import CeleryDispatcher
from baton.errors import BatonError, SettingsError
from baton.handoff.engine import HandoffEngine
from baton.handoff.leases import LeaseKeeper
from baton.handoff.metered import MeteredAccounts, MeteredTree
from baton.handoff.packages import HandoffPackages
from baton.handoff.receiving import PackageReceiver
from baton.handoff.validation import configured_validator
from baton.handoff.view import HandoffView
from baton.lifecycle.aging import Aging
from baton.lifecycle.archiving import ArchivePasses
from baton.lifecycle.collecting import Collecting
from baton.lifecycle.configured import configured_durations
from baton.lifecycle.due_index import DueIndex
from baton.lifecycle.facts import SessionFactsReader
from baton.lifecycle.sweeps import Periods, Sweeps
from baton.metrics.tally import RedisTally
from baton.redis_client import connect
from baton.store.cache import ContextCache
from baton.store.configured import open_context_store
from baton.store.drain import AccessDrain
from baton.store.mending import KeyMending
from baton.swarm.registry import AgentRegistry
from workers import lifeline
from workers.apart import run_apart
from workers.metrics_endpoint import pool_scope

if TYPE_CHECKING:
    from celery import Celery

    from baton.agents.catalog import RunnerCatalog
    from baton.agents.runner import Runner
    from baton.archive.service import ArchiveService
    from baton.store.contexts import ContextStore
    from config.settings import AppSettings

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.2
RECORD_SECONDS: Final = 5.0


def sweep_periods(settings: AppSettings) -> Periods:
    """How often beat schedules each sweep."""
    return Periods(
        settings.node_sweep_seconds,
        settings.agent_sweep_seconds,
        settings.access_sweep_seconds,
        settings.audit_seal_seconds,
        settings.age_sweep_seconds,
        settings.reconcile_sweep_seconds,
        settings.collect_sweep_seconds,
        settings.archive_sweep_seconds,
        settings.settle_sweep_seconds,
        settings.purge_sweep_seconds,
        settings.audit_carry_seconds,
    )


class Runtime:
    """A worker process's services. Nothing connects before its first use.

    Args:
        settings: with the Redis URL resolved.
        app: the running Celery app, whose broker connections are shared.
        pool: among whose counts those of this process are.
        apart: whether nodes that may kill their process are given one of their own.
    """

    def __init__(
        self, settings: AppSettings, app: Celery, *, pool: str = routes.AGENTS, apart: bool = True
    ) -> None:
        if settings.redis_url is None:
            raise SettingsError("BATON_REDIS_URL", "a URL", "<unset>")
        self._settings = settings
        self._app = app
        self._apart = apart
        self._redis = connect(settings.redis_url.get_secret_value(), settings)
        self._meter = RedisTally(self._redis, pool_scope(pool))
        self._tree = MeteredTree(self._redis, self._meter)

    @cached_property
    def store(self) -> ContextStore:
        """Contexts, with the process's one cache."""
        return open_context_store(
            self._redis,
            self._settings,
            cache=ContextCache(self._settings.cache_max_bytes),
            live_agents=self.registry.live_among,
            meter=self._meter,
        )

    @cached_property
    def registry(self) -> AgentRegistry:
        """Who takes part."""
        return AgentRegistry(
            self._redis, dead_after_seconds=self._settings.agent_dead_after_seconds
        )

    @cached_property
    def engine(self) -> HandoffEngine:
        """What moves handoffs along."""
        return HandoffEngine(
            store=self.store,
            tree=self._tree,
            accounts=MeteredAccounts(self._redis, self._meter),
            view=HandoffView(self._redis),
            receiver=PackageReceiver(
                HandoffPackages(self._redis),
                configured_validator(self._redis, self.store, self._settings).checks,
            ),
            runners=MeteredCatalog(self._runners, self._meter),
            dispatcher=CeleryDispatcher(self._app),
            keeper=self._keeper,
            worker=f"{socket.gethostname()}:{os.getpid()}",
            max_result_bytes=self._settings.max_result_bytes,
            run_apart=partial(run_apart, self._settings) if self._apart else None,
        )

    @cached_property
    def _runners(self) -> RunnerCatalog:
        return load_runners(
            self._settings.runner_functions, built_in={"anthropic": self._open_anthropic}
        )

    @cached_property
    def sweeps(self) -> Sweeps:
        """The scheduled passes."""
        settings = self._settings
        return Sweeps(
            self._redis,
            engine=self.engine,
            registry=self.registry,
            drain=self._drain,
            trail=self.store.audit,
            aging=Aging(self._redis, self.store, self._drain, self._facts, self._due),
            collecting=Collecting(
                self._redis, self.store, KeyMending(self._redis, self.store.backstop_ms)
            ),
            archiving=ArchivePasses(
                lambda: self.archive, ledger_path(settings), self._facts, self._due, self._carry
            ),
            periods=sweep_periods(settings),
        )

    @cached_property
    def archive(self) -> ArchiveService:
        """The archive, which one process at a time has.

        Raises:
            ArchiveBusyError: another process has it.
        """
        opened = open_archive(self._settings, self._redis, self.store)
        opened.serve_meanwhile(lambda: perform_waiting(opened, self.archive_desk))
        return opened

    @cached_property
    def archive_desk(self) -> RequestDesk:
        """Where requests to the archive are left and answered."""
        return RequestDesk(self._redis)

    @cached_property
    def _drain(self) -> AccessDrain:
        return AccessDrain(self._redis, self.store)

    @cached_property
    def _carry(self) -> AuditCarry:
        return AuditCarry(
            self._redis,
            self._audit_file,
            self.store.audit,
            keep_seconds=self._settings.audit_keep_seconds,
        )

    @cached_property
    def _audit_file(self) -> AuditFile:
        return AuditFile(audit_path(self._settings))

    @cached_property
    def _facts(self) -> SessionFactsReader:
        return SessionFactsReader(self._redis, configured_durations(self._settings))

    @cached_property
    def _due(self) -> DueIndex:
        return DueIndex(self._redis)

    def _open_anthropic(self) -> Runner:
        settings = self._settings
        options = anthropic_options(settings)
        prices = PriceTable.load(settings.price_file)
        limit = RateLimit(
            settings.anthropic_requests_per_minute, settings.anthropic_tokens_per_minute
        )
        return open_runner(
            options,
            prices=prices,
            rate_limits=RateLimits(self._redis, {settings.anthropic_model: limit}),
            model_breakers=ModelBreakers(self._redis),
            handoff_breakers=HandoffBreakers(self._redis),
            warming=Warming(self._redis, prices=prices),
        )

    def hand_back(self) -> None:
        """Give back the nodes that still run, as this process has to stop."""
        if "engine" not in self.__dict__:
            return
        try:
            count = self.engine.hand_back()
        except BatonError as error:
            logger.warning("nodes wait for their leases to lapse: %s", error)
        else:
            logger.info("%d nodes were given back, as this worker has to stop", count)

    def close(self) -> None:
        """Send waiting notes of reads, stop the threads, close the connections."""
        self._keeper.close()
        if "_runners" in self.__dict__:
            self._runners.close()
        if "archive" in self.__dict__:
            self.archive.close()
        if "_audit_file" in self.__dict__:
            self._audit_file.close()
        if "store" in self.__dict__:
            self.store.close()
        self._meter.close()
        self._redis.close()

    @cached_property
    def _keeper(self) -> LeaseKeeper:
        return LeaseKeeper(
            self._tree,
            max_stuck=max(1, self._settings.agents_threads // 2) if self._apart else 1,
            on_stuck=self._recycle if self._apart else self._leave,
        )

    def _recycle(self) -> None:
        """Replace this process: half of its threads hang, and Python cannot stop a thread.

        Celery stops taking messages; what still works may finish; then the process exits
        whatever hangs, and its supervisor starts another.
        """
        logger.error("half of the threads hang past their timeouts; this process is replaced")
        threading.Thread(target=self._exit_when_idle, name="baton-recycle", daemon=True).start()
        os.kill(os.getpid(), signal.SIGTERM)

    def _leave(self) -> None:
        """End this process, whose one node hangs, when that has been recorded."""
        logger.error("the node hangs past its timeout; its process ends")
        lifeline.exit_in(RECORD_SECONDS)

    def _exit_when_idle(self) -> None:
        give_up_at = time.monotonic() + self._settings.warm_shutdown_seconds
        while self._keeper.running and time.monotonic() < give_up_at:
            time.sleep(POLL_SECONDS)
        os._exit(os.EX_TEMPFAIL)
