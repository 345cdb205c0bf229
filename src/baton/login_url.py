"""Puts a user, a password or a CA into a Redis URL, and tells whether it leaves this machine bare.

For the URLs of a server and of a cluster, in redis-py's spelling or in kombu's; others pass as they
are.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path

_URL: Final = re.compile(
    r"(?P<scheme>rediss?(?:\+cluster)?|unix|redis\+socket)://(?:[^/?#]*@)?(?P<rest>.*)", re.DOTALL
)
_PLAIN: Final = re.compile(r"redis(?:\+cluster)?://(?:[^/?#]*@)?(?P<hosts>[^/?#]*)")
_TLS: Final = ("rediss://", "rediss+cluster://")
_PORT: Final = re.compile(r":\d*$")


def with_login(url: str, user: str, password: str) -> str:
    """`url` with this login in place of its own."""
    found = _URL.fullmatch(url)
    if found is None:
        return url
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"{found['scheme']}://{login}@{found['rest']}"


def without_login(url: str) -> str:
    """`url` without user and password."""
    found = _URL.fullmatch(url)
    return url if found is None else f"{found['scheme']}://{found['rest']}"


def with_ca(url: str, ca_file: Path) -> str:
    """A TLS URL that trusts the authorities of `ca_file`, unless it names others itself."""
    if not url.startswith(_TLS) or "ssl_ca_certs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_ca_certs={quote(str(ca_file), safe='')}"


def bare_host(url: str) -> str | None:
    """The first host beyond this machine that `url` reaches without TLS, or None."""
    found = _PLAIN.match(url)
    if found is None:
        return None
    hosts = (_PORT.sub("", host).strip("[]") for host in found["hosts"].split(","))
    return next((host for host in hosts if host and not is_loopback(host)), None)


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
