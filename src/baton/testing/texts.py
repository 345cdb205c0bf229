"""Texts that cases write."""

from __future__ import annotations

from typing import Final

LINES: Final = "".join(f"line {number}\n" for number in range(40))


def edited(text: str, number: int, new: str) -> str:
    """`text`, made of `LINES`, with another line in the place of `line {number}`."""
    return text.replace(f"line {number}\n", f"{new}\n")


def long_text(size_bytes: int, seed: int = 1) -> str:
    """Text of one to four bytes a character, at least that long, that repeats nowhere."""
    lines: list[str] = []
    left = size_bytes
    while left > 0:
        number = len(lines)
        lines.append(f"{number} of {seed}: naïve 版本 🧭 {number * 7919 * seed % 1_000_003:06d}\n")
        left -= len(lines[-1].encode())
    return "".join(lines)
