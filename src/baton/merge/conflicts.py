"""What a merge could not decide, as objects: a marker never enters a context."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias


class Absent(Enum):
    """The type of `ABSENT`: no value at this place, which is not JSON's null."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"


class Unresolved(Enum):
    """The type of `UNRESOLVED`: a resolver's answer for "leave this one as a conflict"."""

    UNRESOLVED = "unresolved"

    def __repr__(self) -> str:
        return "UNRESOLVED"


ABSENT: Final[Literal[Absent.ABSENT]] = Absent.ABSENT
UNRESOLVED: Final[Literal[Unresolved.UNRESOLVED]] = Unresolved.UNRESOLVED

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Value: TypeAlias = "Json | Absent"


@dataclass(frozen=True, slots=True)
class TextRange:
    """A half-open range of one text, from 0, in lines and in bytes of its UTF-8.

    An empty range (start equals end) is the place before line `start_line`.
    """

    start_line: int
    end_line: int
    start_byte: int
    end_byte: int


@dataclass(frozen=True, slots=True)
class TextConflict:
    """Lines that both sides changed, differently: each side's whole lines, and where they stand."""

    base: str
    ours: str
    theirs: str
    base_range: TextRange
    ours_range: TextRange
    theirs_range: TextRange


@dataclass(frozen=True, slots=True)
class JsonConflict:
    """A place of a document that both sides changed in ways that do not combine.

    Attributes:
        pointer: JSON pointer (RFC 6901) of the place in `ours`, `""` for the whole document. Below
            lists it counts as `ours` does; the token `-` stands for a list's element that `ours`
            has deleted.
        base: the value there in the base; `ABSENT` where there was none.
        ours: likewise; `pointer` resolves to it in `ours`, unless it is `ABSENT`.
        theirs: likewise.
    """

    pointer: str
    base: Value
    ours: Value
    theirs: Value
