"""Notes of reads that stores still hold which no test closed."""

from __future__ import annotations

import gc
from contextlib import suppress

from baton.errors import BatonError
from baton.store.access import AccessNotes


def send_leftover_notes() -> None:
    """Send them while their server lives: the process would go on trying behind its end."""
    gc.collect()
    for notes in [each for each in gc.get_objects() if isinstance(each, AccessNotes)]:
        with suppress(BatonError):
            notes.flush()
