"""Loads Lua scripts from package files and runs them by their SHA, whatever the server forgot."""

from __future__ import annotations

import hashlib
import time
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import BusyLoadingError, NoPermissionError, NoScriptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from baton.binary_redis import BinaryPipeline, BinaryRedis

_INCLUDE: Final = "-- include: "
_POLL_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 10.0


class ScriptsNotLoadedError(BusyLoadingError):
    """The server lost its scripts, and this user may only run them: another loads them again."""


class Script:
    """One Lua file. `-- include: NAME.lua` lines are replaced by that file of the same folder.

    It may neither count its KEYS nor take them all: on a cluster it is given one more.
    """

    def __init__(self, package: str, name: str) -> None:
        self.name = name
        self.source = read_script(package, name)
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(
        self,
        client: redis.Redis | BinaryRedis,
        keys: Sequence[str],
        args: Sequence[str | bytes | float],
    ) -> Any:
        """Run it. A server that lost its scripts (restart, SCRIPT FLUSH) is given the source.

        A user that may not send sources waits for whoever may: 10 s at most.

        Raises:
            ScriptsNotLoadedError: nobody did.
        """
        try:
            return client.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return self._anew(client, keys, args)

    def _anew(
        self,
        client: redis.Redis | BinaryRedis,
        keys: Sequence[str],
        args: Sequence[str | bytes | float],
    ) -> Any:
        try:
            return client.eval(self.source, len(keys), *keys, *args)
        except NoPermissionError as refused:
            if "'eval'" not in str(refused):
                raise  # what the script did, not that it was sent
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < give_up_at:
            time.sleep(_POLL_SECONDS)
            try:
                return client.evalsha(self.sha, len(keys), *keys, *args)
            except NoScriptError:
                continue
        raise ScriptsNotLoadedError(
            f"the server has no script {self.name!r}, and this user may load none: `baton acl "
            "apply` does, and beat where it has the user `scripts`"
        )

    def queue(
        self,
        pipeline: BinaryPipeline,
        keys: Sequence[str],
        args: Sequence[str | bytes | float],
    ) -> None:
        """Queue it on a pipeline. The caller runs the script again where the answer is NOSCRIPT."""
        pipeline.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)

    def after(
        self,
        pipeline: BinaryPipeline,
        client: BinaryRedis,
        keys: Sequence[str],
        args: Sequence[str | bytes | float],
    ) -> Any:
        """Run what is queued on `pipeline` and then the script, in one round trip; its answer.

        Raises:
            RedisError: the first queued command that failed, or the script.
        """
        self.queue(pipeline, keys, args)
        *queued, answer = pipeline.execute(raise_on_error=False)
        for failed in (each for each in queued if isinstance(each, Exception)):
            raise failed
        if isinstance(answer, NoScriptError):
            answer = self(client, keys, args)
        if isinstance(answer, Exception):
            raise answer
        return answer


def read_script(package: str, name: str) -> str:
    """The source of `lua/NAME.lua` of a package, with what it includes."""
    folder = resources.files(package) / "lua"
    lines = []
    for line in (folder / f"{name}.lua").read_text(encoding="utf-8").splitlines():
        if line.startswith(_INCLUDE):
            lines.append((folder / line.removeprefix(_INCLUDE).strip()).read_text(encoding="utf-8"))
        else:
            lines.append(line)
    return "\n".join(lines)


def include_names(package: str) -> frozenset[str]:
    """The Lua files of a package that others include; they are no scripts of their own."""
    files = [each for each in (resources.files(package) / "lua").iterdir() if each.is_file()]
    lines = (line for each in files for line in each.read_text(encoding="utf-8").splitlines())
    found = (line.removeprefix(_INCLUDE).strip() for line in lines if line.startswith(_INCLUDE))
    return frozenset(name.removesuffix(".lua") for name in found)
