"""Notes of reads that stores still hold which no test closed."""

from __future__ import annotations

import gc
from contextlib import suppress

from baton.errors import BatonError
from baton.store.access import AccessNotes


def send_leftover_notes() -> None:
    """Send them while their server lives: the process would go on trying behind its end."""
    gc.collect()
    # By its type: `isinstance` asks proxies, such as Celery's, for what they stand for.
    for notes in [each for each in gc.get_objects() if type(each) is AccessNotes]:
        with suppress(BatonError):
            notes.flush()
