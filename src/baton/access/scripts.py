"""The scripts that users run by their SHA: Baton's own, and those of Celery, kombu and redis-py.

No user but `admin` may send a script's source, so somebody has to load them: `baton acl apply`,
and from then on whoever has the user `scripts`, which may do nothing else.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from redis.lock import Lock

from baton.dispatch import celery_scripts
from baton.scripts import include_names, read_script

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

_ROOT: Final = "baton"
_CALL: Final = re.compile(r"redis\.p?call\(\s*'([A-Za-z]+)'")


@cache
def script_sources() -> dict[str, str]:
    """SHA -> source of every script that a process of Baton may run."""
    sources = [source for package in script_packages() for source in _sources(package)]
    sources += [*celery_scripts(), *_lock_scripts()]
    return {_sha(source): source for source in sources}


@cache
def script_packages() -> tuple[str, ...]:
    """The library's packages that have scripts, e.g. `baton.store`."""
    folders = (folder for folder in resources.files(_ROOT).iterdir() if folder.is_dir())
    return tuple(sorted(f"{_ROOT}.{each.name}" for each in folders if (each / "lua").is_dir()))


@cache
def script_commands(package: str) -> frozenset[str]:
    """The commands, in lower case, that the scripts of a package call."""
    return commands_of("\n".join(_sources(package)))


def commands_of(source: str) -> frozenset[str]:
    """The commands, in lower case, that a script's source calls."""
    return frozenset(name.lower() for name in _CALL.findall(source))


def load_missing(client: redis.Redis) -> int:
    """Load what the server does not have; how many. Needs `SCRIPT EXISTS` and `SCRIPT LOAD`.

    Raises:
        redis.RedisError: the server did not answer, or refused.
    """
    sources = script_sources()
    known: Any = client.script_exists(*sources)
    missing = [source for source, there in zip(sources.values(), known, strict=True) if not there]
    for source in missing:
        client.script_load(source)
    return len(missing)


def _sources(package: str) -> Iterator[str]:
    folder = resources.files(package) / "lua"
    names = {each.name.removesuffix(".lua") for each in folder.iterdir()}
    names = {name for name in names if not name.startswith("_")}
    for name in sorted(names - include_names(package)):
        yield read_script(package, name)


def _lock_scripts() -> tuple[str, ...]:
    """Those of the lock that kombu takes while it restores messages."""
    return (Lock.LUA_RELEASE_SCRIPT, Lock.LUA_EXTEND_SCRIPT, Lock.LUA_REACQUIRE_SCRIPT)


def _sha(source: str) -> str:
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
