"""Puts the parts of a store together as its options have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.content.compression import CODECS
from baton.errors import InvalidInputError
from baton.store.access import AccessNotes
from baton.store.conflicts import PendingConflicts
from baton.store.data_keys import DataKeys
from baton.store.envelopes import EnvelopeExport
from baton.store.extracts import Extracts
from baton.store.manifests import Manifests
from baton.store.marks import Marks
from baton.store.metered import MeteredCommits
from baton.store.parts import StoreParts
from baton.store.reading import ContextReader
from baton.store.retention import Retention
from baton.store.writing import ContextWriter
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from baton.binary_redis import BinaryRedis
    from baton.content.compression import Codec
    from baton.key_providers.provider import KeyProvider
    from baton.merge.resolvers import Resolver
    from baton.metrics.meter import Meter
    from baton.store.audit_entries import Caller
    from baton.store.cache import ContextCache
    from baton.store.keys import SessionKeys
    from baton.store.retention import LiveAgents


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What a store is set to; see `ContextStore`.

    Raises:
        InvalidInputError: one of them is nothing that a store can be set to.
    """

    cache: ContextCache | None
    compression: Codec
    max_context_bytes: int
    backstop_ms: int
    keep_versions: int
    conflict_ms: int
    key_provider: KeyProvider | None
    resolvers: Mapping[str, Resolver]
    live_agents: LiveAgents | None
    meter: Meter

    def __post_init__(self) -> None:
        if self.compression not in CODECS:
            raise InvalidInputError("compression", f"one of {', '.join(CODECS)}", self.compression)
        check_whole_number(self.max_context_bytes, "max_context_bytes", least=1)
        check_whole_number(self.keep_versions, "keep_versions", least=1)


def assemble(redis: BinaryRedis, caller: Caller, options: StoreOptions) -> StoreParts:
    """The parts of a store on this server, that notes `caller` in what it writes."""
    notes = AccessNotes(redis, caller)
    manifests = Manifests(redis)
    data_keys = DataKeys(redis, options.key_provider, _note_of_key_use(notes))
    reader = ContextReader(redis, manifests, data_keys, options.cache)
    writer = ContextWriter(
        redis,
        manifests,
        reader,
        data_keys,
        compression=options.compression,
        backstop_ms=options.backstop_ms,
        caller=caller,
    )
    commits = MeteredCommits(
        redis,
        manifests,
        reader,
        writer,
        resolvers=options.resolvers,
        conflict_ms=options.conflict_ms,
        meter=options.meter,
    )
    pending = PendingConflicts(redis, reader, commits)
    return StoreParts(
        redis=redis,
        notes=notes,
        reader=reader,
        writer=writer,
        commits=commits,
        pending=pending,
        marks=Marks(redis, caller),
        extracts=Extracts(reader),
        export=EnvelopeExport(redis, reader),
        retention=Retention(
            redis,
            reader,
            pending,
            caller,
            keep_versions=options.keep_versions,
            live_agents=options.live_agents,
        ),
        max_context_bytes=options.max_context_bytes,
    )


def _note_of_key_use(notes: AccessNotes) -> Callable[[SessionKeys, str], None]:
    def note(keys: SessionKeys, master_key_id: str) -> None:
        notes.add(keys, "", "", operation="key_used", details={"key": master_key_id})

    return note
