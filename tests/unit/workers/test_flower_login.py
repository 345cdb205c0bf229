"""Flower's password: a setting, a file, or one made for this machine."""

from __future__ import annotations

import socket

import pytest

from baton.errors import InvalidInputError, SettingsError
from config.settings import AppSettings
from workers.flower_login import find_login
from workers.flower_plan import plan_flower


def settings(tmp_path, **given) -> AppSettings:
    return AppSettings(state_dir=tmp_path / "state", **given)


def test_login_prefers_the_setting(tmp_path):
    """Nothing is written where a password is configured, and none is shown in a repr."""
    login = find_login(settings(tmp_path, flower_password="correct-horse"))  # noqa: S106
    assert (login.user, login.password, login.made) == ("baton", "correct-horse", None)
    assert not (tmp_path / "state").exists()
    assert "correct-horse" not in repr(login)


def test_login_reads_a_private_file(tmp_path):
    """A file of the owner alone is read; one that others may open is refused by name."""
    path = tmp_path / "password"
    path.write_text("correct-horse\n")
    path.chmod(0o600)
    assert find_login(settings(tmp_path, flower_password_file=path)).password == "correct-horse"  # noqa: S105
    path.chmod(0o640)
    with pytest.raises(InvalidInputError, match="chmod 600"):
        find_login(settings(tmp_path, flower_password_file=path))
    with pytest.raises(InvalidInputError, match="BATON_FLOWER_PASSWORD_FILE"):
        find_login(settings(tmp_path, flower_password_file=tmp_path / "none"))


def test_login_makes_a_password_once(tmp_path):
    """The first call makes it and says so; later ones find it."""
    first, second = find_login(settings(tmp_path)), find_login(settings(tmp_path))
    assert first.made == tmp_path / "state" / "flower" / "password"
    assert second.made is None
    assert first.password == second.password
    assert first.made.stat().st_mode & 0o777 == 0o600
    assert len(list(first.made.parent.iterdir())) == 1


@pytest.mark.parametrize("password", ["with spaces in it", "ümlaute-überall"])
def test_login_refuses_what_http_cannot_carry(tmp_path, password):
    """Named, not shown."""
    with pytest.raises(SettingsError, match="BATON_FLOWER_PASSWORD") as refused:
        find_login(settings(tmp_path, flower_password=password))
    assert password not in str(refused.value)


def test_login_is_not_made_for_others_to_use(tmp_path):
    """Beyond the loopback a password has to be configured."""
    with pytest.raises(SettingsError, match="BATON_FLOWER_PASSWORD"):
        find_login(settings(tmp_path, flower_address="0.0.0.0"))  # noqa: S104


def test_plan_gives_way_to_a_taken_port_unless_flower_is_on(tmp_path):
    """`auto` says why there is no Flower; `on` is an error; `off` looks at nothing."""
    said = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert plan_flower(settings(tmp_path, flower_port=port), said.append) is None
        with pytest.raises(SettingsError, match="BATON_FLOWER_PORT"):
            plan_flower(settings(tmp_path, flower="on", flower_port=port), said.append)
        assert plan_flower(settings(tmp_path, flower="off", flower_port=port), said.append) is None
    assert len(said) == 1
    assert str(port) in said[0]
