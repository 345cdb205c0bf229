"""What an orchestrator holds: agents, their shared contexts, and handoffs to the workers."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from pydantic import SecretStr

from baton import failpoints
from baton.archive.opening import open_trail
from baton.dispatch import client_dispatcher
from baton.embedded import running_url, server_folder
from baton.errors import SettingsError
from baton.handoff.handover import PackageHandover
from baton.handoff.request import Limits
from baton.handoff.submission import Handoffs
from baton.health import check_deployment
from baton.redis_client import connect
from baton.settings import ClientSettings, load_settings
from baton.store.cache import ContextCache
from baton.store.configured import open_context_store
from baton.swarm.bases import Bases
from baton.swarm.locks import Locks
from baton.swarm.registry import AgentRegistry

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from baton.agents.budget import Budget
    from baton.agents.handoff_package import HandoffPackage
    from baton.agents.runner import ChildTask
    from baton.handoff.handle import Handoff
    from baton.handoff.request import MergePolicy, OutcomePolicy, TaskSpec
    from baton.health import Health
    from baton.store.records import Checkpoint, Commit, VersionRecord
    from baton.swarm.registry import Agent


class RedisSwarmCoordinator(PackageHandover):
    """The protocol's coordinator: agents share contexts through Redis. Safe for threads.

    It remembers which version each agent last wrote or read, and passes that as the base of the
    agent's next write, so that nobody overwrites what they have not seen. Where a read does not
    say whose it is (`get_context` without `reader_id`), the oldest version that the text can rest
    on counts; `docs/decisions/0005-what-a-coordinator-remembers.md` has the rule.

    Args:
        redis_host: the server, unless `redis_url` is given.
        redis_port: its port.
        redis_url: a redis://, rediss:// or unix:// URL.
        settings: sizes, limits and the broker; by default those of `ClientSettings`, without the
            environment.

    Raises:
        InvalidInputError: the address is none.
    """

    def __init__(
        self,
        redis_host: str = "localhost",
        redis_port: int = 6379,
        redis_url: str | None = None,
        *,
        settings: ClientSettings | None = None,
    ) -> None:
        self._url = redis_url or _url_of(redis_host, redis_port)
        self._settings = settings or ClientSettings.model_construct()
        field = _field_of(redis_url, self._settings)
        self.redis: redis.Redis = connect(self._url, self._settings, field=field)
        self.registry = AgentRegistry(
            self.redis, dead_after_seconds=self._settings.agent_dead_after_seconds
        )
        self._trail = open_trail(self._settings, self.redis)
        self.store = open_context_store(
            self.redis,
            self._settings,
            cache=ContextCache(self._settings.cache_max_bytes),
            live_agents=self.registry.live_among,
            audit_view=self._trail,
        )
        self._bases = Bases()

    @classmethod
    def from_environment(cls) -> Self:
        """A coordinator for `BATON_REDIS_URL`, or for the stack that `baton up` runs here.

        Raises:
            SettingsError: a variable is wrong, or no URL is set and no embedded server runs.
        """
        settings = load_settings(ClientSettings)
        failpoints.arm(settings.failpoints)
        if settings.redis_url is not None:
            return cls(redis_url=settings.redis_url.get_secret_value(), settings=settings)
        url = running_url(server_folder(settings.state_dir))
        if url is None:
            raise SettingsError(
                "BATON_REDIS_URL", "a URL, as no embedded server runs (`baton up`)", "<unset>"
            )
        return cls(
            redis_url=url, settings=settings.model_copy(update={"redis_url": SecretStr(url)})
        )

    def register_agent(
        self,
        role: str,
        context_capacity: int,
        parent_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> str:
        """Register an agent; its id. A child joins its parent's session, a root gets a new one.

        Raises:
            AgentNotFoundError: there is no such parent.
            InvalidInputError: an argument is malformed.
        """
        agent = self.registry.register(
            role, context_capacity=context_capacity, parent_id=parent_id, metadata=metadata
        )
        return agent.agent_id

    def update_context(self, context: str, agent_id: str, version: str | None = None) -> Commit:
        """Write the agent's session, on top of what the agent last wrote or read here.

        Look at the result's `action`. `merged`: others wrote meanwhile, and their changes are in
        the session beside the agent's; what it read before stays its base until it reads again.
        `merge_required`: it changed the same places as others; the head stays, and the write waits
        (`store.conflicts`). Read `get_head(agent_id)` to go on with what all have written. An
        agent that nothing was read for replaces the head, and is audited as blind. Counts as a
        heartbeat.

        Raises:
            AgentNotFoundError: no such agent; nothing was written.
            what `ContextStore.put` raises.
        """
        session_id = self.registry.heartbeat(agent_id).session_id
        base = self._bases.find(session_id, agent_id)
        commit = self.store.put(
            session_id, context, agent_id=agent_id, base_version=base, version=version
        )
        if commit.action == "accepted":
            self._bases.accepted(session_id, agent_id, commit.version)
        elif base is not None:
            self._bases.unseen(agent_id, base)
        return commit

    def get_context(self, agent_id: str, reader_id: str | None = None) -> str:
        """The newest version that the agent wrote, or its session's head if it wrote none.

        Others may have written since: to write on, read `get_head`.

        Args:
            agent_id: whose context.
            reader_id: the agent that reads it, and will write on top of it. None: perhaps
                `agent_id` itself, perhaps another that nothing else is known of; a later write of
                theirs is then merged where it might overwrite. Name it where one agent reads
                another's.

        Raises:
            AgentNotFoundError: no such agent, or no such reader.
            what `ContextStore.get` raises.
        """
        session_id = self.registry.get(agent_id).session_id
        reader = None if reader_id is None else self.registry.get(reader_id)
        written = self.store.find_version_by(session_id, agent_id)
        context = self.store.get(session_id, written, agent_id=reader_id or agent_id)
        if reader is None:
            self._bases.returned(session_id, agent_id, context.version)
        elif reader.session_id == session_id:
            self._bases.given(reader.agent_id, context.version)
        return context.content

    def get_head(self, agent_id: str) -> str:
        """The newest version of the agent's session, whoever wrote it, read by that agent.

        Its next `update_context` is on top of it.

        Raises:
            AgentNotFoundError: no such agent.
            what `ContextStore.get` raises.
        """
        session_id = self.registry.get(agent_id).session_id
        context = self.store.get(session_id, agent_id=agent_id)
        self._bases.given(agent_id, context.version)
        return context.content

    def checkpoint(
        self,
        agent_id: str,
        label: str,
        *,
        byte_position: int | None = None,
        token_position: int | None = None,
        checkpoint_id: str | None = None,
    ) -> Checkpoint:
        """Mark how far the agent has got in the version that `get_context(agent_id)` reads.

        Any agent of the session can `resume` from there.

        Args:
            agent_id: whose context.
            label: what is done, such as `After task_analysis_complete`.
            byte_position: the first byte behind what is done.
            token_position: or about how many tokens are done. None of the two: the end.
            checkpoint_id: its name, such as `cp_001`; None: a new one.

        Raises:
            AgentNotFoundError: no such agent.
            what `ContextStore.checkpoint` raises.
        """
        session_id = self.registry.get(agent_id).session_id
        return self.store.checkpoint(
            session_id,
            label,
            agent_id=agent_id,
            byte_position=byte_position,
            token_position=token_position,
            version=self.store.find_version_by(session_id, agent_id),
            checkpoint_id=checkpoint_id,
        )

    def checkpoints(self, agent_id: str) -> list[Checkpoint]:
        """The checkpoints of the agent's session, the oldest first.

        Raises:
            AgentNotFoundError: no such agent.
        """
        return self.store.checkpoints(self.registry.get(agent_id).session_id)

    def resume(self, agent_id: str, checkpoint_id: str) -> str:
        """What stands behind a checkpoint of the agent's session.

        Raises:
            AgentNotFoundError: no such agent.
            CheckpointNotFoundError: its session has no such checkpoint.
            what `ContextStore.get` raises.
        """
        session_id = self.registry.get(agent_id).session_id
        return self.store.resume(session_id, checkpoint_id, agent_id=agent_id).content

    def history(self, agent_id: str, limit: int = 10) -> list[VersionRecord]:
        """The versions of the agent's session, newest first; empty before the first write.

        Raises:
            AgentNotFoundError: no such agent.
        """
        session_id = self.registry.get(agent_id).session_id
        return self.store.history(session_id, limit) if self.store.exists(session_id) else []

    def session_of(self, agent_id: str) -> str:
        """The session that the agent's contexts belong to.

        Raises:
            AgentNotFoundError: no such agent.
        """
        return self.registry.get(agent_id).session_id

    def hand_off(  # all by name but two
        self,
        agent_id: str,
        tasks: Sequence[str | TaskSpec | ChildTask],
        *,
        merge: MergePolicy = "append",
        policy: OutcomePolicy = "best_effort",
        limits: Limits | None = None,
        budget: Budget | None = None,
        idempotency_key: str | None = None,
        package: HandoffPackage | None = None,
    ) -> Handoff:
        """Hand tasks over the agent's session, at its head, to the workers.

        See `Handoffs.submit`. With a `package`, which has been prepared for it, the workers read
        the version that the package names.

        Raises:
            AgentNotFoundError: no such agent.
            what `Handoffs.submit` raises.
        """
        agent = self.registry.get(agent_id)
        return self.handoffs.submit(
            agent.session_id,
            tasks,
            agent_id=agent_id,
            merge=merge,
            policy=policy,
            limits=limits,
            budget=budget,
            idempotency_key=idempotency_key,
            package=package,
        )

    @cached_property
    def locks(self) -> Locks:
        """Named locks of the sessions."""
        return Locks(self.redis)

    def list_active_agents(self) -> list[Agent]:
        """Agents heard of lately, the latest first."""
        return self.registry.list_active()

    def cleanup_stale_agents(self, max_age_seconds: float) -> list[str]:
        """Remove agents silent for longer than that; their ids. Their contexts stay."""
        return self.registry.remove_stale(max_age_seconds)

    def heartbeat(self, agent_id: str) -> None:
        """Tell that the agent is alive.

        Raises:
            AgentNotFoundError: no such agent.
        """
        self.registry.heartbeat(agent_id)

    @cached_property
    def handoffs(self) -> Handoffs:
        """Handoffs to the workers of this deployment."""
        return Handoffs(
            self.redis,
            self.store,
            client_dispatcher(self._url, self._settings),
            limits=_limits(self._settings),
            default_runner=self._settings.default_runner,
            max_open=self._settings.handoff_max_open,
            memory_share=self._settings.handoff_memory_share,
            validator=self._validator,
        )

    def health(self) -> Health:
        """How the deployment fares; see `health_check`."""
        return check_deployment(
            self.redis, url=self._url, settings=self._settings, registry=self.registry
        )

    def close(self) -> None:
        """Send waiting notes of reads and close the connections."""
        self.store.close()
        self._trail.close()
        if "handoffs" in self.__dict__:
            self.handoffs.close()
        self.redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def health_check(coordinator: RedisSwarmCoordinator) -> Health:
    """How the deployment of `coordinator` fares: the protocol's check, and more.

    Writes a probe of its own and reads it back. Raises nothing that Redis answers: a deployment
    that is not healthy says so in `overall_status`, and why in `problems`.
    """
    return coordinator.health()


def _url_of(host: str, port: int) -> str:
    """An IPv6 address is the one host with colons; a URL has it in brackets."""
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"redis://{shown}:{port}/0"


def _field_of(redis_url: str | None, settings: ClientSettings) -> str:
    """Where the address came from, for the message of one that is wrong."""
    if not redis_url:
        return "redis_host"
    configured = settings.redis_url
    from_settings = configured is not None and configured.get_secret_value() == redis_url
    return "BATON_REDIS_URL" if from_settings else "redis_url"


def _limits(settings: ClientSettings) -> Limits:
    return Limits(
        lease_seconds=settings.lease_seconds,
        node_timeout_seconds=settings.node_timeout_seconds,
        max_attempts=settings.node_max_attempts,
        max_depth=settings.handoff_max_depth,
        max_children=settings.handoff_max_children,
        max_nodes=settings.handoff_max_nodes,
        window=settings.handoff_window,
        retention_seconds=settings.handoff_retention_seconds,
    )
