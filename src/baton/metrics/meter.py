"""The meter contract: where wrappers around other contracts put what they count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from baton.metrics.catalog import Metric


class Meter(Protocol):
    """Takes counts. Safe for threads; no method raises, or waits for anything.

    A label's value that the catalog does not list, or beyond 50 of those that settings name, is
    counted as `other`.
    """

    def count(self, metric: Metric, amount: int = 1, **labels: str) -> None:
        """Add `amount`, in the metric's stored unit; below 0 for a gauge only."""

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Note one value of a histogram."""

    def close(self) -> None:
        """Send what waits, or drop it. It may still be used afterwards."""


class _NoMeter:
    def count(self, metric: Metric, amount: int = 1, **labels: str) -> None:
        pass

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        pass

    def close(self) -> None:
        pass


NO_METER: Final[Meter] = _NoMeter()
