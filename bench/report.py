"""What was measured, as data: rows of Baton against a floor or a peer, and where it was run."""

from __future__ import annotations

from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

FORMAT = 2

Unit = Literal["seconds", "bytes"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Spread(_Frozen):
    """Smallest, middle and largest of some figures."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, figures: list[float]) -> Spread:
        """The spread of at least one figure."""
        return cls(min=min(figures), median=median(figures), max=max(figures))


class Side(_Frozen):
    """One contestant: its name, and what it took in each round, in the unit of its row."""

    name: str
    took: list[float]

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated properties
    @property
    def spread(self) -> Spread:
        """Of what it took."""
        return Spread.of(self.took)


class Row(_Frozen):
    """Baton beside one other, or alone where that one is not to be had here.

    `target` is the largest median ratio that we want, `limit` the largest median of ours, in
    `unit`; None where there is none. `facts` are what else was seen, `figures` the numbers behind
    them.
    """

    key: str
    what: str
    ours: Side
    other: Side | None
    unit: Unit = "seconds"
    target: float | None = None
    limit: float | None = None
    facts: list[str] = []
    figures: dict[str, float] = {}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratio(self) -> Spread | None:
        """Ours by the other, pair by pair: both of a pair ran in the same round."""
        if self.other is None:
            return None
        pairs = zip(self.ours.took, self.other.took, strict=True)
        return Spread.of([ours / other for ours, other in pairs])

    @computed_field  # type: ignore[prop-decorator]
    @property
    def meets(self) -> bool | None:
        """Whether the medians are within target and limit; None without either."""
        verdicts = []
        if self.target is not None and self.ratio is not None:
            verdicts.append(self.ratio.median <= self.target)
        if self.limit is not None:
            verdicts.append(self.ours.spread.median <= self.limit)
        return all(verdicts) if verdicts else None


class Report(_Frozen):
    """A whole run. `wrong` names the contestants whose results were not right, and how."""

    format: int = FORMAT
    measured_at: str
    machine: dict[str, str]
    method: dict[str, str]
    rows: list[Row]
    wrong: list[str] = []
