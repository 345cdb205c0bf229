"""Who may log in to Flower: the password of a setting, of a file, or one made for this machine."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from baton.errors import InvalidInputError, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from config.settings import AppSettings

# What HTTP's basic authentication carries in every browser alike.
_PASSWORD: Final = re.compile(r"[!-~]{12,256}")
_EXPECTED: Final = "12 to 256 characters of printable ASCII without spaces"
_RANDOM_BYTES: Final = 18


@dataclass(frozen=True, slots=True)
class Login:
    """The one user of Flower. `made` is the file of a password that was made just now."""

    user: str
    password: str = field(repr=False)
    made: Path | None = None


def flower_folder(state_dir: Path) -> Path:
    """Where Flower's password and history are; of mode 0700."""
    return state_dir / "flower"


def find_login(settings: AppSettings) -> Login:
    """The configured login; on the loopback, where there is none, one that is made and kept.

    Raises:
        SettingsError: no password is configured and the address is another than the loopback's,
            or it is no password that HTTP could carry.
        InvalidInputError: the password's file is not there, is open to others, or holds none.
    """
    if settings.flower_password is not None:
        password = settings.flower_password.get_secret_value()
        if not _PASSWORD.fullmatch(password):
            raise SettingsError("BATON_FLOWER_PASSWORD", _EXPECTED, "<hidden>")
        return Login(settings.flower_user, password)
    if settings.flower_password_file is not None:
        return Login(settings.flower_user, _read(settings.flower_password_file.expanduser()))
    if not is_loopback(settings.flower_address):
        raise SettingsError(
            "BATON_FLOWER_PASSWORD", f"a password, as {settings.flower_address} is not the "
            "loopback", "<unset>"
        )  # fmt: skip
    return _kept(settings)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _kept(settings: AppSettings) -> Login:
    """The password of the state folder, made where there is none yet."""
    folder = flower_folder(settings.state_dir)
    path = folder / "password"
    with contextlib.suppress(FileNotFoundError):
        return Login(settings.flower_user, _opened(path))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = _make(path)
    return Login(settings.flower_user, _read(path), made=path if made else None)


def _make(path: Path) -> bool:
    """Write a new password to `path`, whole or not at all; False if another was faster."""
    draft = path.with_name(f".password-{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(f"{secrets.token_urlsafe(_RANDOM_BYTES)}\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _read(path: Path) -> str:
    try:
        return _opened(path)
    except OSError as error:
        raise InvalidInputError(_FIELD, "a file to read", f"{path}: {error.strerror}") from error


def _opened(path: Path) -> str:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            expected = "a file that only its owner may open (chmod 600)"
            raise InvalidInputError(_FIELD, expected, str(path))
        password = file.read(1_024).decode(errors="replace").strip()
    if not _PASSWORD.fullmatch(password):
        raise InvalidInputError(_FIELD, f"a file with {_EXPECTED}", str(path))
    return password


_FIELD: Final = "BATON_FLOWER_PASSWORD_FILE"
