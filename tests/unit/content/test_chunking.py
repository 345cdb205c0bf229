import random

import pyfastcdc.py
import pytest

from baton.content import chunking
from baton.content.chunking import (
    CHUNK_LIMIT_BYTES,
    average_chunk_bytes,
    character_start,
    cut_points,
)
from baton.errors import InvalidInputError

KIB = 1024
MIB = 1024 * KIB


@pytest.mark.parametrize(
    ("size_bytes", "average_bytes"),
    [
        (0, 8 * KIB),
        (MIB - 1, 8 * KIB),
        (MIB, 16 * KIB),
        (10_000_000, 128 * KIB),
        (16 * MIB, 256 * KIB),
        (1024 * MIB, 256 * KIB),
    ],
)
def test_average_is_a_64th_in_classes(size_bytes, average_bytes):
    """A power of two, rounded down, from 8 to 256 KiB."""
    assert average_chunk_bytes(size_bytes) == average_bytes


@pytest.mark.parametrize(
    ("size_bytes", "average_bytes"),
    [
        (MIB // 2, 32 * KIB),
        (MIB // 2 - 1, 8 * KIB),
        (8 * MIB, 32 * KIB),
        (8 * MIB + 1, 128 * KIB),
    ],
)
def test_average_is_kept_within_a_factor_of_four(size_bytes, average_bytes):
    """The class of the version before holds until a 64th has left its factor of four."""
    assert average_chunk_bytes(size_bytes, previous=32 * KIB) == average_bytes


@pytest.mark.parametrize("previous", [0, -1, 12_345, 4 * KIB, MIB])
def test_average_ignores_what_is_no_class(previous):
    """A manifest written by another rule does not bind this one."""
    assert average_chunk_bytes(MIB, previous=previous) == 16 * KIB


@pytest.mark.parametrize("average_bytes", [0, 255, 256 * KIB + 1])
def test_cut_points_refuse_an_average_out_of_bounds(average_bytes):
    """The bounds keep every chunk below the limit."""
    with pytest.raises(InvalidInputError, match="average_bytes"):
        cut_points(b"x", average_bytes)


def test_cut_points_are_the_written_ones():
    """The cuts are part of what is stored: if these move, stored contents share no chunks."""
    data = random.Random(2).randbytes(200_000)
    assert cut_points(data, 32 * KIB) == [58_543, 92_382, 126_656, 196_347, 200_000]


def test_cut_points_do_not_need_the_extension(monkeypatch):
    """pyfastcdc's pure Python cuts where its extension does."""
    data = ("строка 👍 " * 3 + random.Random(1).randbytes(60_000).hex()).encode()
    fast = cut_points(data, 8 * KIB)
    monkeypatch.setattr(chunking, "FastCDC", pyfastcdc.py.FastCDC)
    assert cut_points(data, 8 * KIB) == fast


@pytest.mark.parametrize("seed", [1, 2, (1 << 63) - 1])
def test_a_seed_gives_other_cuts(monkeypatch, seed):
    """The same again for the same seed, from the pure Python code too; few for two seeds."""
    data = random.Random(3).randbytes(200_000).hex().encode()
    ends = cut_points(data, 8 * KIB, seed)
    assert len(set(ends) & set(cut_points(data, 8 * KIB))) < len(ends) / 4
    monkeypatch.setattr(chunking, "FastCDC", pyfastcdc.py.FastCDC)
    assert cut_points(data, 8 * KIB, seed) == ends


@pytest.mark.parametrize("seed", [-1, 1 << 63])
def test_cut_points_refuse_a_seed_out_of_bounds(seed):
    """And do not show it: it follows from a key."""
    with pytest.raises(InvalidInputError, match=r"seed: expected 0 to 2\*\*63 - 1, got <hidden>"):
        cut_points(b"x", 8 * KIB, seed)


@pytest.mark.parametrize("unit", ["a", "é", "漢", "👍", "👍a"])
def test_cut_points_stay_below_the_limit_where_nothing_invites_a_cut(unit):
    """One endless run of a character is cut at the largest size, between characters."""
    data = unit.encode() * (3 * MIB // len(unit.encode()))
    ends = cut_points(data, 256 * KIB)
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert max(sizes) <= CHUNK_LIMIT_BYTES
    assert min(sizes) > 0
    assert all(character_start(data, end) == end for end in ends)


def test_cut_points_stand_any_bytes():
    """Continuation bytes without a character still give ascending cuts up to the end."""
    ends = cut_points(b"\x80" * 300_000, 8 * KIB)
    assert ends == sorted(set(ends))
    assert ends[-1] == 300_000
