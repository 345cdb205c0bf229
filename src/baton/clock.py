"""Instants. Redis' clock decides; these functions only convert what it said."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_from_ms(milliseconds: float) -> datetime:
    """An aware UTC datetime from milliseconds since the epoch."""
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


def utc_from_seconds(seconds: float) -> datetime:
    """An aware UTC datetime from seconds since the epoch."""
    return datetime.fromtimestamp(seconds, tz=UTC)


def iso_utc(instant: datetime) -> str:
    """The protocol's form, e.g. `2025-11-30T14:23:45.123Z`."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
