"""Reads the URL of a Redis Cluster: `redis+cluster://user:password@host:port,host:port?options`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_SUFFIX = "+cluster"
_SCHEMES = ("redis" + _SUFFIX, "rediss" + _SUFFIX)
_DEFAULT_PORT = 6379


def names_cluster(url: str) -> bool:
    """Whether `url` is meant to be a cluster's."""
    return url.partition("://")[0].lower() in _SCHEMES


@dataclass(frozen=True, slots=True)
class ClusterUrl:
    """Some nodes of a cluster, and how to log in to any of them.

    `seeds`: (host, port), one at least.
    """

    seeds: tuple[tuple[str, int], ...]
    _parts: SplitResult
    _login: str

    @classmethod
    def of(cls, url: str) -> ClusterUrl:
        """The parts of `url`.

        Raises:
            ValueError: it is no cluster's URL, or names a database: a cluster has but one.
        """
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or parts.path.strip("/") not in {"", "0"}:
            raise ValueError("not the URL of a cluster")
        login, at, hosts = parts.netloc.rpartition("@")
        return cls(tuple(_address(host) for host in hosts.split(",")), parts, login + at)

    def node_url(self, host: str, port: int) -> str:
        """The URL of one node, in redis-py's spelling."""
        shown = f"[{host}]" if ":" in host else host
        return self._parts._replace(
            scheme=self._parts.scheme.removesuffix(_SUFFIX),
            netloc=f"{self._login}{shown}:{port}",
            path="",
        ).geturl()


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError("a node without a host")
    return parts.hostname, parts.port or _DEFAULT_PORT
