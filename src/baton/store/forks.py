"""What a forked child makes anew: locks its parent's threads held, and work they had under way."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """An object with locks, or with work of other threads."""

    def renew_after_fork(self) -> None:
        """Replace every lock and drop what the parent does. Called in the child, on one thread."""


_objects: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_children(thing: Renewable) -> None:
    """Have `thing` renewed in every child forked while it lives; it is not kept alive."""
    _objects.add(thing)


def _renew_all() -> None:
    for thing in list(_objects):
        thing.renew_after_fork()


os.register_at_fork(after_in_child=_renew_all)
