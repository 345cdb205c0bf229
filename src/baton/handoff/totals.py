"""What all nodes of a handoff used together: tokens, dollars, and the prompt cache's part in it."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from baton.agents.budget import NANO, to_usd
from baton.agents.cache_report import CACHE, CacheReport, merge
from baton.agents.runner import Usage
from baton.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from baton.handoff.outcome import NodeRecord


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over nodes.

    `usage` and `cost_usd` are those of all attempts; `cache` is of each node's last one, and of
    its runs before its children, from the details of runners that report on it.
    """

    usage: Usage
    cost_usd: Decimal
    cache: CacheReport

    @classmethod
    def of(cls, nodes: Iterable[NodeRecord]) -> Totals:
        """The sums over `nodes`, as `HandoffView.nodes` gives them."""
        usage, nano = Counter[str](), 0
        reports: list[CacheReport] = []
        for node in nodes:
            usage.update(node.usage)
            nano += round(Decimal(str(node.cost_usd)) * NANO)
            reports.extend(_reports(node))
        known = {each.name: usage[each.name] for each in fields(Usage)}
        return cls(Usage(**known), to_usd(nano), merge(reports))

    def as_dict(self) -> dict[str, Any]:
        """`usage`, `cost_usd` and `cache` as JSON takes them: dollars are numbers."""
        cache = self.cache.model_dump(mode="json", exclude={"format", "saved_nano"})
        return {
            "usage": {each.name: getattr(self.usage, each.name) for each in fields(Usage)},
            "cost_usd": float(self.cost_usd),
            "cache": {**cache, "saved_usd": float(self.cache.saved_usd)},
        }


def _reports(node: NodeRecord) -> Iterator[CacheReport]:
    """The node's report of the cache, if its runner made one: `cache` may be another's own word."""
    for details in (node.details, *node.earlier_details):
        if CACHE in details:
            with suppress(InvalidInputError):
                yield CacheReport.from_dict(details[CACHE])
