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
from baton.login_url import with_login
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
    url = _url(settings)
    if url is None:
        return False
    args = (url, settings)
    threading.Thread(target=_keep, args=args, name="script-loader", daemon=True).start()
    return True


def _url(settings: AppSettings) -> str | None:
    """The store's, as the user `scripts`."""
    if settings.redis_url is None:
        return None
    if settings.scripts_password is not None:
        password = settings.scripts_password.get_secret_value()
        return with_login(settings.redis_url.get_secret_value(), SCRIPTS, password)
    if settings.acl_dir is None and settings.redis_user is None:
        return None
    if not (users_folder(settings) / SCRIPTS).is_file():
        return None
    own = logged_in(settings, SCRIPTS)
    return None if own.redis_url is None else own.redis_url.get_secret_value()


def _keep(url: str, settings: AppSettings) -> None:
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
