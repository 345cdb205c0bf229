"""What was found, and what stands in its place."""

from __future__ import annotations

import re
from functools import cache
from typing import Final, NamedTuple

_NOT_IN_A_NAME: Final = re.compile(r"[^A-Z0-9]+")


class Finding(NamedTuple):
    """Characters `start` to `end` of a text that are sensitive.

    `kind` is one of those in `docs/security.md`, or the name of a user's rule. `rule` says what
    found it, such as `github` or `named`. `replacement` may stand in the text as it is: in JSON it
    is part of a string, or a whole one where it replaces a number.
    """

    kind: str
    start: int
    end: int
    replacement: str
    rule: str


class Candidate(NamedTuple):
    """Bytes `start` to `end` that a detector holds sensitive; a lower `rank` names the kind."""

    start: int
    end: int
    kind: str
    rule: str
    rank: int


WITHHELD: Final = "withheld"
RANK_CERTAIN: Final = 0
RANK_FORMAT: Final = 1
RANK_HEADER: Final = 2
RANK_NAMED: Final = 3
RANK_NUMBER: Final = 4
# An address gives way to what overlaps it: `user:password@host` reads as one.
RANK_ADDRESS: Final = 5


@cache
def replacement_of(kind: str) -> str:
    """`[REDACTED_API_KEY]` for `api_key`."""
    return f"[REDACTED_{_NOT_IN_A_NAME.sub('_', kind.upper())}]"
