"""What was measured, as data: rows of Baton against a floor or a peer, and where it was run."""

from __future__ import annotations

from statistics import median

from pydantic import BaseModel, ConfigDict, computed_field

FORMAT = 1


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
    """One contestant: its name, and its seconds in each round."""

    name: str
    seconds: list[float]

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated properties
    @property
    def spread(self) -> Spread:
        """Of its seconds."""
        return Spread.of(self.seconds)


class Row(_Frozen):
    """Baton beside one other.

    `target` is the largest median ratio that we want, None where there is none. `facts` are what
    else was seen, `figures` the numbers behind them.
    """

    key: str
    what: str
    ours: Side
    other: Side
    target: float | None = None
    facts: list[str] = []
    figures: dict[str, float] = {}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratio(self) -> Spread:
        """Ours by the other, pair by pair: both of a pair ran in the same round."""
        pairs = zip(self.ours.seconds, self.other.seconds, strict=True)
        return Spread.of([ours / other for ours, other in pairs])

    @computed_field  # type: ignore[prop-decorator]
    @property
    def meets(self) -> bool | None:
        """Whether the median ratio is within the target; None without one."""
        return None if self.target is None else self.ratio.median <= self.target


class Report(_Frozen):
    """A whole run. `wrong` names the contestants whose results were not right, and how."""

    format: int = FORMAT
    measured_at: str
    machine: dict[str, str]
    method: dict[str, str]
    rows: list[Row]
    wrong: list[str] = []
