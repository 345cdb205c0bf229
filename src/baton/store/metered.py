"""Commits that are counted and timed: by outcome, by conflict, by size."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from baton.metrics import catalog
from baton.store.commits import Commits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from baton.binary_redis import BinaryRedis
    from baton.merge.resolvers import Resolver
    from baton.metrics.meter import Meter
    from baton.store.heads import OpenedVersion
    from baton.store.manifests import Manifests
    from baton.store.reading import ContextReader
    from baton.store.records import Commit
    from baton.store.writing import ContextWriter, Draft, Plan


class MeteredCommits(Commits):
    """`Commits`, with each write that reaches Redis told to a meter."""

    def __init__(
        self,
        client: BinaryRedis,
        manifests: Manifests,
        reader: ContextReader,
        writer: ContextWriter,
        *,
        resolvers: Mapping[str, Resolver],
        conflict_ms: int,
        meter: Meter,
    ) -> None:
        super().__init__(
            client, manifests, reader, writer, resolvers=resolvers, conflict_ms=conflict_ms
        )
        self._meter = meter

    def commit_planned(
        self, draft: Draft, plan: Callable[[OpenedVersion | None], Plan | Commit]
    ) -> tuple[Commit, int]:
        """See `Commits.commit_planned`."""
        began = time.monotonic()
        status = "error"
        try:
            commit, version_count = super().commit_planned(draft, plan)
            status = "success"
        finally:
            self._meter.count(catalog.CONTEXT_STORE, status=status)
            took_ms = (time.monotonic() - began) * 1000
            self._meter.observe(catalog.CONTEXT_STORE_DURATION, took_ms)
        self._meter.observe(catalog.CONTEXT_SIZE, len(draft.data))
        if commit.action in catalog.CONFLICT_ENDS:
            self._meter.count(catalog.VERSION_CONFLICTS, resolution_strategy=commit.action)
        return commit, version_count
