"""The application's settings."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic_core import PydanticUndefined

from baton.errors import SettingsError
from baton.settings import load_settings
from config.settings import AppSettings


def test_app_settings_reads_runner_functions_as_json(monkeypatch):
    """BATON_RUNNER_FUNCTIONS is a JSON object of name -> module:function."""
    monkeypatch.setenv("BATON_RUNNER_FUNCTIONS", '{"count": "words:count"}')
    assert load_settings(AppSettings).runner_functions == {"count": "words:count"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATON_AGENTS_THREADS", "0"),
        ("BATON_VISIBILITY_TIMEOUT_SECONDS", "1"),
        ("BATON_LOG_LEVEL", "loud"),
        ("BATON_WARM_SHUTDOWN_SECONDS", "-1"),
    ],
)
def test_app_settings_name_the_variable_they_refuse(monkeypatch, name, value):
    """A wrong value fails with the variable's name."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings(AppSettings)


def test_app_settings_describe_every_field():
    """Each field has a description and a default: a stack starts with no variable set."""
    for name, field in AppSettings.model_fields.items():
        assert field.description, name
        assert field.default is not PydanticUndefined or field.default_factory, name


def test_app_settings_bound_every_number():
    """Each number has a least and a largest value."""
    for name, field in AppSettings.model_fields.items():
        if {int, float} & {field.annotation, *get_args(field.annotation)}:
            bounds = {type(bound).__name__ for bound in field.metadata}
            assert bounds & {"Ge", "Gt"}, name
            assert bounds & {"Le", "Lt"}, name


def test_app_settings_never_show_a_secret():
    """A URL with a password stands in no repr."""
    settings = load_settings(
        AppSettings, result_url="redis://:hush@localhost/1", anthropic_api_key="sk-ant-hush"
    )
    assert "hush" not in repr(settings)
