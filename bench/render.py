"""A report as a terminal table and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from bench.report import Report, Row, Side

TIMES = "\N{MULTIPLICATION SIGN}"

_COLUMNS = ("what", "Baton", "against", "ratio", "target")


def as_table(report: Report) -> Table:
    """For a terminal: times are medians (min to max), ratios medians of pairs."""
    table = Table(title="Baton beside floors and peers", caption=_caption(report), show_lines=True)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in ("what", "against") else "right")
    for row in report.rows:
        what = Text(row.what).append("".join(f"\n{fact}" for fact in row.facts), style="dim")
        table.add_row(
            what,
            _side(row.ours, "\n"),
            f"{row.other.name}\n{_side(row.other)}",
            Text(_ratio(row, "\n"), style=_style(row)),
            _target(row),
        )
    return table


def as_markdown(report: Report) -> str:
    """The same table for `docs/benchmarks.md`, its caption above it."""
    lines = [
        _caption(report),
        "",
        f"| {' | '.join(_COLUMNS)} | besides |",
        "|---|---|---|---|---|---|",
    ]
    for row in report.rows:
        other = f"{row.other.name}: {_side(row.other)}"
        cells = (row.what, _side(row.ours), other, _ratio(row), _target(row), "; ".join(row.facts))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Three digits and a unit: `412 µs`, `16.2 ms`, `1.04 s`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(seconds / 1e-6)} µs"


def times(ratio: float) -> str:
    """A ratio for reading: 0.71 times, and 1/83 times where a fraction says more."""
    said = f"1/{_three_digits(1 / ratio)}" if ratio < 0.1 else _three_digits(ratio)
    return f"{said} {TIMES}"


def _three_digits(figure: float) -> str:
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.3g}"


def _side(side: Side, gap: str = " ") -> str:
    spread = side.spread
    return f"{duration(spread.median)}{gap}({duration(spread.min)} to {duration(spread.max)})"


def _ratio(row: Row, gap: str = " ") -> str:
    return f"{times(row.ratio.median)}{gap}({times(row.ratio.min)} to {times(row.ratio.max)})"


def _target(row: Row) -> str:
    if row.target is None:
        return "—"
    return f"≤ {times(row.target)}{'' if row.meets else ' (missed)'}"


def _style(row: Row) -> str:
    return {True: "green", False: "yellow", None: ""}[row.meets]


def _caption(report: Report) -> str:
    facts = [f"{name} {value}" for name, value in (report.machine | report.method).items()]
    return f"{report.measured_at}: {', '.join(facts)}"
