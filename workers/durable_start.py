"""Refuses to start on a Redis that may lose what it is given, unless that is wanted."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Final

from baton.durability import require_durable
from baton.errors import AccessDeniedError, BatonError, StoreUnavailableError, VolatileStoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.settings import AppSettings

FAILED: Final = 4
_WAIT_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 2.0

_log = logging.getLogger(__name__)


def check_durable(settings: AppSettings, say: Callable[[str], None]) -> None:
    """Refuse configured servers that may lose what they are given; tell of it if that is wanted.

    Where this user may not look, that is told: what cannot be seen keeps nobody from starting.

    Raises:
        VolatileStoreError: store or broker may, and `allow_volatile` is not set.
        StoreUnavailableError: one does not answer.
    """
    for configured in (settings.redis_url, settings.broker_url):
        if configured is None:
            continue
        try:
            require_durable(configured.get_secret_value(), settings)
        except AccessDeniedError as error:
            say(f"WARNING: whether Redis keeps what is stored could not be seen: {error}")
        except VolatileStoreError as error:
            if not settings.allow_volatile:
                raise
            say(f"WARNING: {error}")


def exit_if_volatile(settings: AppSettings) -> None:
    """For a worker or beat, whoever started it. A server that does not answer is waited for.

    Celery would wait for it too; and it logs what a signal's handler raises, and goes on: only an
    exit stops it.

    Raises:
        SystemExit: code 4; why stands on standard error.
    """
    seconds = min(_PATIENCE_SECONDS, settings.redis_timeout_seconds)
    impatient = settings.model_copy(update={"redis_timeout_seconds": seconds})
    while True:
        try:
            check_durable(impatient, _log.warning)
        except StoreUnavailableError as error:
            _log.warning("%s Trying again until it answers.", error)
            time.sleep(_WAIT_SECONDS)
        except BatonError as error:
            sys.stderr.write(f"error: {error}\n")
            raise SystemExit(FAILED) from error
        else:
            return
