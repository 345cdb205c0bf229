"""Cutting only what changed gives the cuts of the whole."""

from __future__ import annotations

import random
from itertools import accumulate, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from baton.content.chunking import cut_points
from baton.content.recutting import recut

AVERAGE = 1024


def sizes_of(data: bytes, seed: int) -> list[int]:
    return [end - start for start, end in pairwise([0, *cut_points(data, AVERAGE, seed)])]


def text_of(size: int, seed: int) -> bytes:
    generator = random.Random(seed)
    return "".join(generator.choice("ab é漢🧭\n") for _ in range(size)).encode()


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(0, 30_000),
    seed=st.integers(0, 3),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 3_000), st.integers(0, 3_000)), max_size=3
    ),
)
def test_recutting_gives_the_cuts_of_the_whole(size, seed, edits):
    """Whatever was changed, inserted or deleted, and wherever."""
    text = text_of(size, seed).decode()
    new_text = text
    for place, removed, added in edits:
        at = int(place * len(new_text))
        new_text = new_text[:at] + text_of(added, at).decode() + new_text[at + removed :]
    old, new = text.encode(), new_text.encode()
    old_sizes = sizes_of(old, seed)
    found = recut(old, old_sizes, new, AVERAGE, seed)
    kept_end = sum(old_sizes[: found.kept_head])
    tail = old_sizes[len(old_sizes) - found.kept_tail :] if found.kept_tail else []
    sizes = (
        old_sizes[: found.kept_head]
        + [end - start for start, end in pairwise([kept_end, *found.ends])]
        + tail
    )
    assert found.start_byte == kept_end
    assert list(accumulate(sizes)) == cut_points(new, AVERAGE, seed)
    assert new[:kept_end] == old[:kept_end]
    assert new[len(new) - sum(tail) :] == old[len(old) - sum(tail) :]


def test_a_small_edit_recuts_little():
    old = text_of(200_000, 1)
    middle = len(old) // 2
    while old[middle] & 0xC0 == 0x80:
        middle += 1
    new = old[:middle] + b"inserted" + old[middle:]
    found = recut(old, sizes_of(old, 0), new, AVERAGE)
    assert found.ends[-1] - found.start_byte < 20 * AVERAGE
    assert found.common_prefix_bytes >= middle
