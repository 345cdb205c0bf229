"""What changed between two JSON documents, as a JSON Patch (RFC 6902)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.merge.diff import Effort, diff
from baton.merge.resolvers import pointer_of
from baton.merge.strict_json import canonical, parse_json, same

if TYPE_CHECKING:
    from baton.merge.conflicts import Json
    from baton.merge.diff import Hunk

    Path = tuple[str, ...]


def diff_json(old: str, new: str) -> list[dict[str, Json]]:
    """The operations that, applied in order, make the document `old` into `new`.

    Each is `{"op": "add" | "replace", "path", "value"}` or `{"op": "remove", "path"}`. `1`,
    `1.0` and `true` are three values; the order of keys is no difference. Elements of lists are
    aligned within a fixed amount of work, past which more of them are replaced.

    Raises:
        InvalidInputError: a text is not strict JSON (`strict_json.parse_json` says when).
    """
    patch = _Patch()
    patch.turn((), parse_json(old, "old"), parse_json(new, "new"))
    return patch.operations


class _Patch:
    """One walk through two documents, which collects the operations on its way.

    A list's changes come from its end on, so that each index counts in `old` and yet holds when
    its operation's turn comes.
    """

    def __init__(self) -> None:
        self.operations: list[dict[str, Json]] = []
        self._effort = Effort()

    def turn(self, path: Path, old: Json, new: Json) -> None:
        """What makes `old`, at `path`, into `new`."""
        if isinstance(old, dict) and isinstance(new, dict):
            self._turn_object(path, old, new)
        elif isinstance(old, list) and isinstance(new, list):
            self._turn_list(path, old, new)
        elif not same(old, new):
            self._put("replace", path, new)

    def _turn_object(self, path: Path, old: dict[str, Json], new: dict[str, Json]) -> None:
        for key in old:
            if key not in new:
                self._remove((*path, key))
        for key, value in new.items():
            if key in old:
                self.turn((*path, key), old[key], value)
            else:
                self._put("add", (*path, key), value)

    def _turn_list(self, path: Path, old: list[Json], new: list[Json]) -> None:
        was, now = ([canonical(item) for item in side] for side in (old, new))
        for hunk in reversed(diff(was, now, self._effort)):
            self._turn_elements(path, hunk, old, new)

    def _turn_elements(self, path: Path, hunk: Hunk, old: list[Json], new: list[Json]) -> None:
        """Elements become others one by one; what is left over of either side goes or comes."""
        gone, come = old[hunk.old_start : hunk.old_end], new[hunk.new_start : hunk.new_end]
        paired = min(len(gone), len(come))
        for place in range(hunk.old_end - 1, hunk.old_start + paired - 1, -1):
            self._remove((*path, str(place)))
        for place, value in enumerate(come[paired:], start=hunk.old_start + paired):
            self._put("add", (*path, str(place)), value)
        for place, (was, now) in enumerate(zip(gone, come, strict=False), start=hunk.old_start):
            self.turn((*path, str(place)), was, now)

    def _put(self, operation: str, path: Path, value: Json) -> None:
        self.operations.append({"op": operation, "path": pointer_of(path), "value": value})

    def _remove(self, path: Path) -> None:
        self.operations.append({"op": "remove", "path": pointer_of(path)})
