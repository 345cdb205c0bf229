"""The context store that the settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.key_providers.configured import configured_provider
from baton.metrics.tally import CLIENTS, RedisTally
from baton.store.audit_anchors import make_anchor
from baton.store.contexts import ContextStore

if TYPE_CHECKING:
    import redis

    from baton.metrics.meter import Meter
    from baton.settings import ClientSettings
    from baton.store.audit_view import AuditView
    from baton.store.cache import ContextCache
    from baton.store.retention import LiveAgents


def open_context_store(
    redis_client: redis.Redis,
    settings: ClientSettings,
    *,
    live_agents: LiveAgents,
    cache: ContextCache | None = None,
    meter: Meter | None = None,
    audit_view: AuditView | None = None,
) -> ContextStore:
    """A store on a binary client, as `settings` say. Connects to nothing, opens no key file.

    Whoever opens one says which agents live (`AgentRegistry.live_among`): any store may collect,
    and one that does not know them drops what they wrote last. `meter` None: writes are counted
    among those of clients. `audit_view`: as of `ContextStore`.

    Raises:
        SettingsError: the settings of the master keys are wrong; names the variable.
    """
    master_keys = settings.master_keys
    return ContextStore(
        redis_client,
        cache=cache,
        compression=settings.compression,
        max_context_bytes=settings.max_context_bytes,
        backstop_seconds=settings.context_backstop_seconds,
        keep_versions=settings.context_keep_versions,
        live_agents=live_agents,
        conflict_seconds=settings.context_conflict_seconds,
        key_provider=configured_provider(
            settings.key_file, None if master_keys is None else master_keys.get_secret_value()
        ),
        audit_anchor=make_anchor(settings.audit_anchor, settings.state_dir),
        audit_view=audit_view,
        meter=meter or RedisTally(redis_client, CLIENTS),
    )
