"""Loads Lua scripts from package files and runs them by their SHA, whatever the server forgot."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from baton.binary_redis import BinaryPipeline, BinaryRedis

_INCLUDE: Final = "-- include: "


class Script:
    """One Lua file. `-- include: NAME.lua` lines are replaced by that file of the same folder.

    It may neither count its KEYS nor take them all: on a cluster it is given one more.
    """

    def __init__(self, package: str, name: str) -> None:
        self.name = name
        self.source = _read(package, name)
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(
        self,
        client: redis.Redis | BinaryRedis,
        keys: Sequence[str],
        args: Sequence[str | bytes | float],
    ) -> Any:
        """Run it. A server that lost its scripts (restart, SCRIPT FLUSH) is given the source."""
        try:
            return client.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return client.eval(self.source, len(keys), *keys, *args)

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


def _read(package: str, name: str) -> str:
    folder = resources.files(package) / "lua"
    lines = []
    for line in (folder / f"{name}.lua").read_text(encoding="utf-8").splitlines():
        if line.startswith(_INCLUDE):
            lines.append((folder / line.removeprefix(_INCLUDE).strip()).read_text(encoding="utf-8"))
        else:
            lines.append(line)
    return "\n".join(lines)
