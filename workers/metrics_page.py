"""One pool's metrics as Prometheus wants them, served over HTTP. Imports `prometheus_client`."""

from __future__ import annotations

from collections import defaultdict
from itertools import product
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from baton.errors import BatonError
from baton.metrics.catalog import CATALOG
from baton.metrics.series import SUM, SUM_SCALE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.core import Metric as Family

    from baton.metrics.catalog import Metric
    from workers.deployment_metrics import Sample

_FAMILIES: Any = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


class PoolPage(Collector):
    """Reads the sums of one place, and the deployment's state where that is asked for.

    `read_sums` and `samples` are called at each scrape. Listed labels are there from the start,
    with 0, so that a first event is a rise and not a series that begins.
    """

    def __init__(
        self,
        read_sums: Callable[[], Mapping[str, int]],
        samples: Callable[[], Iterable[Sample]] | None = None,
    ) -> None:
        self._read_sums = read_sums
        self._samples = samples

    def describe(self) -> Iterator[Family]:
        """Nothing is asked of Redis when the page is made."""
        return iter(())

    def collect(self) -> Iterator[Family]:
        """All families, as they are now."""
        try:
            sums = self._read_sums()
        except BatonError:
            sums = None
        if sums is not None:
            yield from _pool_families(sums)
        if self._samples is not None:
            yield from _families(self._samples())


def serve(page: PoolPage, *, address: str, port: int) -> None:
    """Answer `GET /metrics` from a thread, until the process ends.

    Raises:
        OSError: the port is taken, or may not be had.
    """
    registry = CollectorRegistry()
    registry.register(page)
    start_http_server(port, address, registry)


def _pool_families(sums: Mapping[str, int]) -> Iterator[Family]:
    by_metric: dict[str, dict[tuple[str, ...], int]] = defaultdict(dict)
    for series, value in sums.items():
        name, *rest = series.split("|")
        by_metric[name][tuple(rest)] = value
    for metric in CATALOG:
        if metric.source == "pool":
            found = by_metric[metric.name]
            yield _histogram(metric, found) if metric.buckets else _summed(metric, found)


def _summed(metric: Metric, found: Mapping[tuple[str, ...], int]) -> Family:
    family = _FAMILIES[metric.kind](metric.name, metric.help, labels=list(metric.labels))
    for values in [*_listed(metric), *(each for each in found if each not in _listed(metric))]:
        family.add_metric(values, found.get(values, 0) * metric.scale)
    return family  # type: ignore[no-any-return]


def _histogram(metric: Metric, found: Mapping[tuple[str, ...], int]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=list(metric.labels))
    seen = {values[:-1] for values in found}
    for values in [*_listed(metric), *sorted(seen.difference(_listed(metric)))]:
        total, buckets = 0, []
        for place, bound in enumerate((*metric.buckets, float("inf"))):
            total += found.get((*values, str(place)), 0)
            buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
        family.add_metric(values, buckets, found.get((*values, SUM), 0) * SUM_SCALE)
    return family


def _listed(metric: Metric) -> list[tuple[str, ...]]:
    """Every combination of labels, where the catalog lists the values of all; `()` of none."""
    return list(product(*metric.labels.values()))


def _families(samples: Iterable[Sample]) -> Iterator[Family]:
    families: dict[str, Any] = {}
    for metric, labels, value in samples:
        if metric.name not in families:
            kind = _FAMILIES[metric.kind]
            families[metric.name] = kind(metric.name, metric.help, labels=list(metric.labels))
        families[metric.name].add_metric(_values(metric, labels), value * metric.scale)
    yield from families.values()


def _values(metric: Metric, labels: Mapping[str, str]) -> Sequence[str]:
    return [labels[name] for name in metric.labels]
