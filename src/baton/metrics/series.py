"""How a count is named in Redis: `NAME|LABEL VALUE|…`, and of a histogram the part behind it."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from baton.metrics.catalog import MOST_VALUES, OTHER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from baton.metrics.catalog import Metric

SUM: Final = "sum"
SUM_SCALE: Final = 1e-6  # sums of a histogram are stored as whole millionths
_VALUE: Final = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class SeriesNames:
    """Names series, and keeps their number bounded whatever labels are given."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], set[str]] = {}

    def of(self, metric: Metric, labels: Mapping[str, str]) -> str:
        """The series' name. Labels are taken in the catalog's order; a missing one is `other`."""
        values = (self._value(metric, name, labels.get(name, OTHER)) for name in metric.labels)
        return "|".join((metric.name, *values))

    def _value(self, metric: Metric, label: str, value: str) -> str:
        listed = metric.labels[label]
        if listed:
            return value if value in listed else OTHER
        seen = self._seen.setdefault((metric.name, label), set())
        if value not in seen:
            if len(seen) >= MOST_VALUES or not _VALUE.fullmatch(value):
                return OTHER
            seen.add(value)
        return value


def parts_of(metric: Metric, series: str, value: float) -> Iterator[tuple[str, int]]:
    """What one observed value adds to a histogram's bucket and sum."""
    yield f"{series}|{bisect_left(metric.buckets, value)}", 1
    yield f"{series}|{SUM}", round(value / SUM_SCALE)
