"""A report as a terminal table and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from bench.report import Report, Row, Side, Unit

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
            _side(row.ours, row.unit, "\n"),
            _other(row, "\n"),
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
        sides = (_side(row.ours, row.unit), _other(row, ": "))
        cells = (row.what, *sides, _ratio(row), _target(row), "; ".join(row.facts))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Three digits and a unit: `412 µs`, `16.2 ms`, `1.04 s`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(seconds / 1e-6)} µs"


def size(size_bytes: float) -> str:
    """Three digits and a unit: `412 KB`, `16.2 MB`, `1.04 GB`."""
    for unit, unit_bytes in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= unit_bytes:
            return f"{_three_digits(size_bytes / unit_bytes)} {unit}"
    return f"{_three_digits(size_bytes / 1e3)} KB"


def amount(figure: float, unit: Unit) -> str:
    """A figure of a row's sides, for reading."""
    return duration(figure) if unit == "seconds" else size(figure)


def times(ratio: float) -> str:
    """A ratio for reading: 0.71 times, and 1/83 times where a fraction says more."""
    said = f"1/{_three_digits(1 / ratio)}" if ratio < 0.1 else _three_digits(ratio)
    return f"{said} {TIMES}"


def wanted_of(row: Row) -> str:
    """Target and limit for reading; empty without either."""
    target = "" if row.target is None else f"≤ {times(row.target)}"
    limit = "" if row.limit is None else f"≤ {amount(row.limit, row.unit)}"
    return ", ".join(filter(None, (target, limit)))


def _three_digits(figure: float) -> str:
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.3g}"


def _side(side: Side, unit: Unit, gap: str = " ") -> str:
    spread = side.spread
    middle = amount(spread.median, unit)
    if len(side.took) == 1:
        return middle
    return f"{middle}{gap}({amount(spread.min, unit)} to {amount(spread.max, unit)})"


def _other(row: Row, gap: str) -> str:
    return "—" if row.other is None else f"{row.other.name}{gap}{_side(row.other, row.unit)}"


def _ratio(row: Row, gap: str = " ") -> str:
    ratio = row.ratio
    if ratio is None:
        return "—"
    if len(row.ours.took) == 1:
        return times(ratio.median)
    return f"{times(ratio.median)}{gap}({times(ratio.min)} to {times(ratio.max)})"


def _target(row: Row) -> str:
    wanted = wanted_of(row)
    return f"{wanted or '—'}{' (missed)' if row.meets is False else ''}"


def _style(row: Row) -> str:
    return {True: "green", False: "yellow", None: ""}[row.meets]


def _caption(report: Report) -> str:
    facts = [f"{name} {value}" for name, value in (report.machine | report.method).items()]
    return f"{report.measured_at}: {', '.join(facts)}"
