"""Decides whether the launcher starts Flower, where, and what it tells of that."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from baton.errors import SettingsError
from workers.flower_login import Login, find_login, is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.settings import AppSettings

# No other process of the stack has them.
PASSWORD_VARIABLES: Final = ("BATON_FLOWER_PASSWORD", "BATON_FLOWER_PASSWORD_FILE")


@dataclass(frozen=True, slots=True)
class FlowerPlan:
    """A Flower to start. `required`: without it the stack does not count as started."""

    url: str
    login: Login
    required: bool
    environment: dict[str, str] = field(repr=False)

    def announcement(self) -> str:
        """Where it is; with the password if that was made just now, which is the only time."""
        line = f"Flower: {self.url} (user {self.login.user})"
        if self.login.made is None:
            return line
        return f"{line}, password {self.login.password}, kept in {self.login.made}"


def plan_flower(settings: AppSettings, say: Callable[[str], None]) -> FlowerPlan | None:
    """The Flower that `settings` ask for; None without one. Says why, where one might expect it.

    Raises:
        SettingsError: `flower` is `on`, and it is not installed, or its port is taken; or its
            password is refused.
        InvalidInputError: its password's file is refused.
    """
    if settings.flower == "off" or not _installed(settings):
        return None
    if not _is_free(settings, say):
        return None
    if not is_loopback(settings.flower_address):
        say(f"WARNING: Flower listens on {settings.flower_address} without TLS; use a proxy.")
    login = find_login(settings)
    host = settings.flower_address
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.flower_port}"
    return FlowerPlan(url, login, settings.flower == "on", _environment(settings))


def _installed(settings: AppSettings) -> bool:
    if find_spec("flower") is not None:
        return True
    if settings.flower == "on":
        raise SettingsError("BATON_FLOWER", "`auto` or `off`, as flower is not installed", "on")
    return False


def _is_free(settings: AppSettings, say: Callable[[str], None]) -> bool:
    """Whether its port can be had. Another may still be faster; then its supervisor tries again."""
    address, port = settings.flower_address, settings.flower_port
    try:
        with socket.create_server(
            (address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET
        ):
            return True
    except OSError as error:
        if settings.flower == "on":
            raise SettingsError("BATON_FLOWER_PORT", "a free port", f"{port}: {error}") from error
        say(f"Flower is not started: {address}:{port} ({error.strerror}); set BATON_FLOWER_PORT.")
        return False


def _environment(settings: AppSettings) -> dict[str, str]:
    """Of the variables that only Flower gets, those that are set."""
    given = {}
    if settings.flower_password is not None:
        given["BATON_FLOWER_PASSWORD"] = settings.flower_password.get_secret_value()
    if settings.flower_password_file is not None:
        path = settings.flower_password_file.expanduser().resolve()
        given["BATON_FLOWER_PASSWORD_FILE"] = str(path)
    return given
