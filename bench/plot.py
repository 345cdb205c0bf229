"""A report as a picture: one bar for each ratio, on a logarithmic axis around 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")  # no display is needed, nor looked for

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter

from bench.render import TIMES, amount, times, wanted_of

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from bench.report import Report, Row

_MET, _MISSED, _FREE = "#2a9d8f", "#e76f51", "#8d99ae"


def save_plot(report: Report, path: Path) -> None:
    """Write a PNG. A bar that ends left of the line at 1 took less than what it is held against.

    A row without another side has no bar.
    """
    rows = [row for row in report.rows[::-1] if row.other is not None]
    figure, axes = plt.subplots(figsize=(11, 1.8 + 0.62 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        _draw(axes, place, row)
    axes.set_xscale("log")
    axes.axvline(1.0, color="#222222", linewidth=1)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5), max(high, 2.0))
    said = axes.secondary_yaxis("right")
    said.set_yticks(range(len(rows)), [_verdict(row) for row in rows], fontsize=9)
    said.tick_params(length=0)
    said.spines["right"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows], fontsize=9)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} {TIMES}"))
    axes.set_xlabel("Baton's by the other's, median of pairs (left of 1 is faster, or smaller)")
    axes.set_title("Baton beside floors and peers", loc="left", fontweight="bold")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", which="major", alpha=0.25)
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    figure.supxlabel(f"{report.measured_at}: {machine}", fontsize=7, color="#555555")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _draw(axes: Axes, place: int, row: Row) -> None:
    ratio = row.ratio
    if ratio is None:
        return
    color = {True: _MET, False: _MISSED, None: _FREE}[row.meets]
    axes.barh(place, ratio.median - 1.0, left=1.0, height=0.55, color=color)
    axes.plot([ratio.min, ratio.max], [place, place], color="#222222", linewidth=1)
    if row.target is not None:
        axes.plot([row.target] * 2, [place - 0.42, place + 0.42], color="#c1121f", linewidth=2)


def _verdict(row: Row) -> str:
    ratio = "" if row.ratio is None else times(row.ratio.median)
    wanted = wanted_of(row)
    return f"{ratio}\ntarget {wanted}" if wanted else ratio


def _label(row: Row) -> str:
    ours = amount(row.ours.spread.median, row.unit)
    if row.other is None:
        return f"{row.what}\n{ours}"
    other = amount(row.other.spread.median, row.unit)
    return f"{row.what}\n{ours} against {other}: {row.other.name}"
