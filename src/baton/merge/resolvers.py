"""How two concurrent values of one place of a document become one, where a rule is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from baton.errors import InvalidInputError
from baton.merge.conflicts import ABSENT, UNRESOLVED, Json, Unresolved, Value
from baton.merge.strict_json import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_WRONG_ESCAPE: Final = re.compile(r"~(?![01])")

Rule: TypeAlias = "Callable[[Value, Value, Value], Value | Unresolved]"
"""`rule(base, ours, theirs)`: the merged value, `ABSENT` to delete it, `UNRESOLVED` to conflict.

Called where both sides changed the base's value, even to the same; values that a side lacks are
`ABSENT`. It must be a pure function and leave its arguments as they are.
"""


@dataclass(frozen=True, slots=True)
class ListByKey:
    """Lists of objects that `key`, a string or integer unique in its list, tells apart.

    Elements merge as the members of an object do. Lists that are not like this conflict.
    """

    key: str


Resolver: TypeAlias = "Rule | ListByKey"


def list_by_key(key: str) -> ListByKey:
    """Merge a list of objects by the value of their member `key`, each object by itself."""
    return ListByKey(key)


def set_union(base: Value, ours: Value, theirs: Value) -> Value | Unresolved:
    """Lists as sets: both sides' additions, less what either removed; in the order of `ours`."""
    if base is ABSENT:
        base = []
    if not (isinstance(base, list) and isinstance(ours, list) and isinstance(theirs, list)):
        return UNRESOLVED
    before, mine, others = _by_canonical(base), _by_canonical(ours), _by_canonical(theirs)
    kept = [value for key, value in mine.items() if key in others or key not in before]
    added = [value for key, value in others.items() if key not in mine and key not in before]
    return kept + added


def counter(base: Value, ours: Value, theirs: Value) -> Value | Unresolved:
    """Numbers that both sides counted on: the base (0 if absent) and both differences."""
    if base is ABSENT:
        base = 0
    if not (_is_number(base) and _is_number(ours) and _is_number(theirs)):
        return UNRESOLVED
    try:
        total: int | float = ours + theirs - base  # type: ignore[operator]  # all are numbers
    except OverflowError:  # an integer past a double's range meets a double
        return UNRESOLVED
    return total if abs(total) < float("inf") else UNRESOLVED


def maximum(base: Value, ours: Value, theirs: Value) -> Value | Unresolved:  # noqa: ARG001  # the rules' shape
    """The larger of two numbers, or of two strings by code point (ISO times are such)."""
    if not _comparable(ours, theirs):
        return UNRESOLVED
    return max(ours, theirs)  # type: ignore[type-var]  # checked above


def minimum(base: Value, ours: Value, theirs: Value) -> Value | Unresolved:  # noqa: ARG001  # the rules' shape
    """The smaller of two numbers, or of two strings by code point."""
    if not _comparable(ours, theirs):
        return UNRESOLVED
    return min(ours, theirs)  # type: ignore[type-var]  # checked above


def last_write_wins(base: Value, ours: Value, theirs: Value) -> Value:  # noqa: ARG001  # the rules' shape
    """The value of `theirs`, the later commit, even where it deleted."""
    return theirs


class ResolverTable:
    """Which resolver governs a place, by patterns that are JSON pointers.

    In a pattern the token `*` stands for any one token; list elements go by their index in
    `ours`. The first pattern that matches wins.
    """

    def __init__(self, resolvers: Mapping[str, Resolver]) -> None:
        self._rules = [(_tokens(pattern), resolver) for pattern, resolver in resolvers.items()]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def find(self, path: tuple[str, ...]) -> Resolver | None:
        """The resolver of the place whose tokens are `path`."""
        for tokens, resolver in self._rules:
            if len(tokens) == len(path) and all(
                token in ("*", actual) for token, actual in zip(tokens, path, strict=True)
            ):
                return resolver
        return None


def pointer_of(path: Iterable[str]) -> str:
    """The JSON pointer (RFC 6901) made of the tokens in `path`."""
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in path)


def _tokens(pattern: str) -> tuple[str, ...]:
    if (pattern and not pattern.startswith("/")) or _WRONG_ESCAPE.search(pattern):
        raise InvalidInputError("resolvers", "JSON pointers such as '/items/*/count'", pattern)
    tokens = pattern.split("/")[1:]
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in tokens)


def _by_canonical(values: list[Json]) -> dict[str, Json]:
    """Distinct values in order; of equal ones, the first."""
    found: dict[str, Json] = {}
    for value in values:
        found.setdefault(canonical(value), value)
    return found


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _comparable(one: Value, other: Value) -> bool:
    both_text = isinstance(one, str) and isinstance(other, str)
    return both_text or (_is_number(one) and _is_number(other))
