"""The client's settings: what an environment means."""

from __future__ import annotations

from pathlib import Path

import pytest

from baton.errors import SettingsError
from baton.settings import ClientSettings, load_settings


@pytest.mark.parametrize("name", ["REDIS_URL", "BROKER_URL", "STATE_DIR", "LEASE_SECONDS"])
def test_empty_variable_counts_as_unset(monkeypatch, name):
    """A compose file writes `BATON_REDIS_URL=` for a value that nobody gave."""
    monkeypatch.delenv(f"BATON_{name}", raising=False)
    unset = load_settings(ClientSettings)
    monkeypatch.setenv(f"BATON_{name}", "")
    assert load_settings(ClientSettings) == unset


def test_state_dir_expands_the_home_folder(monkeypatch, tmp_path):
    """As a shell would, where the value came from a file instead."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BATON_STATE_DIR", "~/baton")
    assert load_settings(ClientSettings).state_dir == tmp_path / "baton"
    monkeypatch.setenv("BATON_STATE_DIR", "here/~")
    assert load_settings(ClientSettings).state_dir == Path("here/~")


def test_state_dir_of_an_unknown_user_is_refused(monkeypatch):
    """With the variable's name, instead of a folder called `~nobody-of-that-name`."""
    monkeypatch.setenv("BATON_STATE_DIR", "~nobody-of-that-name/baton")
    with pytest.raises(SettingsError, match=r"^BATON_STATE_DIR: "):
        load_settings(ClientSettings)


def test_wrong_value_of_a_secret_is_not_shown(monkeypatch):
    """Only the name of its variable is."""
    with pytest.raises(SettingsError, match=r"^BATON_REDIS_URL: .*<hidden>"):
        load_settings(ClientSettings, redis_url=["hunter2"])
