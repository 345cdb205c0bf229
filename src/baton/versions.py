"""Semantic versions of a context: parsing, order, the next one, and which of two wins. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from baton.errors import InvalidInputError, InvalidVersionError

Bump = Literal["major", "minor", "patch"]
ConflictAction = Literal["accepted", "accepted_with_divergence", "rejected", "merge_required"]

_PART_MAX: Final = 999_999_999
_PART: Final = r"(0|[1-9][0-9]{0,8})"
_VERSION: Final = re.compile(rf"{_PART}\.{_PART}\.{_PART}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """`MAJOR.MINOR.PATCH`, each 0 to 999,999,999 without leading zeros; ordered by number."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def bumped(self, bump: Bump) -> Version:
        """The next version of the given kind; the parts behind it start again at 0.

        Raises:
            InvalidVersionError: that part is at its end, or `bump` names none.
        """
        _check_bump(bump)
        if getattr(self, bump) == _PART_MAX:
            expected = f"a {bump} below {_PART_MAX}; bump a part before it"
            raise InvalidVersionError("version", expected, str(self))
        if bump == "major":
            return Version(self.major + 1, 0, 0)
        if bump == "minor":
            return Version(self.major, self.minor + 1, 0)
        return Version(self.major, self.minor, self.patch + 1)


FIRST: Final = Version(1, 0, 0)


def parse_version(value: object, field: str = "version") -> Version:
    """Parse `MAJOR.MINOR.PATCH`.

    Raises:
        InvalidVersionError: anything else, including pre-release suffixes and leading zeros.
    """
    match = _VERSION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidVersionError(field, "MAJOR.MINOR.PATCH such as '1.4.0'", value)
    return Version(*(int(part) for part in match.groups()))


def next_version(head: Version | None, explicit: Version | None, bump: Bump = "patch") -> Version:
    """The version a commit on top of `head` gets.

    Raises:
        InvalidVersionError: `explicit` is not above `head`, as versions only go up; or `bump`
            names no part, whether or not it is needed, or a part at its end.
    """
    _check_bump(bump)
    if explicit is None:
        return FIRST if head is None else head.bumped(bump)
    if head is not None and explicit <= head:
        raise InvalidVersionError("version", f"a version above the head {head}", str(explicit))
    return explicit


def resolve_version_conflict(
    incoming_version: str,
    incoming_hash: str,
    incoming_timestamp: float,
    current_version: str,
    current_hash: str,
    current_timestamp: float,
) -> tuple[str | None, str | None, ConflictAction]:
    """The protocol's last-write-wins rule: the version and hash that stand, and what to do.

    | times | hashes | result |
    |---|---|---|
    | incoming is later | equal, or the major version differs | incoming, `accepted` |
    | incoming is later | differ within one major version | incoming, `accepted_with_divergence` |
    | incoming is earlier | any | current, `rejected` |
    | equal, or unordered | equal | current, `accepted` |
    | equal, or unordered | differ | `(None, None, "merge_required")` |

    Times are seconds since any one instant, by any one clock. A NaN or infinite time is no time
    and is unordered: it wins and loses against nothing, so a broken clock costs a merge, never a
    write. The versions' order decides nothing: who commits the incoming one must number it above
    the head (`next_version`).

    Raises:
        InvalidVersionError: a version is not `MAJOR.MINOR.PATCH`.
        InvalidInputError: a hash is no text or empty, or a time is no int or float.
    """
    incoming = parse_version(incoming_version, "incoming_version")
    current = parse_version(current_version, "current_version")
    same = _hash(incoming_hash, "incoming_hash") == _hash(current_hash, "current_hash")
    order = _compared(
        _time(incoming_timestamp, "incoming_timestamp"),
        _time(current_timestamp, "current_timestamp"),
    )
    if order > 0:
        diverges = not same and incoming.major == current.major
        action: ConflictAction = "accepted_with_divergence" if diverges else "accepted"
        return incoming_version, incoming_hash, action
    if order < 0:
        return current_version, current_hash, "rejected"
    if same:
        return current_version, current_hash, "accepted"
    return None, None, "merge_required"


def _hash(value: object, field: str) -> str:
    if isinstance(value, str) and value:
        return value
    raise InvalidInputError(field, "a content's hash such as 'sha256:…'", value)


def _time(value: object, field: str) -> float | None:
    """A time, or None for one that is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInputError(field, "seconds as a number", value)
    # An int is finite, and may be past what `isfinite` takes.
    return value if isinstance(value, int) or math.isfinite(value) else None


def _compared(one: float | None, other: float | None) -> int:
    """-1, 0 or 1 as `one` is below, equal to or above `other`; 0 where one of them is None."""
    if one is None or other is None:
        return 0
    return (one > other) - (one < other)


def _check_bump(bump: object) -> None:
    if bump not in get_args(Bump):
        raise InvalidVersionError("bump", "'major', 'minor' or 'patch'", bump)
