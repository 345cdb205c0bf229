"""Which elements two sequences have in common: Myers's algorithm within a fixed amount of work.

The alignment is a shortest edit script, placed as `git diff` places it (each change as late as it
can stand, or beside a change of the other sequence), so that merges built on it conflict where
`git merge-file` does. Past the cap on work it becomes coarser, never wrong: what could not be
aligned in time counts as replaced.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import compress, pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Of the work on one box, after which it is cut at anchors instead: in long sequences with many
# changes those give the same alignment sooner.
_BOX_STEPS: Final = 200_000

_SWAPPED: Final = bytes([1, 0]) + bytes(254)


class Effort:
    """Work that may still be spent on aligning, in steps, shared by the diffs that are given it.

    Steps are counted, not timed, so that the same input gives the same merge on any machine. A
    step is a visited diagonal or a compared element: some 0.2 microseconds.
    """

    __slots__ = ("steps",)

    def __init__(self, steps: int = 2_000_000) -> None:
        self.steps = steps


class Hunk(NamedTuple):
    """`old[old_start:old_end]` became `new[new_start:new_end]`; one of them may be empty."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


class _Box(NamedTuple):
    """A part of the edit graph: `a[a_start:a_end]` against `b[b_start:b_end]`."""

    a_start: int
    a_end: int
    b_start: int
    b_end: int


class _Group:
    """`size` changed elements in a row, behind `gap` unchanged ones and before the others."""

    __slots__ = ("gap", "size")

    def __init__(self, gap: int, size: int) -> None:
        self.gap = gap
        self.size = size


def diff(old: Sequence[str], new: Sequence[str], effort: Effort) -> list[Hunk]:
    """The changes from `old` to `new`, in order, at least one common element between two.

    Takes time linear in the lengths plus what is left of `effort`, from which it takes.
    """
    alignment = _Alignment(old, new, effort)
    old_groups = _groups(alignment.old_changed)
    new_groups = _groups(alignment.new_changed)
    old_groups = _Settling(old, old_groups, new_groups).run()
    new_groups = _Settling(new, new_groups, old_groups).run()
    return list(_hunks(old_groups, new_groups))


class _Alignment:
    """Marks the elements of two sequences that a shortest edit script deletes and inserts."""

    def __init__(self, old: Sequence[str], new: Sequence[str], effort: Effort) -> None:
        # An element that the other side lacks is changed in any case; without these the search
        # below is short, and its time grows with the square of the changes.
        in_old, in_new = set(old), set(new)
        self.old_changed = bytearray(map((in_old - in_new).__contains__, old))
        self.new_changed = bytearray(map((in_new - in_old).__contains__, new))
        self._old_at = _zeros(self.old_changed)
        self._new_at = _zeros(self.new_changed)
        self._a = [old[index] for index in self._old_at]
        self._b = [new[index] for index in self._new_at]
        self._effort = effort
        diagonals = len(self._a) + len(self._b) + 3
        self._forward = [0] * diagonals
        self._backward = [0] * diagonals
        self._align()

    def _align(self) -> None:
        """Divide and conquer over boxes; a stack, as the recursion could be deep."""
        boxes = [_Box(0, len(self._a), 0, len(self._b))]
        while boxes:
            box = self._trimmed(boxes.pop())
            if box.a_start == box.a_end or box.b_start == box.b_end:
                self._mark(box)
                continue
            parts = self._divided(box)
            if parts:
                boxes.extend(parts)
            else:
                self._mark(box)

    def _trimmed(self, box: _Box) -> _Box:
        """`box` without what both sides begin and end with."""
        a, b = self._a, self._b
        a_start, a_end, b_start, b_end = box
        while a_start < a_end and b_start < b_end and a[a_start] == b[b_start]:
            a_start += 1
            b_start += 1
        while a_start < a_end and b_start < b_end and a[a_end - 1] == b[b_end - 1]:
            a_end -= 1
            b_end -= 1
        return _Box(a_start, a_end, b_start, b_end)

    def _mark(self, box: _Box) -> None:
        for index in self._old_at[box.a_start : box.a_end]:
            self.old_changed[index] = 1
        for index in self._new_at[box.b_start : box.b_end]:
            self.new_changed[index] = 1

    def _divided(self, box: _Box) -> list[_Box]:
        """Boxes that `box` falls into; none when it holds nothing common or the work is spent."""
        left = self._effort.steps
        if left <= 0:
            return []
        middle = self._middle(box, min(_BOX_STEPS, left))
        if middle is None:
            parts = self._split_at_anchors(box)
            if parts is not None:
                return parts
            middle = self._middle(box, self._effort.steps)
        if middle is None:
            return []
        i, j = middle
        return [_Box(box.a_start, i, box.b_start, j), _Box(i, box.a_end, j, box.b_end)]

    def _middle(self, box: _Box, steps: int) -> tuple[int, int] | None:
        """A point halfway along a shortest path through `box`; None after `steps` steps.

        Myers (1986), section 4b: the furthest points that d edits reach on each diagonal i - j,
        from both corners in turn, until they meet.
        """
        a, b, forward, backward = self._a, self._b, self._forward, self._backward
        a_start, a_end, b_start, b_end = box
        lowest, highest = a_start - b_end, a_end - b_start
        origin, goal = a_start - b_start, a_end - b_end
        meets_forward = (origin - goal) % 2 == 1
        unreached = a_end + 1
        forward[origin], backward[goal] = a_start, a_end
        f_low = f_high = origin
        b_low = b_high = goal
        left = steps
        while left > 0:
            f_low, f_high = _widened(forward, f_low, f_high, lowest, highest, -1)
            for k in range(f_high, f_low - 1, -2):
                before, after = forward[k - 1], forward[k + 1]
                start = i = before + 1 if before >= after else after
                j = i - k
                while i < a_end and j < b_end and a[i] == b[j]:
                    i += 1
                    j += 1
                forward[k] = i
                left -= 1 + i - start
                if meets_forward and b_low <= k <= b_high and backward[k] <= i:
                    self._effort.steps -= steps - left
                    return i, j
            b_low, b_high = _widened(backward, b_low, b_high, lowest, highest, unreached)
            for k in range(b_high, b_low - 1, -2):
                before, after = backward[k - 1], backward[k + 1]
                start = i = before if before < after else after - 1
                j = i - k
                while i > a_start and j > b_start and a[i - 1] == b[j - 1]:
                    i -= 1
                    j -= 1
                backward[k] = i
                left -= 1 + start - i
                if not meets_forward and f_low <= k <= f_high and i <= forward[k]:
                    self._effort.steps -= steps - left
                    return i, j
        self._effort.steps -= steps - left
        return None

    def _split_at_anchors(self, box: _Box) -> list[_Box] | None:
        """Boxes between the elements that occur once on each side and in one order on both.

        An empty list when the sides have nothing in common, None when they have but no anchor.
        """
        a = self._a[box.a_start : box.a_end]
        b = self._b[box.b_start : box.b_end]
        if set(a).isdisjoint(b):
            return []
        anchors = [
            (box.a_start + i, box.b_start + j) for i, j in _longest_increasing(_unique_pairs(a, b))
        ]
        if not anchors:
            return None
        ends = [(box.a_start - 1, box.b_start - 1), *anchors, (box.a_end, box.b_end)]
        return [_Box(i + 1, k, j + 1, m) for (i, j), (k, m) in pairwise(ends)]


def _widened(
    reach: list[int], low: int, high: int, lowest: int, highest: int, unreached: int
) -> tuple[int, int]:
    """The diagonals of the next round: one more at either end, one fewer where the box ends."""
    if low > lowest:
        low -= 1
        reach[low - 1] = unreached
    else:
        low += 1
    if high < highest:
        high += 1
        reach[high + 1] = unreached
    else:
        high -= 1
    return low, high


def _unique_pairs(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """Positions (in a, in b) of the elements that occur once in each, in the order of `a`."""
    in_a, in_b = Counter(a), Counter(b)
    place = {item: index for index, item in enumerate(b) if in_b[item] == 1}
    return [(i, place[item]) for i, item in enumerate(a) if in_a[item] == 1 and item in place]


def _longest_increasing(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest run of `pairs` whose second numbers rise (patience sorting)."""
    tops: list[int] = []
    top_pairs: list[int] = []
    previous = []
    for index, (_, j) in enumerate(pairs):
        pile = bisect_left(tops, j)
        previous.append(top_pairs[pile - 1] if pile else -1)
        tops[pile : pile + 1] = [j]
        top_pairs[pile : pile + 1] = [index]
    chain = []
    index = top_pairs[-1] if top_pairs else -1
    while index >= 0:
        chain.append(pairs[index])
        index = previous[index]
    return chain[::-1]


def _zeros(changed: bytearray) -> list[int]:
    return list(compress(range(len(changed)), changed.translate(_SWAPPED)))


def _groups(changed: bytearray) -> list[_Group]:
    groups = []
    seen = 0
    start = changed.find(1)
    while start >= 0:
        end = changed.find(0, start)
        end = len(changed) if end < 0 else end
        groups.append(_Group(start - seen, end - start))
        seen += end - start
        start = changed.find(1, end)
    return groups


class _Settling:
    """One sequence's groups on their way to where git puts them.

    A change in a run of equal elements has several places that mean the same (which of three
    blank lines went?). Git's place is the last one, or the last one beside a change of the other
    sequence; two sides that make the same edit must get the same place.
    """

    def __init__(self, items: Sequence[str], groups: list[_Group], others: list[_Group]) -> None:
        self._items = items
        self._other_gaps = {group.gap for group in others}
        self._pending = groups[::-1]
        self._settled: list[_Group] = []
        self._settled_size = 0
        self._steps = 4 * len(
            items
        )  # a run of millions of equal elements must not cost their square

    def run(self) -> list[_Group]:
        """The settled groups, joined where they came to touch."""
        while self._pending:
            group = self._pending.pop()
            self._place(group)
            self._settled.append(group)
            self._settled_size += group.size
        return self._settled

    def _place(self, group: _Group) -> None:
        size_before = -1
        while group.size != size_before:
            size_before = group.size
            while self._slid_up(group):
                pass
            beside = group.gap if group.gap in self._other_gaps else None
            while self._slid_down(group):
                if group.gap in self._other_gaps:
                    beside = group.gap
        if beside is not None:
            while group.gap > beside and self._slid_up(group):
                pass

    def _slid_up(self, group: _Group) -> bool:
        start = group.gap + self._settled_size
        items = self._items
        if start == 0 or items[start - 1] != items[start + group.size - 1] or not self._steps:
            return False
        self._steps -= 1
        group.gap -= 1
        if self._settled and self._settled[-1].gap == group.gap:
            joined = self._settled.pop()
            self._settled_size -= joined.size
            group.size += joined.size
        return True

    def _slid_down(self, group: _Group) -> bool:
        start = group.gap + self._settled_size
        end = start + group.size
        items = self._items
        if end == len(items) or items[start] != items[end] or not self._steps:
            return False
        self._steps -= 1
        group.gap += 1
        if self._pending and self._pending[-1].gap == group.gap:
            group.size += self._pending.pop().size
        return True


def _hunks(old_groups: list[_Group], new_groups: list[_Group]) -> Iterator[Hunk]:
    """Pairs the groups that stand behind the same number of unchanged elements."""
    old_sizes = {group.gap: group.size for group in old_groups}
    new_sizes = {group.gap: group.size for group in new_groups}
    deleted = inserted = 0
    for gap in sorted(old_sizes.keys() | new_sizes.keys()):
        old_size, new_size = old_sizes.get(gap, 0), new_sizes.get(gap, 0)
        old_start, new_start = gap + deleted, gap + inserted
        yield Hunk(old_start, old_start + old_size, new_start, new_start + new_size)
        deleted += old_size
        inserted += new_size
