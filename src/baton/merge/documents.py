"""Three-way merge of JSON documents, path by path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.errors import InvalidInputError
from baton.merge.conflicts import ABSENT, UNRESOLVED, JsonConflict, check_favour
from baton.merge.diff import Effort, diff
from baton.merge.regions import Origin, Region, changed_regions
from baton.merge.resolvers import ListByKey, ResolverTable, pointer_of
from baton.merge.strict_json import (
    canonical,
    check_json,
    dump_like,
    parse_json,
    same,
    spelled_alike,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from baton.merge.conflicts import Favour, Json, Value
    from baton.merge.resolvers import Resolver

    Path = tuple[str, ...]
    Members = dict[str, Json]


@dataclass(frozen=True, slots=True)
class JsonMerge:
    """The merged document's text, or None and the conflicts that stand in its way.

    `favoured` counts the places that would have been conflicts and went to the favoured side.
    """

    text: str | None
    conflicts: tuple[JsonConflict, ...] = ()
    favoured: int = 0


def merge_json(
    base: str,
    ours: str,
    theirs: str,
    resolvers: Mapping[str, Resolver] | None = None,
    *,
    favour: Favour | None = None,
) -> JsonMerge:
    """Combine what `ours` and `theirs` each changed in the JSON document `base`.

    Members of objects merge one by one, and lists as sequences of their elements; elements that
    both sides changed in place merge with each other. Edit against deletion, two types, two
    values, and insertions or deletions that touch another change of the list conflict (the last
    as one conflict for the list), unless a resolver decides. Equal changes are one change.

    Args:
        base: what both started from.
        ours: the head, committed already; gives the layout and, where it changed it, the order.
        theirs: the write that came later.
        resolvers: JSON pointer pattern to resolver (`baton.merge.resolvers`); the token `*`
            matches any one token, and the first matching pattern wins. Asked where both sides
            changed a place, even alike: two equal steps of a counter are two steps.
        favour: the side that each place in conflict is taken from, even where it deleted. In a
            list it decides each stretch of elements that conflicts, not the list as one. Resolvers
            are asked first.

    Returns:
        A text equal to that of a side where the merged value is that side's; otherwise one in
        the layout of `ours`, always the same for the same input.

    Raises:
        InvalidInputError: a text is not strict JSON or too deep or large (`parse_json` says
            when), a pattern is no JSON pointer, a resolver returned what is not JSON, or
            `favour` names no side.
    """
    check_favour(favour)
    table = ResolverTable(resolvers or {})
    values = parse_json(base, "base"), parse_json(ours, "ours"), parse_json(theirs, "theirs")
    if theirs == base or (ours == theirs and not table):
        return JsonMerge(ours)
    if ours == base:
        return JsonMerge(theirs)
    merging = _Merging(table, favour)
    merged = merging.merge((), *values)
    if merging.conflicts:
        return JsonMerge(None, tuple(merging.conflicts))
    if merged is ABSENT:
        raise InvalidInputError("resolver at ''", "a document", "<ABSENT>")
    for value, text in ((values[1], ours), (values[2], theirs)):
        if spelled_alike(merged, value):
            return JsonMerge(text, favoured=merging.favoured)
    return JsonMerge(dump_like(merged, ours), favoured=merging.favoured)


class _Merging:
    """One walk through three documents, which collects the conflicts on its way.

    At a conflict the walk goes on with the value of the favoured side; of `ours`, as a stand-in,
    where none is.
    """

    def __init__(self, table: ResolverTable, favour: Favour | None) -> None:
        self.conflicts: list[JsonConflict] = []
        self.favoured = 0
        self._favour = favour
        self._table = table
        self._effort = Effort()

    def merge(self, path: Path, base: Value, ours: Value, theirs: Value) -> Value:
        """The merged value of the place `path`, or a side's where it is in conflict."""
        if spelled_alike(base, theirs):
            return ours
        if spelled_alike(base, ours):
            return theirs
        if same(base, theirs) or same(base, ours):
            return self._reordered(path, base, ours, theirs)
        return self._both_changed(path, base, ours, theirs)

    def _reordered(self, path: Path, base: Value, ours: Value, theirs: Value) -> Value:
        """For a side that changed nothing but the order of keys: its order, the other's values."""
        if isinstance(base, dict) and isinstance(ours, dict) and isinstance(theirs, dict):
            return self._objects(path, base, ours, theirs)
        return ours if same(base, theirs) else theirs

    def _both_changed(self, path: Path, base: Value, ours: Value, theirs: Value) -> Value:
        resolver = self._table.find(path)
        if resolver is not None:
            return self._resolved(path, resolver, base, ours, theirs)
        alike = same(ours, theirs)
        if alike and not self._table:
            return ours
        if isinstance(ours, dict) and isinstance(theirs, dict):
            if base is ABSENT or isinstance(base, dict):
                return self._objects(path, {} if base is ABSENT else base, ours, theirs)
        elif isinstance(base, list) and isinstance(ours, list) and isinstance(theirs, list):
            return self._lists(path, base, ours, theirs)
        return ours if alike else self._conflict(path, base, ours, theirs)

    def _conflict(self, path: Path, base: Value, ours: Value, theirs: Value) -> Value:
        if self._favour is None:
            self.conflicts.append(JsonConflict(pointer_of(path), base, ours, theirs))
            return ours
        self.favoured += 1
        return theirs if self._favour == "theirs" else ours

    def _resolved(
        self, path: Path, resolver: Resolver, base: Value, ours: Value, theirs: Value
    ) -> Value:
        if isinstance(resolver, ListByKey):
            return self._lists_by_key(path, resolver.key, base, ours, theirs)
        value = resolver(base, ours, theirs)
        if value is UNRESOLVED:
            return self._conflict(path, base, ours, theirs)
        if value is not ABSENT:
            check_json(value, f"resolver at {pointer_of(path)!r}", len(path))
        return value

    def _objects(self, path: Path, base: Members, ours: Members, theirs: Members) -> Json:
        return self._members(lambda key: (*path, key), base, ours, theirs)

    def _lists_by_key(self, path: Path, key: str, base: Value, ours: Value, theirs: Value) -> Value:
        sides = [_keyed([] if base is ABSENT else base, key), _keyed(ours, key)]
        sides.append(_keyed(theirs, key))
        by_base, by_ours, by_theirs = sides
        if by_base is None or by_ours is None or by_theirs is None:
            return self._conflict(path, base, ours, theirs)
        index = {element_key: str(place) for place, element_key in enumerate(by_ours)}
        merged = self._members(
            lambda element_key: (*path, index.get(element_key, "-")), by_base, by_ours, by_theirs
        )
        return list(merged.values())

    def _members(
        self, path_of: Callable[[str], Path], base: Members, ours: Members, theirs: Members
    ) -> Members:
        merged: Members = {}
        for key in _key_order(base, ours, theirs):
            versions = (side.get(key, ABSENT) for side in (base, ours, theirs))
            value = self.merge(path_of(key), *versions)
            if value is not ABSENT:
                merged[key] = value
        return merged

    def _lists(self, path: Path, base: list[Json], ours: list[Json], theirs: list[Json]) -> Value:
        old, mine, others = ([canonical(item) for item in side] for side in (base, ours, theirs))
        by_ours, by_theirs = diff(old, mine, self._effort), diff(old, others, self._effort)
        regions = changed_regions(mine, others, by_ours, by_theirs)
        if self._favour is None and any(map(_is_indivisible, regions)):
            return self._conflict(path, base, ours, theirs)
        merged: list[Json] = []
        copied = 0
        for region in regions:
            merged += ours[copied : region.ours.start]
            merged += self._region(path, region, base, ours, theirs)
            copied = region.ours.stop
        return merged + ours[copied:]

    def _region(
        self, path: Path, region: Region, base: list[Json], ours: list[Json], theirs: list[Json]
    ) -> list[Json]:
        if region.origin is Origin.THEIRS:
            return theirs[region.theirs]
        if _is_indivisible(region):
            self.favoured += 1
            return theirs[region.theirs] if self._favour == "theirs" else ours[region.ours]
        # Equal changes are one, but a resolver below (a counter) may see two steps in them.
        one_by_one = region.origin is Origin.CONFLICT or (
            region.origin is Origin.BOTH and region.keeps_size and bool(self._table)
        )
        if not one_by_one:
            return ours[region.ours]
        places = range(region.ours.start, region.ours.stop)
        elements = zip(places, base[region.base], theirs[region.theirs], strict=True)
        values = (
            self.merge((*path, str(place)), was, ours[place], other)
            for place, was, other in elements
        )
        return [value for value in values if value is not ABSENT]


def _is_indivisible(region: Region) -> bool:
    """Whether a list's region is in conflict and leaves open which elements are the same."""
    return region.origin is Origin.CONFLICT and not region.keeps_size


def _keyed(value: Value, key: str) -> Members | None:
    """A list's objects by their member `key`; None if they are not told apart by it."""
    if not isinstance(value, list):
        return None
    keyed: Members = {}
    for item in value:
        found = item.get(key) if isinstance(item, dict) else None
        if not isinstance(found, str | int) or isinstance(found, bool):
            return None
        keyed[canonical(found)] = item
    return keyed if len(keyed) == len(value) else None


def _key_order(base: Members, ours: Members, theirs: Members) -> list[str]:
    """The keys of both sides: in the order of the side that changed it, or of `ours`.

    A key that only the other side has comes behind the common key it followed there, and behind
    what the leading side added at that place.
    """
    lead, other = (theirs, ours) if list(ours) == list(base) else (ours, theirs)
    followers: dict[str | None, list[str]] = {}
    anchor: str | None = None
    for key in other:
        if key in lead:
            anchor = key
        else:
            followers.setdefault(anchor, []).append(key)
    order: list[str] = []
    anchor = None
    for key in lead:
        if key in other:
            order += followers.pop(anchor, [])
            anchor = key
        order.append(key)
    return order + followers.pop(anchor, [])
