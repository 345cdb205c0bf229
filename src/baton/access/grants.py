"""What a right is: commands, on keys or channels that match patterns, to read, to write or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Use = Literal["both", "read", "write"]


@dataclass(frozen=True, slots=True)
class Grant:
    """`commands` on keys that match one of `keys`.

    `use` is what Redis 7 holds the commands to: `read` gives no command that changes a key, `write`
    none that tells what a key holds. Redis 6.2 cannot tell them apart, and gives each command for
    all keys of the user; `narrow` is a grant that would give too much there, and is left out.
    """

    commands: frozenset[str]
    keys: tuple[str, ...]
    use: Use = "both"
    narrow: bool = False


@dataclass(frozen=True, slots=True)
class User:
    """A Redis user: what it is for, and all that it may do beyond logging in.

    `keyless` are commands without a key; `channels` are patterns for publishing and subscribing.
    `everything` stands for all commands, keys and channels.
    """

    name: str
    purpose: str
    grants: tuple[Grant, ...] = ()
    keyless: frozenset[str] = frozenset()
    channels: tuple[str, ...] = ()
    everything: bool = False


def to_read(commands: str, *keys: str) -> Grant:
    """`commands`, separated by spaces, to read these keys."""
    return Grant(frozenset(commands.split()), keys, "read")


def to_write(commands: str, *keys: str) -> Grant:
    """`commands` to write these keys, whose values do not come back."""
    return Grant(frozenset(commands.split()), keys, "write")


def to_use(commands: str, *keys: str) -> Grant:
    """`commands` to read and write these keys."""
    return Grant(frozenset(commands.split()), keys)
