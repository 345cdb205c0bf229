"""Recording what is done, and may have cost, through an outage of Redis."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, TypeVar

from baton.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 300.0
PAUSE_SECONDS: Final = 1.0

_Recorded = TypeVar("_Recorded")


def through_outage(what: str, record: Callable[[], _Recorded]) -> _Recorded:
    """`record()`, tried again while Redis does not answer, for five minutes.

    Raises:
        TransientError: it did not answer for so long.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return record()
        except TransientError:
            if time.monotonic() > give_up_at:
                raise
            logger.warning("%s has ended; waiting for Redis to record it", what)
            time.sleep(PAUSE_SECONDS)
