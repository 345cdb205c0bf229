"""Prints: answers to standard output, all else to standard error, foreign text escaped."""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from baton.cli.escaping import escape
from baton.clock import iso_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from baton.errors import BatonError

_UNITS: Final = ("B", "KiB", "MiB", "GiB")


def use_safe_streams() -> None:
    """Have characters that the terminal's encoding lacks shown escaped, not raise."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def show_text(text: str) -> None:
    """Print text to standard output, escaped, as whole lines."""
    sys.stdout.write(f"{escape(text).removesuffix(chr(10))}\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Tell the user something on standard error."""
    sys.stderr.write(f"{escape(text)}\n")
    sys.stderr.flush()


def show_json(value: object, *, indent: int | None = 2) -> None:
    """Print `value` as JSON in ASCII, which any terminal and any encoding bears."""
    sys.stdout.write(f"{_json(value, indent)}\n")
    sys.stdout.flush()


def show_error(error: BatonError, *, as_json: bool) -> None:
    """Print an error to standard error: as a line, or as `{"error": {"type", "message"}}`."""
    if as_json:
        shown = {"error": {"type": type(error).__name__, "message": str(error)}}
        sys.stderr.write(f"{_json(shown, None)}\n")
        sys.stderr.flush()
    else:
        say(f"error: {error}")


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns, each as wide as it needs. Cells are lines."""
    lines = [tuple(headings), *(tuple(escape(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(f"{'  '.join(cells).rstrip()}\n")
    sys.stdout.flush()


def show_fields(fields: Mapping[str, str]) -> None:
    """Print names and values, one pair a line."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        sys.stdout.write(f"{name:<{width}}  {escape(value)}\n")
    sys.stdout.flush()


def plain(record: Any) -> dict[str, Any]:
    """A dataclass as what `show_json` takes."""
    return dataclasses.asdict(record)


def size(size_bytes: int) -> str:
    """Bytes for people: `12 B`, `3.4 MiB`."""
    amount, unit = float(size_bytes), _UNITS[0]
    for unit in _UNITS:  # noqa: B007  # the unit that was enough is the answer
        if amount < 1024:
            break
        amount /= 1024
    return f"{size_bytes} B" if unit == "B" else f"{amount:.1f} {unit}"


def instant(at: datetime) -> str:
    """An instant for people, in UTC: `2025-11-30 14:23:45Z`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def duration(seconds: float) -> str:
    """A duration for people: `0.82 s`, `1 min 05 s`, `3 h 20 min`, `7.5 days`."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.1f} days"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 120:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s"


def _json(value: object, indent: int | None) -> str:
    return json.dumps(value, indent=indent, default=_known)


def _known(value: object) -> object:
    if isinstance(value, datetime):
        return iso_utc(value)
    raise TypeError(f"{type(value).__name__} has no place in JSON output")
