"""The way in for who may run without the SDK, or without a key."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from baton.errors import RunnerError

if TYPE_CHECKING:
    from baton.agents.anthropic.options import AnthropicOptions
    from baton.agents.runner import Runner

_SDK = ("anthropic", "httpx2")


def open_runner(options: AnthropicOptions, **services: Any) -> Runner:
    """An `AnthropicRunner`; `services` are its other arguments.

    Raises:
        RunnerError: the SDK is not installed.
        PriceNotFoundError: as `AnthropicRunner`.
    """
    try:
        # Half a second, and an extra: only who calls models pays for it.
        module = importlib.import_module("baton.agents.anthropic.runner")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _SDK:
            raise
        raise RunnerError(
            "Runner anthropic failed: the Anthropic SDK is not installed; "
            "install the extra: pip install 'baton[anthropic]'."
        ) from error
    runner: Runner = module.AnthropicRunner(options, **services)
    return runner
