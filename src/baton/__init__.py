"""Baton lets LLM agents hand work and context to each other without losing either.

    from baton import RedisSwarmCoordinator

What is public stands here, by what it is for. Names are loaded at first use, so that
`import baton` costs nothing and a reader of contexts never loads Celery.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from baton.agents.budget import Budget
    from baton.agents.function import FunctionRunner
    from baton.agents.handoff_package import HandoffPackage, make_package, read_package
    from baton.agents.permits import Permit
    from baton.agents.preconditions import (
        BudgetLeft,
        CheckpointExists,
        ContextAtVersion,
        LockHeld,
        NotAfter,
    )
    from baton.agents.runner import (
        Assignment,
        ChildChain,
        ChildResult,
        ChildTask,
        Runner,
        RunnerResult,
        Usage,
    )
    from baton.content.digests import compute_version_hash
    from baton.content.wire_chunks import assemble_context, chunk_context
    from baton.coordinator import RedisSwarmCoordinator, health_check
    from baton.errors import BatonError, PermanentError, TransientError
    from baton.handoff.accounts import Account
    from baton.handoff.handle import Handoff
    from baton.handoff.outcome import Census, NodeRecord, Outcome
    from baton.handoff.packages import Acknowledgement
    from baton.handoff.request import Limits, TaskSpec
    from baton.handoff.submission import Handoffs
    from baton.handoff.validation import HandoffReport
    from baton.handoff.view import Event
    from baton.health import Health
    from baton.key_providers.environment import EnvKeyProvider
    from baton.key_providers.file import FileKeyProvider
    from baton.key_providers.provider import KeyProvider, WrappedKey
    from baton.merge.conflicts import JsonConflict, TextConflict
    from baton.merge.documents import JsonMerge, merge_json
    from baton.merge.text import TextMerge, merge_text
    from baton.settings import ClientSettings, load_settings
    from baton.store.cache import ContextCache
    from baton.store.contexts import ContextStore
    from baton.store.differences import VersionDifference
    from baton.store.records import (
        Checkpoint,
        Collection,
        Commit,
        Context,
        Extract,
        PendingConflict,
        ReadChunk,
        SessionInfo,
        VersionRecord,
    )
    from baton.swarm.cooperation import CooperationTable, can_agents_cooperate
    from baton.swarm.locks import Lock, Locks
    from baton.swarm.registry import Agent, AgentRegistry
    from baton.versions import resolve_version_conflict

_MODULE_OF: Final = {
    # orchestrators
    "RedisSwarmCoordinator": "coordinator",
    "health_check": "coordinator",
    "Health": "health",
    "ClientSettings": "settings",
    "load_settings": "settings",
    # contexts
    "ContextStore": "store.contexts",
    "ContextCache": "store.cache",
    "Commit": "store.records",
    "Context": "store.records",
    "SessionInfo": "store.records",
    "VersionRecord": "store.records",
    "Checkpoint": "store.records",
    "Collection": "store.records",
    "Extract": "store.records",
    "PendingConflict": "store.records",
    "ReadChunk": "store.records",
    "VersionDifference": "store.differences",
    # merging
    "TextMerge": "merge.text",
    "merge_text": "merge.text",
    "JsonMerge": "merge.documents",
    "merge_json": "merge.documents",
    "JsonConflict": "merge.conflicts",
    "TextConflict": "merge.conflicts",
    # sealing
    "KeyProvider": "key_providers.provider",
    "WrappedKey": "key_providers.provider",
    "FileKeyProvider": "key_providers.file",
    "EnvKeyProvider": "key_providers.environment",
    # agents
    "Agent": "swarm.registry",
    "AgentRegistry": "swarm.registry",
    "CooperationTable": "swarm.cooperation",
    "can_agents_cooperate": "swarm.cooperation",
    "Lock": "swarm.locks",
    "Locks": "swarm.locks",
    # handoffs
    "Handoff": "handoff.handle",
    "Handoffs": "handoff.submission",
    "TaskSpec": "handoff.request",
    "Limits": "handoff.request",
    "Budget": "agents.budget",
    "Account": "handoff.accounts",
    "Outcome": "handoff.outcome",
    "Census": "handoff.outcome",
    "NodeRecord": "handoff.outcome",
    "Event": "handoff.view",
    # handoff packages
    "HandoffPackage": "agents.handoff_package",
    "make_package": "agents.handoff_package",
    "read_package": "agents.handoff_package",
    "ContextAtVersion": "agents.preconditions",
    "CheckpointExists": "agents.preconditions",
    "LockHeld": "agents.preconditions",
    "BudgetLeft": "agents.preconditions",
    "NotAfter": "agents.preconditions",
    "HandoffReport": "handoff.validation",
    "Acknowledgement": "handoff.packages",
    # runners
    "Runner": "agents.runner",
    "RunnerResult": "agents.runner",
    "Usage": "agents.runner",
    "Assignment": "agents.runner",
    "ChildTask": "agents.runner",
    "ChildChain": "agents.runner",
    "ChildResult": "agents.runner",
    "Permit": "agents.permits",
    "FunctionRunner": "agents.function",
    # the protocol's pure functions
    "chunk_context": "content.wire_chunks",
    "assemble_context": "content.wire_chunks",
    "compute_version_hash": "content.digests",
    "resolve_version_conflict": "versions",
    # errors; the whole tree is in baton.errors
    "BatonError": "errors",
    "TransientError": "errors",
    "PermanentError": "errors",
}

__all__ = [
    "Account",
    "Acknowledgement",
    "Agent",
    "AgentRegistry",
    "Assignment",
    "BatonError",
    "Budget",
    "BudgetLeft",
    "Census",
    "Checkpoint",
    "CheckpointExists",
    "ChildChain",
    "ChildResult",
    "ChildTask",
    "ClientSettings",
    "Collection",
    "Commit",
    "Context",
    "ContextAtVersion",
    "ContextCache",
    "ContextStore",
    "CooperationTable",
    "EnvKeyProvider",
    "Event",
    "Extract",
    "FileKeyProvider",
    "FunctionRunner",
    "Handoff",
    "HandoffPackage",
    "HandoffReport",
    "Handoffs",
    "Health",
    "JsonConflict",
    "JsonMerge",
    "KeyProvider",
    "Limits",
    "Lock",
    "LockHeld",
    "Locks",
    "NodeRecord",
    "NotAfter",
    "Outcome",
    "PendingConflict",
    "PermanentError",
    "Permit",
    "ReadChunk",
    "RedisSwarmCoordinator",
    "Runner",
    "RunnerResult",
    "SessionInfo",
    "TaskSpec",
    "TextConflict",
    "TextMerge",
    "TransientError",
    "Usage",
    "VersionDifference",
    "VersionRecord",
    "WrappedKey",
    "assemble_context",
    "can_agents_cooperate",
    "chunk_context",
    "compute_version_hash",
    "health_check",
    "load_settings",
    "make_package",
    "merge_json",
    "merge_text",
    "read_package",
    "resolve_version_conflict",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'baton' has no attribute {name!r}")
    return getattr(import_module(f"baton.{module}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
