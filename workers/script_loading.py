"""Keeps the scripts loaded in a Redis whose users may only run them; beat does it.

The user `scripts` may load and not run, all others run and not load. Redis forgets its scripts at
each restart, and whoever misses one waits for us: `baton.scripts`.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

from baton.access.scripts import load_missing
from baton.access.users import SCRIPTS
from baton.errors import BatonError
from baton.redis_client import connect, redis_errors
from baton.settings import logged_in, users_folder

if TYPE_CHECKING:
    import redis

    from config.settings import AppSettings

PERIOD_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


def keep_scripts(settings: AppSettings) -> bool:
    """Load what is missing, now and every second, from a thread; False where that is not for us.

    It is for whoever has the password of the user `scripts`.
    """
    if settings.redis_url is None or not _has_password(settings):
        return False
    own = logged_in(settings, SCRIPTS)
    threading.Thread(target=_keep, args=(own,), name="script-loader", daemon=True).start()
    return True


def _has_password(settings: AppSettings) -> bool:
    named = settings.acl_dir is not None or settings.redis_user is not None
    return named and (users_folder(settings) / SCRIPTS).is_file()


def _keep(settings: AppSettings) -> None:
    url = settings.redis_url.get_secret_value() if settings.redis_url is not None else ""
    with closing(connect(url, settings)) as client:
        while True:
            _load(client)
            time.sleep(PERIOD_SECONDS)


def _load(client: redis.Redis) -> None:
    try:
        with redis_errors(client):
            count = load_missing(client)
    except BatonError as error:
        _log.warning("scripts are not kept loaded: %s", error)
        return
    if count:
        _log.info("loaded %d scripts that Redis did not have", count)
