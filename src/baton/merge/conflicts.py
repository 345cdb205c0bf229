"""What a merge could not decide, as objects: a marker never enters a context."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from baton.errors import InvalidInputError

if TYPE_CHECKING:
    from baton.merge.ranges import TextRange


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

Favour: TypeAlias = Literal["ours", "theirs"]
"""The side that a merge takes where it would conflict, as with `git merge -X`."""


def check_favour(favour: object) -> None:
    """Refuse what names no side.

    Raises:
        InvalidInputError: it is not `"ours"`, `"theirs"` or None.
    """
    if favour is not None and favour not in get_args(Favour):
        raise InvalidInputError("favour", "'ours', 'theirs' or None", favour)


@dataclass(frozen=True, slots=True)
class TextConflict:
    """Lines that both sides changed, differently: each side's whole lines, and where they stand."""

    base: str
    ours: str
    theirs: str
    base_range: TextRange
    ours_range: TextRange
    theirs_range: TextRange

    def as_dict(self) -> dict[str, Json]:
        """Plain JSON: `kind` is `"text"`; all else is named as here, a range's parts too."""
        return {"kind": "text", **asdict(self)}


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

    def as_dict(self) -> dict[str, Json]:
        """Plain JSON: `kind` is `"json"`, then `pointer`, `base`, `ours`, `theirs`.

        The member of a value that is `ABSENT` is left out: JSON's null is a value.
        """
        sides = {"base": self.base, "ours": self.ours, "theirs": self.theirs}
        present = {name: value for name, value in sides.items() if value is not ABSENT}
        return {"kind": "json", "pointer": self.pointer, **present}
