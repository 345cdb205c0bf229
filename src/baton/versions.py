"""Semantic versions of a context: parsing, order and the next one. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from baton.errors import InvalidVersionError

Bump = Literal["major", "minor", "patch"]

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


def _check_bump(bump: object) -> None:
    if bump not in get_args(Bump):
        raise InvalidVersionError("bump", "'major', 'minor' or 'patch'", bump)
