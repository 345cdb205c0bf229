"""The way in for who may run without the SDK, or without a key."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

from baton.agents.summariser import Summariser
from baton.errors import RunnerError

if TYPE_CHECKING:
    from baton.agents.anthropic.options import AnthropicOptions
    from baton.agents.runner import Runner

_SDK = ("anthropic", "httpx2")


class ModelSummariser(Summariser, Protocol):
    """A summariser that holds connections."""

    def close(self) -> None:
        """Close them."""


def open_summariser(options: AnthropicOptions) -> ModelSummariser:
    """An `AnthropicSummariser`.

    Raises:
        RunnerError: the SDK is not installed.
    """
    summariser: ModelSummariser = _loaded("summarising").AnthropicSummariser(options)
    return summariser


def open_runner(options: AnthropicOptions, **services: Any) -> Runner:
    """An `AnthropicRunner`; `services` are its other arguments.

    Raises:
        RunnerError: the SDK is not installed.
        PriceNotFoundError: as `AnthropicRunner`.
    """
    runner: Runner = _loaded("runner").AnthropicRunner(options, **services)
    return runner


def _loaded(module: str) -> Any:
    try:
        # Half a second, and an extra: only who calls models pays for it.
        return importlib.import_module(f"baton.agents.anthropic.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _SDK:
            raise
        raise RunnerError(
            "Runner anthropic failed: the Anthropic SDK is not installed; "
            "install the extra: pip install 'baton[anthropic]'."
        ) from error
